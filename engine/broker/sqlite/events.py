"""Events of the history in a SQLite file."""

import sqlite3
import time
from collections.abc import Iterable
from uuid import uuid4

from engine.broker.parsing import is_stream_name
from engine.broker.sqlite.database import SqliteFile
from engine.broker.sqlite.results import SqliteResults
from engine.broker.storage import DROPPED_COUNTER

SCHEMA = """
CREATE TABLE IF NOT EXISTS event (seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS event_queue ON event (queue, seq);
"""

IDENTITY = "SELECT CAST(value AS TEXT) FROM kv WHERE queue = '' AND key = 'stream'"
IDENTIFY = "INSERT INTO kv (queue, key, value) VALUES ('', 'stream', ?)"
REPLACE = " ON CONFLICT DO UPDATE SET value = excluded.value"
LAST_POSITION = """
SELECT max((SELECT coalesce(max(seq), 0) FROM event),
           coalesce((SELECT max(CAST(seq AS INTEGER)) FROM sqlite_sequence WHERE name = 'event'), 0))
"""
#: No stream of ours comes near this position, half of the largest one.
MAX_POSITION = 1 << 62
RENUMBER = (
    "CREATE TEMP TABLE moved AS SELECT queue, data FROM event ORDER BY seq",
    "DELETE FROM event",
    "DELETE FROM sqlite_sequence WHERE name = 'event'",
    "INSERT INTO event (queue, data) SELECT queue, data FROM moved ORDER BY rowid",
    "DROP TABLE moved",
)


class SqliteEvents:
    def __init__(self, database: SqliteFile, results: SqliteResults) -> None:
        self.database, self.results, self.queue = database, results, database.queue

    def append(self, connection: sqlite3.Connection, events: Iterable[str]) -> None:
        self.append_lines(connection, [self.database.entries.sign_event(event).decode() for event in events])

    def append_lines(self, connection: sqlite3.Connection, lines: Iterable[str]) -> None:
        """Append lines that are signed already."""
        rows = [(self.queue, line) for line in lines]
        connection.executemany("INSERT INTO event (queue, data) VALUES (?, ?)", rows)

    def stream(self) -> str:
        rows = self.database.query(IDENTITY)
        if not rows or not is_stream_name(rows[0][0]):
            self.database.execute(IDENTIFY + (REPLACE if rows else " ON CONFLICT DO NOTHING"), uuid4().hex)
            rows = self.database.query(IDENTITY)
        return f"{self.queue}:{rows[0][0]}"

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

    def renew(self, stream: str, after: int) -> bool:
        """The queues of a file share the positions. So each of them gets the new stream."""
        with self.database.write_transaction() as connection:
            ((last,),) = connection.execute(LAST_POSITION).fetchall()
            is_renewed = connection.execute(IDENTITY).fetchone() != (stream.partition(":")[2],)
            if after <= last < MAX_POSITION or is_renewed:
                return False
            for statement in RENUMBER:
                connection.execute(statement)
            connection.execute(IDENTIFY + REPLACE, (uuid4().hex,))
        self.results.delete_counter(DROPPED_COUNTER)
        return True

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
