"""The SQLite file of a broker: WAL, one connection per thread, and `BEGIN IMMEDIATE` for every write."""

import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from os import getpid
from pathlib import Path
from typing import Any
from zlib import crc32

from engine.broker.inotify import InotifyWatch
from engine.broker.parsing import decode
from engine.broker.signed_entries import SignedEntries
from engine.exceptions import BrokerUnavailable
from engine.outages import find_outage, first_line, lacks_table
from engine.private_files import make_database_private

POLL_SECONDS = 0.025
#: Maximum time from the write that inotify reports to the visible commit.
COMMIT_SECONDS = 0.25

#: The name of a table in a schema.
TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")

Value = str | bytes | float | None
Row = tuple[Any, ...]


@dataclass(slots=True)
class ThreadConnection:
    """A connection of one thread in one process.

    `refused`: the file was unavailable on it. `watch`: None before its first use. `can_watch`: the kernel has inotify.
    `seen`: the version of the file before the last claim.
    """

    connection: sqlite3.Connection
    pid: int
    refused: bool = False
    can_watch: bool = True
    watch: InotifyWatch | None = None
    seen: int = 0


class SqliteFile:
    """The rows of a queue in a file.

    `schema`: the tables of the file. `added_columns`: columns by table that a file of an older version lacks. The
    schema contains them too. `entries` signs what the parts store.
    """

    def __init__(
        self,
        queue: str,
        path: Path,
        schema: str,
        added_columns: Mapping[str, Sequence[str]],
        entries: SignedEntries,
    ) -> None:
        self.queue, self.path, self.schema, self.added_columns = queue, path, schema, added_columns
        self.entries = entries
        self.threads = threading.local()
        self.left_behind: list[sqlite3.Connection] = []

    # --- connections -----------------------------------------------------------------------------------------

    @property
    def thread(self) -> ThreadConnection:
        current: ThreadConnection | None = getattr(self.threads, "current", None)
        if current is not None and current.pid == getpid() and not current.refused:
            return current
        if current is not None and current.pid == getpid():
            # A connection that was opened while the file was read-only stays read-only.
            current.connection.close()
        elif current is not None:
            # A connection must not be used or closed after a fork.
            self.left_behind.append(current.connection)
            del self.threads.current
        self.threads.current = ThreadConnection(self.connect(), getpid())
        return self.threads.current

    @property
    def connection(self) -> sqlite3.Connection:
        return self.thread.connection

    def connect(self, lock_seconds: float = 30) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_database_private(self.path)
        connection = sqlite3.connect(self.path, timeout=lock_seconds, isolation_level=None, check_same_thread=False)
        connection.text_factory = decode  # else one text that is not UTF-8 makes its whole table unreadable
        connection.execute("PRAGMA journal_mode = wal")
        # An accepted message survives a crash of the machine.
        connection.execute("PRAGMA synchronous = full")
        version = crc32(self.schema.encode()) >> 1  # SQLite stores a signed number
        if connection.execute("PRAGMA user_version").fetchone() != (version,) or self.missing_tables(connection):
            self.add_columns(connection)
            connection.executescript(f"BEGIN IMMEDIATE; {self.schema} PRAGMA user_version = {version}; COMMIT;")
        return connection

    def missing_tables(self, connection: sqlite3.Connection) -> set[str]:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return set(TABLE.findall(self.schema)) - {name for (name,) in names}

    def add_columns(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for table, columns in self.added_columns.items():
            existing = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for column in columns:
                if existing and column.split()[0] not in existing:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
        connection.execute("COMMIT")

    @contextmanager
    def single_connection(self, lock_seconds: float) -> Iterator[sqlite3.Connection]:
        """Open a connection for this block, which waits at most `lock_seconds` for a lock."""
        with self.translate_errors(), closing(self.connect(lock_seconds)) as connection:
            yield connection

    def close(self) -> bool:
        current: ThreadConnection | None = getattr(self.threads, "current", None)
        if current is None or current.pid != getpid():
            return False
        current.connection.close()
        del self.threads.current
        return True

    # --- reading and writing ---------------------------------------------------------------------------------

    def query(self, sql: str, *values: Value) -> list[Row]:
        with self.translate_errors():
            return self.connection.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: Value) -> int:
        with self.write_transaction() as connection:
            return connection.execute(sql, values).rowcount

    @contextmanager
    def write_transaction(self) -> Iterator[sqlite3.Connection]:
        with self.translate_errors():
            connection = self.connection
            rollback_interrupted(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokerUnavailable:
            raise
        except (sqlite3.Error, OSError) as error:
            if away := self.outage_error(error):
                raise away from error
            raise

    def outage_error(self, error: sqlite3.Error | OSError) -> BrokerUnavailable | None:
        if isinstance(error, OSError):
            reason = error.strerror
        elif outage := find_outage(error):
            reason = outage.reason
        elif lacks_table(error):  # the file was replaced; a new connection creates its tables
            reason = first_line(error)
        else:
            return None
        if current := getattr(self.threads, "current", None):
            current.refused = True
        return BrokerUnavailable(f"{self.path}: {error}", reason)

    # --- waiting for a change --------------------------------------------------------------------------------

    def version(self) -> int:
        """Return a number that changes when another connection changes the file. It is cheap, as it is polled."""
        try:
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            if away := self.outage_error(error):
                raise away from error
            raise

    def wait_for_change(self, seen: int, deadline: float, pause: float = 0.001) -> bool:
        """Wait until the file has changed since its `version` was `seen`, or until the (monotonic) deadline.

        `pause`: delay between a kernel notification and reading the version. Returns True if the file has changed.
        """
        watch, now, wait = self.watch(), time.monotonic(), pause
        expecting = now if watch else deadline
        while self.version() == seen and (now := time.monotonic()) < deadline:
            if watch and now >= expecting:
                if watch.wait(deadline - now):
                    expecting, wait = time.monotonic() + COMMIT_SECONDS, pause
            else:
                time.sleep(max(min(wait, deadline - now), 0))
                wait = min(wait * 2, max(pause, POLL_SECONDS))
        return self.version() != seen

    def watch(self) -> InotifyWatch | None:
        """Return a watch on the file that every commit writes first. None without inotify. A fork needs its own."""
        with self.translate_errors():
            thread = self.thread
            if thread.watch is None and thread.can_watch:
                thread.connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # opens the WAL file
                try:
                    thread.watch = InotifyWatch(self.path.with_name(f"{self.path.name}-wal"))
                except OSError:
                    thread.can_watch = False
        return thread.watch


def rollback_interrupted(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
