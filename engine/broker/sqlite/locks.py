"""Locks in a SQLite file."""

import time

from engine.broker.sqlite.database import SqliteFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS lock (
  queue TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL, consumer TEXT NOT NULL, worker TEXT NOT NULL,
  ends REAL, PRIMARY KEY (queue, name)) WITHOUT ROWID;
"""

ACQUIRE = """
INSERT INTO lock VALUES (:queue, :name, :owner, :consumer, :worker, :ends)
ON CONFLICT DO UPDATE SET owner = :owner, consumer = :consumer, worker = :worker, ends = :ends
WHERE lock.ends < :now OR (lock.consumer <> '' AND NOT EXISTS
  (SELECT 1 FROM consumer c WHERE c.queue = :queue AND c.id = lock.consumer AND c.at > :now - :lease))
"""


class SqliteLocks:
    def __init__(self, database: SqliteFile) -> None:
        self.database, self.queue = database, database.queue

    def acquire(self, name: str, owner: str, consumer: str, worker: str, seconds: float | None, lease: float) -> bool:
        now = time.time()
        values = {
            "queue": self.queue, "name": name, "owner": owner, "consumer": consumer, "worker": worker,
            "ends": seconds and now + seconds, "now": now, "lease": lease,
        }  # fmt: skip
        with self.database.write_transaction() as connection:
            acquired = connection.execute(ACQUIRE, values)
            connection.execute("UPDATE consumer SET at = ? WHERE queue = ? AND id = ?", (now, self.queue, consumer))
            return bool(acquired.rowcount)

    def release(self, name: str, owner: str = "") -> bool:
        sql = "DELETE FROM lock WHERE queue = ?1 AND name = ?2 AND (?3 = '' OR owner = ?3)"
        return bool(self.database.execute(sql, self.queue, name, owner))

    def all(self) -> dict[str, tuple[str, str, str]]:
        rows = self.database.query(
            "SELECT CAST(name AS TEXT), owner, consumer, worker FROM lock WHERE queue = ?", self.queue
        )
        return {name: (owner, consumer, worker) for name, owner, consumer, worker in rows}
