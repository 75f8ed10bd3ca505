"""What stands beside the messages on one SQLite file: consumers, pauses, locks, and the events of history."""

import json
import sqlite3
import time
from typing import Any
from uuid import uuid4

from engine.broker.entries import beats_of, pauses_of
from engine.broker.heartbeats import Heartbeat
from engine.broker.sqlite.storage import SqliteStorage
from engine.broker.sqlite_results import VALUES
from engine.broker.storage import DROPPED_COUNTER

DESK = """
CREATE TABLE IF NOT EXISTS tick (
  queue TEXT NOT NULL, task TEXT NOT NULL, minute INTEGER NOT NULL, PRIMARY KEY (queue, task)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pause (
  queue TEXT NOT NULL, target TEXT NOT NULL, info TEXT NOT NULL, PRIMARY KEY (queue, target)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lock (
  queue TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL, consumer TEXT NOT NULL, worker TEXT NOT NULL,
  ends REAL, PRIMARY KEY (queue, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumer (
  queue TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, info TEXT NOT NULL, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS event_queue ON event (queue, seq);
"""


class SqliteDesk(SqliteStorage):
    schema = VALUES + DESK
    identity = ""

    # --- consumers, pauses, events ---------------------------------------------------------------------------

    def beat(self, consumer: str, info: dict[str, Any]) -> None:
        self.tell(
            "INSERT INTO consumer (queue, id, at, info) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET at = excluded.at, info = excluded.info",
            self.name, consumer, time.time(), json.dumps(info),
        )  # fmt: skip

    def forget(self, consumer: str) -> None:
        self.tell("DELETE FROM consumer WHERE queue = ? AND id = ?", self.name, consumer)

    def beats(self) -> list[Heartbeat]:
        rows = self.ask("SELECT id, at, info FROM consumer WHERE queue = ?", self.name)
        return beats_of(self.name, [(consumer, at, info) for consumer, at, info in rows])

    def pause(self, target: str, info: dict[str, Any]) -> None:
        self.tell("INSERT OR REPLACE INTO pause VALUES (?, ?, ?)", self.name, target, json.dumps(info))

    def resume(self, target: str) -> bool:
        return bool(self.tell("DELETE FROM pause WHERE queue = ? AND target = ?", self.name, target))

    def pauses(self) -> dict[str, dict[str, Any]]:
        rows = self.ask("SELECT target, info FROM pause WHERE queue = ?", self.name)
        return pauses_of(self.name, [(target, info) for target, info in rows])

    def append(self, connection: sqlite3.Connection, events: list[str]) -> None:
        connection.executemany("INSERT INTO event (queue, data) VALUES (?, ?)", [(self.name, one) for one in events])

    def stream(self) -> str:
        """The name of this stream of events, new for each file."""
        if not self.identity:
            self.tell("INSERT OR IGNORE INTO kv (queue, key, value) VALUES ('', 'stream', ?)", uuid4().hex)
            ((self.identity,),) = self.ask("SELECT value FROM kv WHERE queue = '' AND key = 'stream'")
        return f"{self.name}:{self.identity}"

    def events(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The next lines of history and their positions, as they are: whatever the bytes."""
        sql = "SELECT seq, CAST(data AS BLOB) FROM event WHERE queue = ? AND seq > ? ORDER BY seq LIMIT ?"
        return self.ask(sql, self.name, after, limit)

    def unread(self, after: int) -> int:
        """How many events have come since. Counted in the index: 200,000 take some milliseconds."""
        return int(self.ask("SELECT count(*) FROM event WHERE queue = ? AND seq > ?", self.name, after)[0][0])

    def trim(self, upto: int) -> None:
        """Remove the events that have been written down."""
        self.tell("DELETE FROM event WHERE queue = ? AND seq <= ?", self.name, upto)

    def bound(self, most: int) -> None:
        """Drop the oldest events beyond `most`, and count them, while they cannot be written down."""
        beyond = "SELECT seq FROM event WHERE queue = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2"
        dropped = self.tell(f"DELETE FROM event WHERE queue = ?1 AND seq <= ({beyond})", self.name, most)
        if dropped:
            self.incr(DROPPED_COUNTER, dropped)

    def wait_for_events(self, after: int, seconds: float) -> None:
        deadline, seen = time.monotonic() + seconds, self.version()
        while not self.events(after, 1):
            # What comes in together is written down together.
            if not self.wait_for_change(seen, deadline, pause=0.1):
                return
            seen = self.version()

    # --- locks -----------------------------------------------------------------------------------------------

    def lock(self, name: str, owner: str, consumer: str, worker: str, seconds: float | None, lease: float) -> bool:
        """Take a lock that dies with its consumer or worker, and after `seconds` where they are given."""
        now = time.time()
        with self.writing() as connection:
            taken = connection.execute(
                "INSERT INTO lock VALUES (:queue, :name, :owner, :consumer, :worker, :ends) ON CONFLICT DO UPDATE SET "
                "owner = :owner, consumer = :consumer, worker = :worker, ends = :ends WHERE lock.ends < :now "
                "OR (lock.consumer <> '' AND NOT EXISTS (SELECT 1 FROM consumer c "
                "    WHERE c.queue = :queue AND c.id = lock.consumer AND c.at > :now - :lease))",
                {"queue": self.name, "name": name, "owner": owner, "consumer": consumer, "worker": worker,
                 "ends": seconds and now + seconds, "now": now, "lease": lease},
            )  # fmt: skip
            connection.execute("UPDATE consumer SET at = ? WHERE queue = ? AND id = ?", (now, self.name, consumer))
            return bool(taken.rowcount)

    def unlock(self, name: str, owner: str = "") -> bool:
        """Let go of a lock; without an owner, whoever's it is."""
        sql = "DELETE FROM lock WHERE queue = ?1 AND name = ?2 AND (?3 = '' OR owner = ?3)"
        return bool(self.tell(sql, self.name, name, owner))

    def locks(self) -> dict[str, tuple[str, str, str]]:
        """Name → owner, consumer, worker."""
        rows = self.ask("SELECT name, owner, consumer, worker FROM lock WHERE queue = ?", self.name)
        return {name: (owner, consumer, worker) for name, owner, consumer, worker in rows}
