"""Deliveries in a SQLite file: claimed, held, settled or released, with one transaction per step."""

import json
import sqlite3
import time
from collections.abc import Collection

from engine.broker.deliveries import Delivery, FinishedRun, HeldMessage, MissingTask, TurnResult
from engine.broker.parsing import parse_held
from engine.broker.sqlite.claims import SqliteClaims
from engine.broker.sqlite.database import SqliteFile
from engine.broker.sqlite.messages import SqliteMessages
from engine.exceptions import CancelRequested

HELD = """
SELECT task, max(attempt, 1), held_at, worker, met_at FROM message
WHERE queue = ? AND id = ? AND state = 'held' AND consumer = ? AND deliveries = ?
"""
#: Consumers that hold messages, with heartbeat and last claim older than a time. A claim counts as a heartbeat: a
#: consumer that claims after waking is not reaped before its parent sends one.
STALE_HOLDERS = """
SELECT consumer FROM message WHERE queue = ?1 AND state = 'held' AND NOT EXISTS
  (SELECT 1 FROM consumer c WHERE c.queue = ?1 AND c.id = message.consumer AND c.at > ?2)
GROUP BY consumer HAVING max(held_at) <= ?2
"""


class SqliteDeliveries:
    known_tasks: Collection[str] = ()

    def __init__(self, database: SqliteFile, messages: SqliteMessages, read_timeout: float) -> None:
        self.database, self.queue, self.messages = database, database.queue, messages
        self.entries = database.entries
        self.results, self.events, self.read_timeout = messages.results, messages.events, read_timeout
        self.claims = SqliteClaims(database, self.results, self.events)

    # --- claiming and settling ---------------------------------------------------------------------------------

    def settle_and_claim(
        self, consumer: str, worker: str, look_first: bool, limits: str, finished: FinishedRun | None = None
    ) -> TurnResult:
        claims, version = self.claims, self.database.version()
        self.database.thread.seen = version
        if not finished and not look_first and not self.has_work():
            return TurnResult(True, None)
        with self.database.write_transaction() as connection:
            settled = finished is None or self.acknowledge(connection, consumer, finished)
            claimed = claims.held_by(connection, consumer, worker) if look_first else None
            if claimed is None:
                rates = json.loads(limits or "{}")
                claimed = claims.claim_next(connection, consumer, worker, rates, self.known_tasks)
            return TurnResult(settled, claimed)

    def has_work(self) -> bool:
        if self.messages.count_waiting(1):
            return True
        return bool(self.claims.deferred(self.database.connection, self.known_tasks))

    def settle(self, consumer: str, finished: FinishedRun) -> bool:
        with self.database.write_transaction() as connection:
            return self.acknowledge(connection, consumer, finished)

    def acknowledge(self, connection: sqlite3.Connection, consumer: str, finished: FinishedRun) -> bool:
        claimed = finished.claimed
        rows = connection.execute(
            "UPDATE message SET state = 'done' "
            "WHERE queue = ? AND id = ? AND state = 'held' AND consumer = ? AND deliveries = ? RETURNING cancel",
            (self.queue, claimed.run_id, consumer, claimed.delivery),
        ).fetchall()
        if not rows:
            return False
        if (cancelled_by := rows[0][0]) is not None and not finished.is_cancel:
            raise CancelRequested(
                self.entries.canceller(claimed.run_id, cancelled_by)
            )  # the transaction is rolled back
        self.results.delete_revocation(connection, claimed.run_id)
        # A retry among the effects turns the row back into a message, with its count of deliveries.
        self.messages.write_effects(connection, finished.effects)
        self.messages.mark_finished(connection, claimed.run_id, "done")
        return True

    def wait_for_work(self) -> None:
        self.database.wait_for_change(self.database.thread.seen, time.monotonic() + self.read_timeout)

    # --- messages that cannot be run ---------------------------------------------------------------------------

    def dead_letter(self, consumer: str, claimed: Delivery, reason: str) -> None:
        with self.database.write_transaction() as connection:
            rows = connection.execute(
                "UPDATE message SET state = 'dead' WHERE queue = ? AND id = ? AND state = 'held' AND deliveries = ? "
                "RETURNING task, max(attempt, 1), held_at, worker, consumer",
                (self.queue, claimed.run_id, claimed.delivery),
            ).fetchall()
            for task, attempt, held_at, worker, holder in rows:
                held = HeldMessage(claimed.run_id, task, holder, worker, held_at, claimed.delivery, attempt)
                self.events.append(connection, [held.event("dead", time.time(), reason)])

    def defer(self, consumer: str, claimed: Delivery, missing: MissingTask, grace: float) -> str:
        run_id, now = claimed.run_id, time.time()
        with self.database.write_transaction() as connection:
            row = connection.execute(HELD, (self.queue, run_id, consumer, claimed.delivery)).fetchone()
            if row is None:
                return ""
            task, attempt, held_at, worker, met_at = row
            met_at = met_at or now
            state = "scheduled" if now < met_at + grace else "dead"
            if state == "scheduled":
                met = json.dumps([missing.task, missing.consumer, missing.consumer_id, missing.version])
                connection.execute(
                    "UPDATE message SET due = ?, missing = ?, met = ?, met_at = ?, consumer = NULL, worker = NULL "
                    "WHERE queue = ? AND id = ?",
                    (met_at + grace, missing.task, met, met_at, self.queue, run_id),
                )
            connection.execute("UPDATE message SET state = ? WHERE queue = ? AND id = ?", (state, self.queue, run_id))
            kind = "dead" if state == "dead" else "put_off"
            held = HeldMessage(run_id, task, consumer, worker, held_at, claimed.delivery, attempt)
            event = held.event(kind, now, missing.reason, version=missing.version, unknown=True)
            self.events.append(connection, [event])
            return state

    # --- releasing ---------------------------------------------------------------------------------------------

    def release(
        self,
        consumer: str,
        worker: str | None,
        reason: str,
        max_deliveries: int,
        counts: bool = True,
        only: HeldMessage | Delivery | None = None,
    ) -> int:
        with self.database.write_transaction() as connection:
            rows = connection.execute(
                "SELECT id, task, attempt, deliveries, deaths + ?, consumer, worker, held_at, cancel FROM message "
                "WHERE queue = ? AND state = 'held' AND consumer = ? AND coalesce(?, worker) = worker "
                "AND coalesce(?, id) = id AND coalesce(?, deliveries) = deliveries",
                (int(counts), self.queue, consumer, worker, only and only.run_id, only and only.delivery),
            ).fetchall()
            for run_id, task, attempt, delivery, deaths, holder, slot, held_at, cancelled_by in rows:
                dead = counts and deaths >= max_deliveries and cancelled_by is None
                connection.execute(
                    "UPDATE message SET state = ?, deaths = ?, consumer = NULL, worker = NULL, met_at = NULL "
                    "WHERE queue = ? AND id = ?",
                    ("dead" if dead else "waiting", deaths, self.queue, run_id),
                )
                held = HeldMessage(run_id, task, holder, slot, held_at, delivery, attempt or 1)
                event = held.event("returned", time.time(), reason, dead=dead, counts=counts)
                self.events.append(connection, [event])
                if cancelled_by is not None:
                    self.messages.mark_finished(connection, run_id, "waiting")
                    self.events.append_lines(connection, [cancelled_by])
            if not only:
                connection.execute(
                    "DELETE FROM lock WHERE queue = ? AND consumer = ? AND coalesce(?, worker) = worker",
                    (self.queue, consumer, worker),
                )
            return len(rows)

    def reap(self, lease: float, max_deliveries: int) -> list[str]:
        now = time.time()
        with self.database.write_transaction() as connection:
            if now < self.end_of_patience(connection, lease, now):
                return []
            holders = connection.execute(STALE_HOLDERS, (self.queue, now - lease)).fetchall()
        for (consumer,) in holders:
            self.release(consumer, None, "the consumer died", max_deliveries)
        return [consumer for (consumer,) in holders]

    def end_of_patience(self, connection: sqlite3.Connection, lease: float, now: float) -> float:
        """Return the time before which no consumer is reaped: half a lease after the first reap after an outage."""
        sql = "SELECT key, CAST(value AS REAL) FROM counter WHERE queue = ? AND key IN ('reaped', 'patience')"
        times = dict(connection.execute(sql, (self.queue,)).fetchall())
        self.results.write_counter(connection, "reaped", now)
        if now - times.get("reaped", 0) > lease:
            times["patience"] = now + lease / 2
            self.results.write_counter(connection, "patience", times["patience"])
        patience = float(times.get("patience", 0))
        return patience if patience <= now + lease else 0.0  # a later end is not ours

    # --- what is held ------------------------------------------------------------------------------------------

    def held(self) -> list[HeldMessage]:
        rows = self.database.query(
            "SELECT id, task, consumer, worker, held_at, deliveries, max(attempt, 1) FROM message "
            "WHERE queue = ? AND state = 'held'",
            self.queue,
        )
        return parse_held(self.queue, [(run_id, fields) for run_id, *fields in rows])

    def cancelled(self) -> dict[str, str]:
        sql = "SELECT id, cancel FROM message WHERE queue = ? AND state = 'held' AND cancel IS NOT NULL"
        rows = self.database.query(sql, self.queue)
        return {run_id: self.entries.canceller(run_id, line) for run_id, line in rows}
