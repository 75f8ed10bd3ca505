"""Heartbeats of consumers in a SQLite file."""

import time

from engine.broker.heartbeats import Heartbeat, parse_heartbeats
from engine.broker.parsing import Info
from engine.broker.signing import Purpose
from engine.broker.sqlite.database import SqliteFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS consumer (
  queue TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, info TEXT NOT NULL, PRIMARY KEY (queue, id)) WITHOUT ROWID;
"""


class SqliteHeartbeats:
    def __init__(self, database: SqliteFile) -> None:
        self.database, self.queue = database, database.queue

    def record(self, consumer: str, info: Info) -> None:
        entry = self.database.entries.sign(Purpose.HEARTBEAT, consumer, info).decode()
        self.database.execute(
            "INSERT INTO consumer (queue, id, at, info) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET at = excluded.at, info = excluded.info",
            self.queue, consumer, time.time(), entry,
        )  # fmt: skip

    def remove(self, consumer: str) -> None:
        self.database.execute("DELETE FROM consumer WHERE queue = ? AND id = ?", self.queue, consumer)

    def all(self) -> list[Heartbeat]:
        rows = self.database.query(
            "SELECT CAST(id AS TEXT), at, CAST(info AS TEXT) FROM consumer WHERE queue = ?", self.queue
        )
        return parse_heartbeats(self.database.entries, [(consumer, at, info) for consumer, at, info in rows])
