"""Delivery on one SQLite file: take, hold, settle. The same promises as `redis_delivery`, one transaction a step.

A message is one row that changes its `state`: scheduled → waiting → held → gone, or dead. Nothing is deleted before
what follows from it is stored in the same transaction.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from engine.broker import sqlite_put_off
from engine.broker.deliveries import (
    AHEAD_LIMIT,
    Delivery,
    FinishedRun,
    HeldMessage,
    MessageLocation,
    MissingTask,
    TurnResult,
)
from engine.broker.effects import PRIORITY_SECONDS, Effects, NewMessage, event_json
from engine.broker.entries import held_of, ticks_of
from engine.broker.message_header import message_id, parse_header
from engine.broker.sqlite_consumers import DESK, SqliteDesk
from engine.broker.sqlite_results import VALUES
from engine.broker.storage import REVOKED_SECONDS
from engine.exceptions import CancelRequested

MESSAGES = """
CREATE TABLE IF NOT EXISTS message (
  queue TEXT NOT NULL, id TEXT NOT NULL, task TEXT NOT NULL, attempt INTEGER NOT NULL, data BLOB NOT NULL,
  state TEXT NOT NULL, score REAL NOT NULL, since REAL NOT NULL, due REAL, uniq TEXT, cancel TEXT,
  deliveries INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,
  consumer TEXT, worker TEXT, held_at REAL, missing TEXT, met TEXT, met_at REAL, PRIMARY KEY (queue, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS message_waiting ON message (queue, score) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS message_since ON message (queue, since) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS message_scheduled ON message (queue, due) WHERE state = 'scheduled';
CREATE INDEX IF NOT EXISTS message_dead ON message (queue, held_at, id) WHERE state = 'dead';
CREATE INDEX IF NOT EXISTS message_held ON message (queue, consumer, worker) WHERE state = 'held';
CREATE INDEX IF NOT EXISTS message_unique ON message (queue, uniq) WHERE uniq IS NOT NULL;
CREATE TABLE IF NOT EXISTS spent (
  queue TEXT NOT NULL, id TEXT NOT NULL, attempt INTEGER NOT NULL, expires REAL NOT NULL, PRIMARY KEY (queue, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS start (queue TEXT NOT NULL, task TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS start_task ON start (queue, task, at);
"""

#: A message that is no news, because its run is held or has had this attempt already, changes nothing.
STORE = """
INSERT INTO message (queue, id, task, attempt, data, state, score, since, due, uniq, deliveries)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET attempt = excluded.attempt, data = excluded.data, state = excluded.state,
  score = excluded.score, since = excluded.since, due = excluded.due, deaths = 0, consumer = NULL, worker = NULL,
  missing = NULL, met = NULL, met_at = NULL, cancel = NULL
WHERE message.state = 'done' OR (message.state <> 'held' AND excluded.attempt > message.attempt)
"""

WAITING = """
SELECT id, task, data, deliveries + 1, score, since FROM message WHERE queue = ?1 AND state = 'waiting'
  AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.queue = ?1 AND target IN ('', message.task)) ORDER BY score LIMIT 1
"""


class SqliteDelivery(SqliteDesk):
    """Where a queue's messages, results and events are kept."""

    schema = VALUES + DESK + MESSAGES + sqlite_put_off.INDEX
    added: Mapping[str, Sequence[str]] = {"message": sqlite_put_off.COLUMNS}
    blocking = True
    known: Collection[str] = ()  # the tasks that the code here has, dotted

    # --- delivery --------------------------------------------------------------------------------------------

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        self.apply(Effects().enqueue(message_id(data), data, priority))

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        self.apply(Effects().enqueue(message_id(data), data, None, ts))

    def apply(self, effects: Effects) -> list[str]:
        """Store these in one step. Returns the ids under which the runs of its messages go on."""
        with self.writing() as connection:
            return self.store(connection, effects)

    def post_series(self, messages: Iterable[tuple[str, bytes]], priority: float) -> None:
        """Store messages of runs that nobody has seen before."""
        effects = Effects()
        effects.messages = [NewMessage(run_id, data, priority, None, told=True) for run_id, data in messages]
        self.apply(effects)

    def store(self, connection: sqlite3.Connection, effects: Effects) -> list[str]:
        now = time.time()
        # A microsecond apart, so that what comes in together keeps its order.
        ids = [self.post(connection, posted, now + place / 1e6) for place, posted in enumerate(effects.messages)]
        for key, value in effects.results:
            self.put(connection, key, value, now + self.result_ttl)
        self.append(connection, effects.events)
        return ids

    def post(self, connection: sqlite3.Connection, posted: NewMessage, now: float) -> str:
        """Store a message; the id under which its run goes on: that of an earlier one where it is to be unique."""
        if posted.once and not self.put_new(connection, f"once:{posted.once}", now + 7 * 86400):
            return posted.run_id
        if posted.unique and (first := self.first_of(connection, posted)):
            return first
        head = parse_header(posted.data)
        task, attempt = (head.short_name, head.attempt) if head else ("?", 0)
        if head and self.is_spent(connection, head.run_id, attempt, now):
            return posted.run_id
        state = "waiting" if posted.due is None else "scheduled"
        since = posted.due or now
        row = (task, attempt, posted.data, state, since - PRIORITY_SECONDS * posted.priority, since, posted.due)
        stored = connection.execute(STORE, (self.name, posted.run_id, *row, posted.unique or None, posted.delivered))
        connection.execute(
            "UPDATE kv SET expires = NULL WHERE queue = ? AND key = ? AND expires >= ?",
            (self.name, f"r:{posted.run_id}", now),
        )
        if posted.told and stored.rowcount:
            self.append(connection, [posted.data.decode()])
        return posted.run_id

    def first_of(self, connection: sqlite3.Connection, posted: NewMessage) -> str | None:
        row = connection.execute(
            "SELECT id FROM message "
            "WHERE queue = ? AND uniq = ? AND state IN ('waiting', 'scheduled', 'held') AND id <> ?",
            (self.name, posted.unique, posted.run_id),
        ).fetchone()
        return row and str(row[0])

    def is_spent(self, connection: sqlite3.Connection, run_id: str, attempt: int, now: float) -> bool:
        sql = "SELECT 1 FROM spent WHERE queue = ? AND id = ? AND attempt >= ? AND expires >= ?"
        return bool(connection.execute(sql, (self.name, run_id, attempt, now)).fetchone())

    def turn(
        self, consumer: str, worker: str, look_first: bool, limits: str, done: FinishedRun | None = None
    ) -> TurnResult:
        """Settle the run before, if there is one, and take the next message, in one transaction.

        With `look_first`, what this worker holds already comes first. `limits`: JSON of task → [starts, seconds], or
        nothing. Raises CancelRequested.
        """
        self.local.seen = self.version()
        if not done and not look_first and not self.queue_size(1) and not self.known_ones(self.connection):
            return TurnResult(True, None)
        with self.writing() as connection:
            settled = done is None or self.let_go(connection, consumer, done)
            held = self.held_by(connection, consumer, worker) if look_first else None
            return TurnResult(settled, held or self.hand_out(connection, consumer, worker, json.loads(limits or "{}")))

    def held_by(self, connection: sqlite3.Connection, consumer: str, worker: str) -> Delivery | None:
        row = connection.execute(
            "SELECT id, deliveries, data FROM message "
            "WHERE queue = ? AND state = 'held' AND consumer = ? AND worker = ?",
            (self.name, consumer, worker),
        ).fetchone()
        return row and Delivery(row[0], row[1], bytes(row[2]), revoked=True)

    def hand_out(
        self, connection: sqlite3.Connection, consumer: str, worker: str, limits: dict[str, list[float]]
    ) -> Delivery | None:
        now = time.time()
        others = [
            row
            for row in self.known_ones(connection)
            if self.limited(connection, row[1], limits.get(row[1]), now) is None
        ]
        first = self.first_waiting(connection, limits)
        rows = [*others, first] if first else others
        if not rows:
            return None
        run_id, task, data, delivery, _score, _since = row = min(rows, key=itemgetter(4))
        if row is not first:
            sql = f"UPDATE message SET {sqlite_put_off.FORGET} WHERE queue = ? AND id = ?"
            connection.execute(sql, (self.name, run_id))
        connection.execute(
            "UPDATE message SET state = 'held', deliveries = ?, consumer = ?, worker = ?, held_at = ? "
            "WHERE queue = ? AND id = ?",
            (delivery, consumer, worker, now, self.name, run_id),
        )
        if task in limits:
            connection.execute("INSERT INTO start VALUES (?, ?, ?)", (self.name, task, now))
        return Delivery(run_id, delivery, bytes(data), self.may_be_revoked(connection, run_id, bytes(data)))

    def known_ones(self, connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
        """Of what others have put off, the first for each task that is known here."""
        return list(sqlite_put_off.first_of_each(connection, self.name, self.known)) if self.known else []

    def first_waiting(self, connection: sqlite3.Connection, limits: dict[str, list[float]]) -> tuple[Any, ...] | None:
        """The first that may start; what is limited before it is put off."""
        while row := connection.execute(WAITING, (self.name,)).fetchone():
            run_id, task, _data, _delivery, score, since = row
            now = time.time()
            again = self.limited(connection, task, limits.get(task), now)
            if again is None:
                return tuple(row)
            connection.execute(
                "UPDATE message SET state = 'scheduled', due = ?1, since = ?1, score = ?1 - ?2 "
                "WHERE queue = ?3 AND id = ?4",
                (again, since - score, self.name, run_id),
            )
            self.append(connection, [event_json("limited", run_id, now, due=again)])
        return None

    def limited(self, connection: sqlite3.Connection, task: str, limit: list[float] | None, now: float) -> float | None:
        """The time from which a task of a limited rate may start again; None when it may now."""
        if limit is None:
            return None
        starts, seconds = limit
        connection.execute(
            "DELETE FROM start WHERE queue = ? AND task = ? AND at <= ?", (self.name, task, now - seconds)
        )
        row = connection.execute(
            "SELECT at FROM start WHERE queue = ? AND task = ? ORDER BY at DESC LIMIT 1 OFFSET ?",
            (self.name, task, int(starts) - 1),
        ).fetchone()
        return row and float(row[0]) + seconds

    def may_be_revoked(self, connection: sqlite3.Connection, run_id: str, data: bytes) -> bool:
        head = parse_header(data)
        keys = (self.name, f"r:{run_id}", f"rt:{head.task if head else ''}")
        return bool(connection.execute("SELECT 1 FROM kv WHERE queue = ? AND key IN (?, ?)", keys).fetchone())

    def wait_for_work(self) -> None:
        """Return when another connection has changed the file since the last turn, or after the read timeout."""
        self.wait_for_change(self.local.seen, time.monotonic() + self.read_timeout)

    def settle(self, consumer: str, done: FinishedRun) -> bool:
        """Let go of what was taken and store what follows from it. False, and nothing stored, when it is not held.

        Raises CancelRequested.
        """
        with self.writing() as connection:
            return self.let_go(connection, consumer, done)

    def let_go(self, connection: sqlite3.Connection, consumer: str, done: FinishedRun) -> bool:
        taken, here = done.claimed, (self.name, done.claimed.run_id)
        held = connection.execute(
            "UPDATE message SET state = 'done' "
            "WHERE queue = ? AND id = ? AND state = 'held' AND consumer = ? AND deliveries = ? RETURNING cancel",
            (*here, consumer, taken.delivery),
        ).fetchall()
        if not held:
            return False
        if (cancelled_by := held[0][0]) is not None and not done.is_cancel:
            raise CancelRequested(cancelled_by)  # the transaction is rolled back
        self.restore(connection, taken.run_id)
        # A retry among the effects turns the row back into a message, with its count of deliveries.
        self.store(connection, done.effects)
        self.spend(connection, taken.run_id, "done")
        return True

    def spend(self, connection: sqlite3.Connection, run_id: str, state: str) -> None:
        """The run has ended, if its row is in this state: a message of this attempt that comes again is nothing new."""
        here = (self.name, run_id, state)
        connection.execute(
            "INSERT OR REPLACE INTO spent SELECT queue, id, attempt, ? FROM message "
            "WHERE queue = ? AND id = ? AND state = ?",
            (time.time() + self.result_ttl, *here),
        )
        connection.execute("DELETE FROM message WHERE queue = ? AND id = ? AND state = ?", here)

    def revoke(self, run_id: str, data: bytes) -> None:
        """Keep a revocation; it expires where there is no run that would take it along at its end."""
        expires = time.time() + max(self.result_ttl, REVOKED_SECONDS)
        with self.writing() as connection:
            sql = "SELECT 1 FROM message WHERE queue = ? AND id = ? AND state <> 'done'"
            is_known = connection.execute(sql, (self.name, run_id)).fetchone()
            self.put(connection, f"r:{run_id}", data, None if is_known else expires)

    def restore(self, connection: sqlite3.Connection, run_id: str) -> None:
        connection.execute("DELETE FROM kv WHERE queue = ? AND key = ?", (self.name, f"r:{run_id}"))

    def bury(self, consumer: str, taken: Delivery, reason: str) -> None:
        """Keep a message that cannot be run, with its reason, where it blocks nothing."""
        with self.writing() as connection:
            rows = connection.execute(
                "UPDATE message SET state = 'dead' WHERE queue = ? AND id = ? AND state = 'held' AND deliveries = ? "
                "RETURNING task, max(attempt, 1), held_at, worker, consumer",
                (self.name, taken.run_id, taken.delivery),
            ).fetchall()
            for task, attempt, held_at, worker, holder in rows:
                told = {"task": task, "attempt": attempt, "started": held_at, "worker": worker, "consumer": holder}
                event = event_json("dead", taken.run_id, time.time(), **told, delivery=taken.delivery, error=reason)
                self.append(connection, [event])

    def put_off(self, consumer: str, taken: Delivery, why: MissingTask, grace: float) -> str:
        """Let go of a message that names a task which is not known here. `scheduled`, or `dead` when the grace is over;
        empty when it is not held any more. A consumer that knows the task takes it from the schedule.
        """
        with self.writing() as connection:
            done = sqlite_put_off.put_off(connection, self.name, consumer, taken, why, grace)
            if done is None:
                return ""
            state, event = done
            self.append(connection, [event])
            return state

    def put_off_for(self, run_id: str) -> MissingTask | None:
        """What a message is put off for; None where it is not."""
        sql = (
            "SELECT met, met_at, due FROM message WHERE queue = ? AND id = ? AND state = 'scheduled' AND missing <> ''"
        )
        rows = self.ask(sql, self.name, run_id)
        return next(
            (MissingTask(*json.loads(met))._replace(met_at=met_at, until=due) for met, met_at, due in rows), None
        )

    def give_back(
        self,
        consumer: str,
        worker: str | None,
        reason: str,
        max_deliveries: int,
        counts: bool = True,
        only: HeldMessage | Delivery | None = None,
    ) -> int:
        """Return what a worker (None: all of the consumer's) held to where it stood in the queue.

        A delivery `counts` when the worker died of it; one too many makes the message dead. With `only`, this delivery
        alone is returned, and the worker keeps its locks.
        """
        with self.writing() as connection:
            rows = connection.execute(
                "SELECT id, task, attempt, deliveries, deaths + ?, consumer, worker, held_at, cancel FROM message "
                "WHERE queue = ? AND state = 'held' AND consumer = ? AND coalesce(?, worker) = worker "
                "AND coalesce(?, id) = id AND coalesce(?, deliveries) = deliveries",
                (int(counts), self.name, consumer, worker, only and only.run_id, only and only.delivery),
            ).fetchall()
            for run_id, task, attempt, delivery, deaths, holder, slot, held_at, cancelled_by in rows:
                dead = counts and deaths >= max_deliveries and cancelled_by is None
                connection.execute(
                    "UPDATE message SET state = ?, deaths = ?, consumer = NULL, worker = NULL, met_at = NULL "
                    "WHERE queue = ? AND id = ?",
                    ("dead" if dead else "waiting", deaths, self.name, run_id),
                )
                event = event_json("returned", run_id, time.time(), task=task, delivery=delivery, attempt=attempt or 1,
                                   started=held_at, worker=slot, consumer=holder, error=reason, dead=dead,
                                   counts=counts)  # fmt: skip
                self.append(connection, [event])
                if cancelled_by is not None:
                    self.spend(connection, run_id, "waiting")
                    self.append(connection, [event_json("cancelled", run_id, time.time(), by=cancelled_by)])
            if not only:
                connection.execute(
                    "DELETE FROM lock WHERE queue = ? AND consumer = ? AND coalesce(?, worker) = worker",
                    (self.name, consumer, worker),
                )
            return len(rows)

    def reap(self, lease: float, max_deliveries: int) -> list[str]:
        """Give back what consumers hold that have been silent for a lease. Returns their ids.

        After an outage every beat is old: unless somebody has reaped within a lease, all wait until everyone has beaten
        again.
        """
        now = time.time()
        with self.writing() as connection:
            sql = "SELECT key, value FROM counter WHERE queue = ? AND key IN ('reaped', 'patience')"
            known = dict(connection.execute(sql, (self.name,)).fetchall())
            self.put_counter(connection, "reaped", now)
            if now - known.get("reaped", 0) > lease:
                known["patience"] = now + lease / 2
                self.put_counter(connection, "patience", known["patience"])
            if now < known.get("patience", 0):
                return []
            # Taking is a sign of life: what a consumer takes on waking is not reaped before its parent speaks.
            holders = connection.execute(
                "SELECT consumer FROM message WHERE queue = ?1 AND state = 'held' AND NOT EXISTS "
                "(SELECT 1 FROM consumer c WHERE c.queue = ?1 AND c.id = message.consumer AND c.at > ?2) "
                "GROUP BY consumer HAVING max(held_at) <= ?2",
                (self.name, now - lease),
            ).fetchall()
        for (consumer,) in holders:
            self.give_back(consumer, None, "the consumer died", max_deliveries)
        return [consumer for (consumer,) in holders]

    def move_due(self, now: float, limit: int = 500) -> int:
        """Schedule → queue, in one step. Returns how many moved."""
        with self.writing() as connection:
            rows = connection.execute(
                "UPDATE message SET state = 'waiting', missing = NULL WHERE queue = ?1 AND id IN "
                "(SELECT id FROM message WHERE queue = ?1 AND state = 'scheduled' AND due <= ?2 "
                "ORDER BY due LIMIT ?3) RETURNING id",
                (self.name, now, limit),
            ).fetchall()
            self.append(connection, [event_json("due", run_id, now) for (run_id,) in rows])
            return len(rows)

    def tick(self, task: str, minute: int, effects: Effects) -> bool:
        """Let the tick of this minute in, once: store its effects unless this minute or a later one was recorded."""
        with self.writing() as connection:
            told = connection.execute(
                "INSERT INTO tick (queue, task, minute) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET minute = excluded.minute "
                "WHERE excluded.minute > minute OR typeof(minute) <> 'integer'",
                (self.name, task, minute),
            )
            if told.rowcount:
                self.store(connection, effects)
            return bool(told.rowcount)

    def last_ticks(self) -> dict[str, int]:
        rows = self.ask("SELECT task, minute FROM tick WHERE queue = ?", self.name)
        return ticks_of(self.name, [(task, minute) for task, minute in rows])

    # --- commands --------------------------------------------------------------------------------------------

    def cancel(self, run_id: str, by: str) -> str:
        """`removed` what waits or is scheduled, or `running`: marked for its consumer to interrupt; or `unknown`."""
        with self.writing() as connection:
            here = (self.name, run_id)
            row = connection.execute("SELECT state FROM message WHERE queue = ? AND id = ?", here).fetchone()
            if row and row[0] == "held":
                connection.execute("UPDATE message SET cancel = ? WHERE queue = ? AND id = ?", (by, *here))
                return "running"
            if not row or row[0] not in ("waiting", "scheduled"):
                return "unknown"
            self.spend(connection, run_id, row[0])
            self.restore(connection, run_id)
            self.append(connection, [event_json("cancelled", run_id, time.time(), by=by)])
            return "removed"

    def reopen(self, run_id: str) -> None:
        """Forget how a run ended: its result, and that its attempts are spent."""
        with self.writing() as connection:
            connection.execute("DELETE FROM kv WHERE queue = ? AND key = ?", (self.name, run_id))
            connection.execute("DELETE FROM spent WHERE queue = ? AND id = ?", (self.name, run_id))

    def report_lost(self, ids: Sequence[str]) -> int:
        """Report in the history those of these runs of which nothing is here. Returns how many."""
        marks, now = ", ".join("?" * len(ids)), time.time()
        sql = f"SELECT id FROM message WHERE queue = ? AND state <> 'done' AND id IN ({marks})"
        if not set(ids).difference(run_id for (run_id,) in self.ask(sql, self.name, *ids)):
            return 0
        with self.writing() as connection:
            here = {run_id for (run_id,) in connection.execute(sql, (self.name, *ids))}
            lost = [run_id for run_id in ids if run_id not in here]
            self.append(connection, [event_json("lost", run_id, now) for run_id in lost])
        return len(lost)

    def cancelling(self) -> dict[str, str]:
        """The running runs that are to be cancelled, and by whom."""
        sql = "SELECT id, cancel FROM message WHERE queue = ? AND state = 'held' AND cancel IS NOT NULL"
        return dict(self.ask(sql, self.name))

    def purge(self, by: str, limit: int = 1000) -> int:
        """Cancel the first `limit` that wait. Returns how many did."""
        with self.writing() as connection:
            sql = "SELECT id FROM message WHERE queue = ? AND state = 'waiting' ORDER BY score LIMIT ?"
            ids = [run_id for (run_id,) in connection.execute(sql, (self.name, limit)).fetchall()]
            for run_id in ids:
                self.spend(connection, run_id, "waiting")
                self.restore(connection, run_id)
            self.append(connection, [event_json("cancelled", run_id, time.time(), by=by) for run_id in ids])
            return len(ids)

    def dead(self, limit: int = 1000) -> list[tuple[str, bytes]]:
        """The messages that were given up."""
        rows = self.ask("SELECT id, data FROM message WHERE queue = ? AND state = 'dead' LIMIT ?", self.name, limit)
        return [(run_id, bytes(data)) for run_id, data in rows]

    def dead_ids(self, limit: int, before: tuple[float, str] | None = None) -> list[tuple[str, float]]:
        """The runs that were given up and when (Unix seconds), newest first, after the place `before` in this order."""
        at, run_id = before or (float("inf"), "")
        return self.ask(
            "SELECT id, held_at FROM message WHERE queue = ? AND state = 'dead' AND (held_at, id) < (?, ?) "
            "ORDER BY held_at DESC, id DESC LIMIT ?",
            self.name, at, run_id, limit,
        )  # fmt: skip

    def dead_size(self) -> int:
        return int(self.ask("SELECT count(*) FROM message WHERE queue = ? AND state = 'dead'", self.name)[0][0])

    def requeue_dead(self, run_id: str) -> bool:
        now = time.time()
        with self.writing() as connection:
            back = connection.execute(
                "UPDATE message SET state = 'waiting', deaths = 0, score = ?1, since = ?1, cancel = NULL, "
                "met_at = NULL WHERE queue = ?2 AND id = ?3 AND state = 'dead'",
                (now, self.name, run_id),
            )
            if back.rowcount:
                self.append(connection, [event_json("requeued", run_id, now)])
            return bool(back.rowcount)

    def discard_dead(self, run_id: str) -> bool:
        with self.writing() as connection:
            sql = "DELETE FROM message WHERE queue = ? AND id = ? AND state = 'dead'"
            is_gone = bool(connection.execute(sql, (self.name, run_id)).rowcount)
            if is_gone:
                self.restore(connection, run_id)
            return is_gone

    def held(self) -> list[HeldMessage]:
        rows = self.ask(
            "SELECT id, task, consumer, worker, held_at, deliveries, max(attempt, 1) FROM message "
            "WHERE queue = ? AND state = 'held'",
            self.name,
        )
        return held_of(self.name, [(run_id, words) for run_id, *words in rows])

    def message(self, run_id: str) -> bytes | None:
        rows = self.ask("SELECT data FROM message WHERE queue = ? AND id = ?", self.name, run_id)
        return bytes(rows[0][0]) if rows else None

    def place(self, run_id: str) -> MessageLocation | None:
        """Where its message is; None where there is none."""
        row = self.ask("SELECT state, score FROM message WHERE queue = ? AND id = ?", self.name, run_id)
        if not row or row[0][0] == "done":
            return None
        state, score = row[0]
        if state != "waiting":
            return MessageLocation(state)
        sql = "SELECT count(*) FROM (SELECT 1 FROM message WHERE queue = ? AND state = 'waiting' AND score < ? LIMIT ?)"
        return MessageLocation(state, int(self.ask(sql, self.name, score, AHEAD_LIMIT + 1)[0][0]))

    def remove_expired(self) -> int:
        self.tell("DELETE FROM spent WHERE queue = ? AND expires < ?", self.name, time.time())
        # Older versions left revocations that do not expire, of runs that have ended.
        left = self.tell(
            "DELETE FROM kv WHERE queue = ? AND key >= 'r:' AND key < 'r;' AND expires IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM message WHERE message.queue = kv.queue AND message.id = substr(kv.key, 3))",
            self.name,
        )
        return left + super().remove_expired()

    # --- what Huey asks of a storage -------------------------------------------------------------------------

    def queue_size(self, most: int = -1) -> int:
        """How many wait; counted no further than `most`."""
        sql = "SELECT count(*) FROM (SELECT 1 FROM message WHERE queue = ? AND state = 'waiting' LIMIT ?)"
        return int(self.ask(sql, self.name, most)[0][0])

    def oldest_waiting(self) -> float | None:
        """Unix time at which the oldest waiting message came in, or fell due."""
        return self.ask("SELECT min(since) FROM message WHERE queue = ? AND state = 'waiting'", self.name)[0][0]

    def enqueued_items(self, limit: int | None = None) -> list[bytes]:
        return self.items("waiting", "score", limit)

    def scheduled_items(self, limit: int | None = None) -> list[bytes]:
        return self.items("scheduled", "due", limit)

    def items(self, state: str, order: str, limit: int | None) -> list[bytes]:
        sql = f"SELECT data FROM message WHERE queue = ? AND state = ? ORDER BY {order} LIMIT ?"
        return [bytes(data) for (data,) in self.ask(sql, self.name, state, -1 if limit is None else limit)]

    def schedule_size(self) -> int:
        return int(self.ask("SELECT count(*) FROM message WHERE queue = ? AND state = 'scheduled'", self.name)[0][0])

    def flush_queue(self) -> None:
        self.tell("DELETE FROM message WHERE queue = ? AND state = 'waiting'", self.name)

    def flush_schedule(self) -> None:
        self.tell("DELETE FROM message WHERE queue = ? AND state = 'scheduled'", self.name)
