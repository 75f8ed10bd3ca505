"""Values on one SQLite file: results that expire, revocations, locks, counters; and the file itself.

WAL, one connection a thread, and `BEGIN IMMEDIATE` for every write.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from os import getpid
from pathlib import Path
from typing import Any
from zlib import crc32

from huey.constants import EmptyData
from huey.storage import BaseStorage

from engine.broker.entries import text
from engine.broker.inotify import InotifyWatch
from engine.exceptions import BrokerAway
from engine.outages import first_line, lacks_table, outage_of

VALUES = """
CREATE TABLE IF NOT EXISTS kv (
  queue TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, expires REAL, PRIMARY KEY (queue, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kv_expires ON kv (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS counter (
  queue TEXT NOT NULL, key TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (queue, key)) WITHOUT ROWID;
"""


class SqliteValues(BaseStorage):
    """The part of a storage that keeps values under keys. `schema`: the tables that the file needs."""

    schema = VALUES
    #: Columns that a file of an older version lacks, by table. They stand in the schema too.
    added: Mapping[str, Sequence[str]] = {}
    POLL_SECONDS = 0.025
    #: A commit is seen some time after the writing that announces it: the disk stands between the two.
    COMMIT_SECONDS = 0.25

    def __init__(self, name: str, path: Path, result_ttl: int, read_timeout: float = 1.0) -> None:
        super().__init__(name)
        self.path, self.result_ttl, self.read_timeout = path, result_ttl, read_timeout
        self.local = threading.local()
        self.left_behind: list[sqlite3.Connection] = []

    # --- the file --------------------------------------------------------------------------------------------

    @property
    def connection(self) -> sqlite3.Connection:
        """One per thread, opened on first use."""
        local = self.local
        if getattr(local, "pid", None) != getpid():
            if getattr(local, "open", None):
                # A connection must not be used, nor even closed, on the other side of a fork.
                self.left_behind.append(local.open)
            local.open, local.watch, local.refused = self.connect(), None, False
            local.pid = getpid()
        elif local.refused:
            # One that was opened while the file was read-only remains so for ever.
            local.open.close()
            local.open, local.watch, local.refused = self.connect(), None, False
        return local.open

    def connect(self, lock_seconds: float = 30) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=lock_seconds, isolation_level=None, check_same_thread=False)
        connection.text_factory = text  # else one text that is not UTF-8 makes its whole table unreadable
        connection.execute("PRAGMA journal_mode = wal")
        # A message that was accepted survives the machine as well as the process.
        connection.execute("PRAGMA synchronous = full")
        version = crc32(self.schema.encode()) >> 1  # SQLite keeps a signed number
        if connection.execute("PRAGMA user_version").fetchone() != (version,):
            self.add_columns(connection)
            connection.executescript(f"BEGIN IMMEDIATE; {self.schema} PRAGMA user_version = {version}; COMMIT;")
        return connection

    def add_columns(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for table, columns in self.added.items():
            there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for column in columns:
                if there and column.split()[0] not in there:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
        connection.execute("COMMIT")

    def probe_write(self, seconds: float) -> None:
        """Overwrite a row, waiting no longer than this for a lock. Raises BrokerAway."""
        try:
            with closing(self.connect(seconds)) as connection:
                self.put(connection, "probe", b"1", time.time() + 60)
        except (sqlite3.Error, OSError) as error:
            if away := self.refusal(error):
                raise away from error
            raise

    def warnings(self) -> list[str]:
        """Nothing endangers a file of our own."""
        return []

    def close(self) -> bool:
        if getattr(self.local, "pid", None) != getpid():
            return False
        self.local.open.close()
        self.local.open = self.local.pid = self.local.watch = None
        return True

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        with self.reading() as connection:
            self.drop_unfinished()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def drop_unfinished(self) -> None:
        """End what somebody who was interrupted could not even end."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self.connection
        except BrokerAway:
            raise
        except (sqlite3.Error, OSError) as error:
            if away := self.refusal(error):
                raise away from error
            raise

    def refusal(self, error: sqlite3.Error | OSError) -> BrokerAway | None:
        """The error to raise for a file that is unavailable; None where the statement is at fault."""
        if isinstance(error, OSError):
            reason = error.strerror
        elif outage := outage_of(error):
            reason = outage.reason
        elif lacks_table(error):  # another file has taken its place; on a new connection it gets its tables
            reason = first_line(error)
        else:
            return None
        self.local.refused = True
        return BrokerAway(f"{self.path}: {error}", reason)

    def version(self) -> int:
        """Another number once another connection has changed the file. Asked many times a second, so at no cost."""
        try:
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            if away := self.refusal(error):
                raise away from error
            raise

    def wait_for_change(self, seen: int, deadline: float, pause: float = 0.001) -> bool:
        """Whether the file has changed since its `version` was `seen`; waits for that until the (monotonic) deadline.

        `pause`: how long after word of a change the version is looked at. Without such word, as always before.
        """
        watch, now, wait = self.watch(), time.monotonic(), pause
        expecting = now if watch else deadline
        while self.version() == seen and (now := time.monotonic()) < deadline:
            if watch and now >= expecting:
                if watch.wait(deadline - now):
                    expecting, wait = time.monotonic() + self.COMMIT_SECONDS, pause
            else:
                time.sleep(max(min(wait, deadline - now), 0))
                wait = min(wait * 2, max(pause, self.POLL_SECONDS))
        return self.version() != seen

    def watch(self) -> InotifyWatch | None:
        """On what every commit writes first. Made anew on this side of a fork; None where there is none to be had."""
        with self.reading() as connection:
            if self.local.watch is None:
                connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # opens that file
                try:
                    self.local.watch = InotifyWatch(self.path.with_name(f"{self.path.name}-wal"))
                except OSError:
                    self.local.watch = False
        return self.local.watch or None

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.reading() as connection:
            return connection.execute(sql, values).fetchall()

    def tell(self, sql: str, *values: Any) -> int:
        with self.writing() as connection:
            return connection.execute(sql, values).rowcount

    # --- values -----------------------------------------------------------------------------------------------------

    def put_data(self, key: str, value: bytes, is_result: bool = False) -> None:
        with self.writing() as connection:
            self.put(connection, key, value, time.time() + self.result_ttl if is_result else None)

    def put(self, connection: sqlite3.Connection, key: str, value: bytes, expires: float | None) -> None:
        connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", (self.name, key, value, expires))

    def peek_data(self, key: str) -> Any:
        sql = "SELECT value FROM kv WHERE queue = ? AND key = ? AND (expires IS NULL OR expires >= ?)"
        rows = self.ask(sql, self.name, key, time.time())
        return rows[0][0] if rows else EmptyData

    #: A result stays for its whole life, however often it is read.
    pop_data = peek_data

    def has_data_for_key(self, key: str) -> bool:
        return self.peek_data(key) is not EmptyData

    def delete_data(self, key: str) -> bool:
        return bool(self.tell("DELETE FROM kv WHERE queue = ? AND key = ?", self.name, key))

    def put_if_empty(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        now = time.time()
        with self.writing() as connection:
            connection.execute("DELETE FROM kv WHERE queue = ? AND key = ? AND expires < ?", (self.name, key, now))
            put = connection.execute(
                "INSERT INTO kv VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (self.name, key, value, None if ttl is None else now + ttl),
            )
            return bool(put.rowcount)

    def put_new(self, connection: sqlite3.Connection, key: str, expires: float) -> bool:
        sql = "INSERT INTO kv VALUES (?, ?, '1', ?) ON CONFLICT DO NOTHING"
        return bool(connection.execute(sql, (self.name, key, expires)).rowcount)

    def remove_expired(self) -> int:
        return self.tell("DELETE FROM kv WHERE queue = ? AND expires < ?", self.name, time.time())

    def wait_result(
        self, key: str, timeout: float | None = None, backoff: float = 1.15, max_delay: float = 1.0
    ) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.has_data_for_key(key):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(self.POLL_SECONDS)
        return True

    def incr(self, key: str, amount: int = 1) -> int:
        with self.writing() as connection:
            row = connection.execute(
                "SELECT value FROM counter WHERE queue = ? AND key = ?", (self.name, key)
            ).fetchone()
            value = (row[0] if row else 0) + amount
            self.put_counter(connection, key, value)
            return value

    def put_counter(self, connection: sqlite3.Connection, key: str, value: float) -> None:
        connection.execute("INSERT OR REPLACE INTO counter VALUES (?, ?, ?)", (self.name, key, value))

    def delete_counter(self, key: str) -> None:
        self.tell("DELETE FROM counter WHERE queue = ? AND key = ?", self.name, key)

    def result_store_size(self) -> int:
        return len(self.result_items())

    def result_items(self) -> dict[str, bytes]:
        sql = "SELECT key, value FROM kv WHERE queue = ? AND coalesce(expires, 0) <> 0 AND expires >= ?"
        return dict(self.ask(sql, self.name, time.time()))

    def flush_results(self) -> None:
        self.tell("DELETE FROM kv WHERE queue = ?", self.name)

    def flush_counters(self) -> None:
        self.tell("DELETE FROM counter WHERE queue = ?", self.name)
