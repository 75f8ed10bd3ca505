"""Ticks of scheduled tasks in a SQLite file."""

from engine.broker.effects import Effects
from engine.broker.parsing import parse_ticks
from engine.broker.sqlite.database import SqliteFile
from engine.broker.sqlite.messages import SqliteMessages

SCHEMA = """
CREATE TABLE IF NOT EXISTS tick (
  queue TEXT NOT NULL, task TEXT NOT NULL, minute INTEGER NOT NULL, PRIMARY KEY (queue, task)) WITHOUT ROWID;
"""


class SqliteTicks:
    def __init__(self, database: SqliteFile, messages: SqliteMessages) -> None:
        self.database, self.queue, self.messages = database, database.queue, messages

    def record(self, task: str, minute: int, effects: Effects) -> bool:
        with self.database.write_transaction() as connection:
            recorded = connection.execute(
                "INSERT INTO tick (queue, task, minute) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET minute = excluded.minute "
                "WHERE excluded.minute > minute OR typeof(minute) <> 'integer'",
                (self.queue, task, minute),
            )
            if recorded.rowcount:
                self.messages.write_effects(connection, effects)
            return bool(recorded.rowcount)

    def last(self) -> dict[str, int]:
        rows = self.database.query("SELECT CAST(task AS TEXT), minute FROM tick WHERE queue = ?", self.queue)
        return parse_ticks(self.queue, [(task, minute) for task, minute in rows])
