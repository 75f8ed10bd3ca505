"""Results in a SQLite file, with expiry, attempts that finished without one, revocations and counters."""

import sqlite3
import time
from collections.abc import Sequence

from engine.broker.sqlite.database import POLL_SECONDS, SqliteFile
from engine.broker.storage import REVOKED_SECONDS

SCHEMA = """
CREATE TABLE IF NOT EXISTS kv (
  queue TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, expires REAL, PRIMARY KEY (queue, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kv_expires ON kv (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS counter (
  queue TEXT NOT NULL, key TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (queue, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
  queue TEXT NOT NULL, id TEXT NOT NULL, attempt INTEGER NOT NULL, expires REAL NOT NULL, PRIMARY KEY (queue, id)
) WITHOUT ROWID;
"""


MAX_COUNTER = 1 << 62

MARKS = """
SELECT 1 FROM kv WHERE queue = ?1 AND key IN (?2, ?3, ?4) UNION ALL SELECT 1 FROM spent WHERE queue = ?1 AND id = ?4
LIMIT 1
"""


class SqliteResults:
    def __init__(self, database: SqliteFile, result_ttl: int) -> None:
        self.database, self.queue, self.result_ttl = database, database.queue, result_ttl

    # --- within a transaction of another part ------------------------------------------------------------------

    def write(self, connection: sqlite3.Connection, key: str, value: bytes, expires: float | None) -> None:
        connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)", (self.queue, key, value, expires))

    def write_new(self, connection: sqlite3.Connection, key: str, expires: float) -> bool:
        sql = "INSERT INTO kv VALUES (?, ?, '1', ?) ON CONFLICT DO NOTHING"
        return bool(connection.execute(sql, (self.queue, key, expires)).rowcount)

    def write_counter(self, connection: sqlite3.Connection, counter: str, value: float) -> None:
        connection.execute("INSERT OR REPLACE INTO counter VALUES (?, ?, ?)", (self.queue, counter, value))

    def is_marked(self, connection: sqlite3.Connection, run_id: str, task: str) -> bool:
        """Return true if a run has a revocation or an end here."""
        values = (self.queue, f"r:{run_id}", f"rt:{task}", run_id)
        return bool(connection.execute(MARKS, values).fetchone())

    def keep_revocation(self, connection: sqlite3.Connection, run_id: str, now: float) -> None:
        connection.execute(
            "UPDATE kv SET expires = NULL WHERE queue = ? AND key = ? AND expires >= ?",
            (self.queue, f"r:{run_id}", now),
        )

    def delete_revocation(self, connection: sqlite3.Connection, run_id: str) -> None:
        connection.execute("DELETE FROM kv WHERE queue = ? AND key = ?", (self.queue, f"r:{run_id}"))

    def is_finished(self, connection: sqlite3.Connection, run_id: str, attempt: int, now: float) -> bool:
        sql = "SELECT 1 FROM spent WHERE queue = ? AND id = ? AND attempt >= ? AND expires >= ?"
        return bool(connection.execute(sql, (self.queue, run_id, attempt, now)).fetchone())

    # --- values ------------------------------------------------------------------------------------------------

    def put(self, key: str, value: bytes, expires: bool = False) -> None:
        with self.database.write_transaction() as connection:
            self.write(connection, key, value, time.time() + self.result_ttl if expires else None)

    def put_new(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        now = time.time()
        with self.database.write_transaction() as connection:
            connection.execute("DELETE FROM kv WHERE queue = ? AND key = ? AND expires < ?", (self.queue, key, now))
            stored = connection.execute(
                "INSERT INTO kv VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (self.queue, key, value, None if ttl is None else now + ttl),
            )
            return bool(stored.rowcount)

    def revoke(self, run_id: str, data: bytes) -> None:
        expires = time.time() + max(self.result_ttl, REVOKED_SECONDS)
        with self.database.write_transaction() as connection:
            sql = "SELECT 1 FROM message WHERE queue = ? AND id = ? AND state <> 'done'"
            is_known = connection.execute(sql, (self.queue, run_id)).fetchone()
            self.write(connection, f"r:{run_id}", data, None if is_known else expires)

    def get(self, key: str) -> bytes | None:
        sql = "SELECT value FROM kv WHERE queue = ? AND key = ? AND (expires IS NULL OR expires >= ?)"
        rows = self.database.query(sql, self.queue, key, time.time())
        return rows[0][0] if rows else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        values = {key: self.get(key) for key in keys}
        return {key: value for key, value in values.items() if value is not None}

    def all(self) -> dict[str, bytes]:
        sql = "SELECT key, value FROM kv WHERE queue = ? AND coalesce(expires, 0) <> 0 AND expires >= ?"
        return dict(self.database.query(sql, self.queue, time.time()))

    def count(self) -> int:
        return len(self.all())

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def wait(self, key: str, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.has(key):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def delete(self, key: str) -> bool:
        return bool(self.database.execute("DELETE FROM kv WHERE queue = ? AND key = ?", self.queue, key))

    def delete_expired(self) -> int:
        self.database.execute("DELETE FROM spent WHERE queue = ? AND expires < ?", self.queue, time.time())
        # Older versions left revocations of ended runs that do not expire.
        left_behind = self.database.execute(
            "DELETE FROM kv WHERE queue = ? AND key >= 'r:' AND key < 'r;' AND expires IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM message WHERE message.queue = kv.queue AND message.id = substr(kv.key, 3))",
            self.queue,
        )
        sql = "DELETE FROM kv WHERE queue = ? AND expires < ?"
        return left_behind + self.database.execute(sql, self.queue, time.time())

    def delete_all(self) -> None:
        self.database.execute("DELETE FROM kv WHERE queue = ?", self.queue)

    # --- counters ----------------------------------------------------------------------------------------------

    def increment(self, counter: str, amount: int = 1) -> int:
        with self.database.write_transaction() as connection:
            sql = "SELECT CAST(value AS INTEGER) FROM counter WHERE queue = ? AND key = ?"
            row = connection.execute(sql, (self.queue, counter)).fetchone()
            value = min(row[0] if row else 0, MAX_COUNTER) + amount
            self.write_counter(connection, counter, value)
            return value

    def delete_counter(self, counter: str) -> None:
        self.database.execute("DELETE FROM counter WHERE queue = ? AND key = ?", self.queue, counter)

    def delete_counters(self) -> None:
        self.database.execute("DELETE FROM counter WHERE queue = ?", self.queue)
