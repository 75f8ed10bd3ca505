"""Pauses in a SQLite file."""

from engine.broker.parsing import Info
from engine.broker.pauses import parse_pauses
from engine.broker.signing import Purpose
from engine.broker.sqlite.database import SqliteFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS pause (
  queue TEXT NOT NULL, target TEXT NOT NULL, info TEXT NOT NULL, PRIMARY KEY (queue, target)) WITHOUT ROWID;
"""


class SqlitePauses:
    def __init__(self, database: SqliteFile) -> None:
        self.database, self.queue = database, database.queue

    def put(self, target: str, info: Info) -> None:
        entry = self.database.entries.sign(Purpose.PAUSE, target, info).decode()
        self.database.execute("INSERT OR REPLACE INTO pause VALUES (?, ?, ?)", self.queue, target, entry)

    def remove(self, target: str) -> bool:
        return bool(self.database.execute("DELETE FROM pause WHERE queue = ? AND target = ?", self.queue, target))

    def all(self) -> dict[str, Info]:
        return parse_pauses(self.database.entries, self.rows())

    def rows(self) -> list[tuple[str, str]]:
        rows = self.database.query(
            "SELECT CAST(target AS TEXT), CAST(info AS TEXT) FROM pause WHERE queue = ?", self.queue
        )
        return [(target, info) for target, info in rows]
