"""Delivery on one SQLite file: take, hold, settle. The same promises as `redis_delivery`, one transaction a step.

A message is one row that changes its `state`: scheduled → waiting → held → gone, or dead. Nothing is deleted before
what follows from it is stored in the same transaction.
"""

import json
import sqlite3
import time
from datetime import datetime
from typing import Any
from uuid import uuid4

from engine.delivery import DROPPED, PRIORITY_SECONDS, Beat, Effects, Held, Taken, event_json, header
from engine.sqlite_values import VALUES, SqliteValues

MESSAGES = """
CREATE TABLE IF NOT EXISTS message (
  queue TEXT NOT NULL, id TEXT NOT NULL, task TEXT NOT NULL, attempt INTEGER NOT NULL, data BLOB NOT NULL,
  state TEXT NOT NULL, score REAL NOT NULL, since REAL NOT NULL, due REAL,
  deliveries INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,
  consumer TEXT, worker TEXT, held_at REAL, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS message_waiting ON message (queue, score) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS message_since ON message (queue, since) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS message_scheduled ON message (queue, due) WHERE state = 'scheduled';
CREATE INDEX IF NOT EXISTS message_held ON message (queue, consumer, worker) WHERE state = 'held';
CREATE TABLE IF NOT EXISTS tick (
  queue TEXT NOT NULL, task TEXT NOT NULL, minute INTEGER NOT NULL, PRIMARY KEY (queue, task)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pause (
  queue TEXT NOT NULL, target TEXT NOT NULL, info TEXT NOT NULL, PRIMARY KEY (queue, target)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumer (
  queue TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, info TEXT NOT NULL,
  processed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS event_queue ON event (queue, seq);
"""

#: A run that is held stays as it is: a second message of its id changes nothing.
STORE = """
INSERT INTO message (queue, id, task, attempt, data, state, score, since, due) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET attempt = excluded.attempt, data = excluded.data, state = excluded.state,
  score = excluded.score, since = excluded.since, due = excluded.due, deaths = 0, consumer = NULL, worker = NULL
WHERE message.state <> 'held'
"""


