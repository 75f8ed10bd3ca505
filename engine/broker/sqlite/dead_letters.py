"""Dead letters in a SQLite file: messages in the state `dead`."""

import time

from engine.broker.effects import event_json
from engine.broker.parsing import clamp_timestamp
from engine.broker.sqlite.database import SqliteFile
from engine.broker.sqlite.messages import SqliteMessages

LAST_ID = chr(0x10FFFF)


class SqliteDeadLetters:
    def __init__(self, database: SqliteFile, messages: SqliteMessages) -> None:
        self.database, self.queue, self.messages, self.events = database, database.queue, messages, messages.events

    def all(self, limit: int = 1000) -> list[tuple[str, bytes]]:
        sql = "SELECT CAST(id AS TEXT), CAST(data AS BLOB) FROM message WHERE queue = ? AND state = 'dead' LIMIT ?"
        return [(run_id, bytes(data)) for run_id, data in self.database.query(sql, self.queue, limit)]

    def ids(self, limit: int, before: tuple[float, str] | None = None) -> list[tuple[str, float]]:
        at, run_id = before or (float("inf"), LAST_ID)
        rows = self.database.query(
            "SELECT CAST(id AS TEXT), CAST(coalesce(held_at, 0) AS REAL) FROM message "
            "WHERE queue = ? AND state = 'dead' AND (held_at, id) < (?, ?) ORDER BY held_at DESC, id DESC LIMIT ?",
            self.queue, at, run_id, limit,
        )  # fmt: skip
        return [(run_id, clamp_timestamp(at)) for run_id, at in rows]

    def count(self) -> int:
        sql = "SELECT count(*) FROM message WHERE queue = ? AND state = 'dead'"
        return int(self.database.query(sql, self.queue)[0][0])

    def requeue(self, run_id: str) -> bool:
        now = time.time()
        with self.database.write_transaction() as connection:
            requeued = connection.execute(
                "UPDATE message SET state = 'waiting', deaths = 0, score = ?1, since = ?1, cancel = NULL, "
                "met_at = NULL WHERE queue = ?2 AND id = ?3 AND state = 'dead'",
                (now, self.queue, run_id),
            )
            if requeued.rowcount:
                self.events.append(connection, [event_json("requeued", run_id, now)])
            return bool(requeued.rowcount)

    def discard(self, run_id: str) -> bool:
        with self.database.write_transaction() as connection:
            is_discarded = self.messages.mark_finished(connection, run_id, "dead")
            if is_discarded:
                self.messages.results.delete_revocation(connection, run_id)
            return is_discarded
