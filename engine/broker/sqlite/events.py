"""Events of the history in a SQLite file."""

import sqlite3
import time
from collections.abc import Iterable
from uuid import uuid4

from engine.broker.sqlite.database import SqliteFile
from engine.broker.sqlite.results import SqliteResults
from engine.broker.storage import DROPPED_COUNTER

SCHEMA = """
CREATE TABLE IF NOT EXISTS event (seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS event_queue ON event (queue, seq);
"""


class SqliteEvents:
    identity = ""

    def __init__(self, database: SqliteFile, results: SqliteResults) -> None:
        self.database, self.results, self.queue = database, results, database.queue

    def append(self, connection: sqlite3.Connection, events: Iterable[str]) -> None:
        self.append_lines(connection, [self.database.entries.sign_event(event).decode() for event in events])

    def append_lines(self, connection: sqlite3.Connection, lines: Iterable[str]) -> None:
        """Append lines that are signed already."""
        rows = [(self.queue, line) for line in lines]
        connection.executemany("INSERT INTO event (queue, data) VALUES (?, ?)", rows)

    def stream(self) -> str:
        if not self.identity:
            insert = "INSERT OR IGNORE INTO kv (queue, key, value) VALUES ('', 'stream', ?)"
            self.database.execute(insert, uuid4().hex)
            ((self.identity,),) = self.database.query("SELECT value FROM kv WHERE queue = '' AND key = 'stream'")
        return f"{self.queue}:{self.identity}"

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        sql = "SELECT seq, CAST(data AS BLOB) FROM event WHERE queue = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [(position, data) for position, data in self.database.query(sql, self.queue, after, limit)]

    def count(self, after: int) -> int:
        """Return the number of events after a position, from the index: 200,000 take some milliseconds."""
        sql = "SELECT count(*) FROM event WHERE queue = ? AND seq > ?"
        return int(self.database.query(sql, self.queue, after)[0][0])

    def last(self) -> int:
        return int(self.database.query("SELECT coalesce(max(seq), 0) FROM event WHERE queue = ?", self.queue)[0][0])

    def trim(self, upto: int) -> None:
        self.database.execute("DELETE FROM event WHERE queue = ? AND seq <= ?", self.queue, upto)

    def drop_oldest(self, limit: int) -> None:
        beyond = "SELECT seq FROM event WHERE queue = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2"
        sql = f"DELETE FROM event WHERE queue = ?1 AND seq <= ({beyond})"
        if dropped := self.database.execute(sql, self.queue, limit):
            self.results.increment(DROPPED_COUNTER, dropped)

    def wait(self, after: int, seconds: float) -> None:
        deadline, seen = time.monotonic() + seconds, self.database.version()
        while not self.read(after, 1):
            # A longer pause lets events that arrive together be written together.
            if not self.database.wait_for_change(seen, deadline, pause=0.1):
                return
            seen = self.database.version()