class SqliteDelivery(SqliteValues):
    """Where a queue's messages, results and events are kept."""

    schema = VALUES + MESSAGES
    blocking = True

    # --- delivery --------------------------------------------------------------------------------------------

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        self.apply(Effects().enqueue(str(uuid4()), data, priority))

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        self.apply(Effects().schedule(str(uuid4()), data, None, ts))

    def apply(self, effects: Effects) -> None:
        with self.writing() as connection:
            self.store(connection, effects)

    def store(self, connection: sqlite3.Connection, effects: Effects) -> None:
        now = time.time()
        for run_id, data, priority, due in effects.messages:
            task, attempt = header(data)
            state = "waiting" if due is None else "scheduled"
            since = due or now
            score = since - PRIORITY_SECONDS * (priority or 0)
            connection.execute(STORE, (self.name, run_id, task, attempt, data, state, score, since, due))
        for key, value in effects.results:
            self.put(connection, key, value, now + self.result_ttl)
        self.append(connection, effects.events)

    def take(self, consumer: str, worker: str, look_first: bool) -> Taken | None:
        """The next message, now held by `worker`. With `look_first`, what it holds already comes first."""
        self.local.seen = self.ask("PRAGMA data_version")
        if not look_first and not self.ask(
            "SELECT 1 FROM message WHERE queue = ? AND state = 'waiting' LIMIT 1", self.name
        ):
            return None
        with self.writing() as connection:
            if look_first and (held := self.held_by(connection, consumer, worker)):
                return held
            row = connection.execute(
                "SELECT id, task, attempt, data, deliveries + 1 FROM message WHERE queue = :q AND state = 'waiting' "
                "AND NOT EXISTS (SELECT 1 FROM pause WHERE queue = :q AND target IN ('', message.task)) "
                "ORDER BY score LIMIT 1",
                {"q": self.name},
            ).fetchone()
            if row is None:
                return None
            run_id, task, attempt, data, delivery = row
            now = time.time()
            connection.execute(
                "UPDATE message SET state = 'held', deliveries = ?, consumer = ?, worker = ?, held_at = ? "
                "WHERE queue = ? AND id = ?",
                (delivery, consumer, worker, now, self.name, run_id),
            )
            self.append(connection, [event_json("started", run_id, now, task=task, delivery=delivery, attempt=attempt,
                                                consumer=consumer, worker=worker)])  # fmt: skip
            return Taken(run_id, delivery, bytes(data))

    def held_by(self, connection: sqlite3.Connection, consumer: str, worker: str) -> Taken | None:
        row = connection.execute(
            "SELECT id, deliveries, data FROM message "
            "WHERE queue = ? AND state = 'held' AND consumer = ? AND worker = ?",
            (self.name, consumer, worker),
        ).fetchone()
        return row and Taken(row[0], row[1], bytes(row[2]))

    def wait_for_work(self) -> None:
        """Return when another connection has changed the file since the last take, or after the read timeout."""
        deadline = time.monotonic() + self.read_timeout
        while time.monotonic() < deadline and self.ask("PRAGMA data_version") == self.local.seen:
            time.sleep(self.POLL_SECONDS)

    def settle(self, consumer: str, taken: Taken, effects: Effects, failed: bool) -> bool:
        """Let go of what was taken and store what follows from it. False, and nothing stored, when it is not held."""
        with self.writing() as connection:
            done = connection.execute(
                "UPDATE message SET state = 'done' "
                "WHERE queue = ? AND id = ? AND state = 'held' AND consumer = ? AND deliveries = ?",
                (self.name, taken.run_id, consumer, taken.delivery),
            )
            if not done.rowcount:
                return False
            connection.execute(
                "UPDATE consumer SET processed = processed + 1, failed = failed + ? WHERE queue = ? AND id = ?",
                (int(failed), self.name, consumer),
            )
            # A retry among the effects turns the row back into a message, with its count of deliveries.
            self.store(connection, effects)
            connection.execute(
                "DELETE FROM message WHERE queue = ? AND id = ? AND state = 'done'", (self.name, taken.run_id)
            )
            return True

    def bury(self, consumer: str, taken: Taken, reason: str) -> None:
        """Keep a message that cannot be run, with its reason, where it blocks nothing."""
        with self.writing() as connection:
            connection.execute(
                "UPDATE message SET state = 'dead' WHERE queue = ? AND id = ? AND state = 'held' AND deliveries = ?",
                (self.name, taken.run_id, taken.delivery),
            )
            event = event_json("dead", taken.run_id, time.time(), delivery=taken.delivery, error=reason)
            self.append(connection, [event])

    def give_back(
        self, consumer: str, worker: str | None, reason: str, max_deliveries: int, counts: bool = True
    ) -> int:
        """Return what a worker (None: all of the consumer's) held to where it stood in the queue.

        A delivery `counts` when the worker died of it; one too many makes the message dead.
        """
        with self.writing() as connection:
            rows = connection.execute(
                "SELECT id, task, deliveries, deaths + ?, worker FROM message "
                "WHERE queue = ? AND state = 'held' AND consumer = ? AND coalesce(?, worker) = worker",
                (int(counts), self.name, consumer, worker),
            ).fetchall()
            for run_id, task, delivery, deaths, holder in rows:
                dead = counts and deaths >= max_deliveries
                connection.execute(
                    "UPDATE message SET state = ?, deaths = ?, consumer = NULL, worker = NULL "
                    "WHERE queue = ? AND id = ?",
                    ("dead" if dead else "waiting", deaths, self.name, run_id),
                )
                event = event_json("returned", run_id, time.time(), task=task, delivery=delivery, worker=holder,
                                   error=reason, dead=dead, counts=counts)  # fmt: skip
                self.append(connection, [event])
            return len(rows)

    def reap(self, lease: float, max_deliveries: int) -> list[str]:
        """Give back what consumers hold that have been silent for a lease. Returns their ids.

        After an outage of the broker every beat is old: unless somebody has reaped within a lease, wait a round.
        """
        now = time.time()
        with self.writing() as connection:
            last = connection.execute(
                "SELECT value FROM counter WHERE queue = ? AND key = 'reaped'", (self.name,)
            ).fetchone()
            self.put_counter(connection, "reaped", int(now))
            if last is None or now - last[0] > lease:
                return []
            holders = connection.execute(
                "SELECT DISTINCT consumer FROM message WHERE queue = ?1 AND state = 'held' AND NOT EXISTS "
                "(SELECT 1 FROM consumer c WHERE c.queue = ?1 AND c.id = message.consumer AND c.at > ?2)",
                (self.name, now - lease),
            ).fetchall()
        for (consumer,) in holders:
            self.give_back(consumer, None, "the consumer died", max_deliveries)
        return [consumer for (consumer,) in holders]

    def move_due(self, now: float, limit: int = 500) -> int:
        """Schedule → queue, in one step. Returns how many moved."""
        with self.writing() as connection:
            rows = connection.execute(
                "UPDATE message SET state = 'waiting' WHERE queue = ?1 AND id IN (SELECT id FROM message "
                "WHERE queue = ?1 AND state = 'scheduled' AND due <= ?2 ORDER BY due LIMIT ?3) RETURNING id",
                (self.name, now, limit),
            ).fetchall()
            self.append(connection, [event_json("due", run_id, now) for (run_id,) in rows])
            return len(rows)

    def tick(self, task: str, minute: int, effects: Effects) -> bool:
        """Let the tick of this minute in, once: store its effects unless this minute or a later one was recorded."""
        with self.writing() as connection:
            told = connection.execute(
                "INSERT INTO tick (queue, task, minute) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET minute = excluded.minute WHERE excluded.minute > minute",
                (self.name, task, minute),
            )
            if told.rowcount:
                self.store(connection, effects)
            return bool(told.rowcount)

    def last_ticks(self) -> dict[str, int]:
        return dict(self.ask("SELECT task, minute FROM tick WHERE queue = ?", self.name))

    # --- consumers, pauses, events ---------------------------------------------------------------------------

    def beat(self, consumer: str, info: dict[str, Any]) -> None:
        self.tell(
            "INSERT INTO consumer (queue, id, at, info) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET at = excluded.at, info = excluded.info",
            self.name, consumer, time.time(), json.dumps(info),
        )  # fmt: skip

    def forget(self, consumer: str) -> None:
        self.tell("DELETE FROM consumer WHERE queue = ? AND id = ?", self.name, consumer)

    def beats(self) -> list[Beat]:
        rows = self.ask("SELECT id, at, info, processed, failed FROM consumer WHERE queue = ?", self.name)
        return [Beat(row[0], row[1], json.loads(row[2]), row[3], row[4]) for row in rows]

    def held(self) -> list[Held]:
        rows = self.ask(
            "SELECT id, task, consumer, worker, held_at, deliveries FROM message WHERE queue = ? AND state = 'held'",
            self.name,
        )
        return [Held(*row) for row in rows]

    def message(self, run_id: str) -> bytes | None:
        rows = self.ask("SELECT data FROM message WHERE queue = ? AND id = ?", self.name, run_id)
        return bytes(rows[0][0]) if rows else None

    def pause(self, target: str, info: dict[str, Any]) -> None:
        self.tell("INSERT OR REPLACE INTO pause VALUES (?, ?, ?)", self.name, target, json.dumps(info))

    def resume(self, target: str) -> bool:
        return bool(self.tell("DELETE FROM pause WHERE queue = ? AND target = ?", self.name, target))

    def pauses(self) -> dict[str, dict[str, Any]]:
        rows = self.ask("SELECT target, info FROM pause WHERE queue = ?", self.name)
        return {target: json.loads(info) for target, info in rows}

    def append(self, connection: sqlite3.Connection, events: list[str]) -> None:
        connection.executemany("INSERT INTO event (queue, data) VALUES (?, ?)", [(self.name, one) for one in events])

    def stream(self) -> str:
        """The name of this stream of events, new for each file."""
        self.tell("INSERT OR IGNORE INTO kv (queue, key, value) VALUES ('', 'stream', ?)", uuid4().hex)
        ((identity,),) = self.ask("SELECT value FROM kv WHERE queue = '' AND key = 'stream'")
        return f"{self.name}:{identity}"

    def events(self, after: int, limit: int) -> list[tuple[int, str]]:
        return self.ask(
            "SELECT seq, data FROM event WHERE queue = ? AND seq > ? ORDER BY seq LIMIT ?", self.name, after, limit
        )

    def trim(self, upto: int) -> None:
        """Remove the events that have been written down."""
        self.tell("DELETE FROM event WHERE queue = ? AND seq <= ?", self.name, upto)

    def bound(self, most: int) -> None:
        """Drop the oldest events beyond `most`, and count them, while they cannot be written down."""
        beyond = "SELECT seq FROM event WHERE queue = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2"
        dropped = self.tell(f"DELETE FROM event WHERE queue = ?1 AND seq <= ({beyond})", self.name, most)
        if dropped:
            self.incr(DROPPED, dropped)

    def wait_for_events(self, after: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.events(after, 1):
            time.sleep(0.1)

    # --- what Huey asks of a storage -------------------------------------------------------------------------

    def queue_size(self) -> int:
        return int(self.ask("SELECT count(*) FROM message WHERE queue = ? AND state = 'waiting'", self.name)[0][0])

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
