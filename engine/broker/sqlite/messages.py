"""Messages in a SQLite file.

A message is one row that changes its `state`: scheduled → waiting → held → deleted, or dead. It is deleted in the
transaction that stores its effects.
"""

import sqlite3
import time
from collections.abc import Iterable, Sequence

from engine.broker.deliveries import AHEAD_LIMIT, MessageLocation, MissingTask
from engine.broker.effects import PRIORITY_SECONDS, Effects, NewMessage, event_json
from engine.broker.message_header import parse_header
from engine.broker.parsing import parse_missing_task
from engine.broker.sqlite.database import SqliteFile
from engine.broker.sqlite.events import SqliteEvents
from engine.broker.sqlite.results import SqliteResults

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
  queue TEXT NOT NULL, id TEXT NOT NULL, task TEXT NOT NULL, attempt INTEGER NOT NULL, data BLOB NOT NULL,
  state TEXT NOT NULL, score REAL NOT NULL, since REAL NOT NULL, due REAL, uniq TEXT, cancel TEXT,
  deliveries INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,
  consumer TEXT, worker TEXT, held_at REAL, missing TEXT, met TEXT, met_at REAL, PRIMARY KEY (queue, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS message_waiting ON message (queue, score) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS message_since ON message (queue, since) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS message_scheduled ON message (queue, due) WHERE state = 'scheduled';
CREATE INDEX IF NOT EXISTS message_dead ON message (queue, held_at, id) WHERE state = 'dead';
CREATE INDEX IF NOT EXISTS message_held ON message (queue, consumer, worker) WHERE state = 'held';
CREATE INDEX IF NOT EXISTS message_unique ON message (queue, uniq) WHERE uniq IS NOT NULL;
"""

#: A message whose run is held, or has had this attempt already, changes nothing.
INSERT = """
INSERT INTO message (queue, id, task, attempt, data, state, score, since, due, uniq, deliveries)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET attempt = excluded.attempt, data = excluded.data, state = excluded.state,
  score = excluded.score, since = excluded.since, due = excluded.due, deaths = 0, consumer = NULL, worker = NULL,
  missing = NULL, met = NULL, met_at = NULL, cancel = NULL
WHERE message.state = 'done' OR (message.state <> 'held' AND excluded.attempt > message.attempt)
"""

#: The states of a message that is somewhere. A writer to the broker may store others, in which it never runs.
PLACES = "'waiting', 'scheduled', 'held', 'dead'"

ONCE_SECONDS = 7 * 86400


class SqliteMessages:
    def __init__(self, database: SqliteFile, results: SqliteResults, events: SqliteEvents) -> None:
        self.database, self.queue = database, database.queue
        self.results, self.events, self.result_ttl = results, events, results.result_ttl

    # --- storing -----------------------------------------------------------------------------------------------

    def write(self, effects: Effects) -> list[str]:
        with self.database.write_transaction() as connection:
            return self.write_effects(connection, effects)

    def enqueue_batch(self, messages: Iterable[tuple[str, bytes]], priority: float) -> None:
        effects = Effects()
        effects.messages = [NewMessage(run_id, data, priority, None, is_new_run=True) for run_id, data in messages]
        self.write(effects)

    def write_effects(self, connection: sqlite3.Connection, effects: Effects) -> list[str]:
        now = time.time()
        # One microsecond apart, so that the order is kept.
        ids = [self.insert(connection, message, now + place / 1e6) for place, message in enumerate(effects.messages)]
        for key, value in effects.results:
            self.results.write(connection, key, value, now + self.result_ttl)
        self.events.append(connection, effects.events)
        return ids

    def insert(self, connection: sqlite3.Connection, message: NewMessage, now: float) -> str:
        run_id = message.run_id
        if message.once and not self.results.write_new(connection, f"once:{message.once}", now + ONCE_SECONDS):
            return run_id
        if message.unique and (first := self.first_of_name(connection, message)):
            return first
        header = parse_header(message.data)
        task, attempt = (header.short_name, header.attempt) if header else ("?", 0)
        if header and self.results.is_finished(connection, header.run_id, attempt, now):
            return run_id
        state = "waiting" if message.due is None else "scheduled"
        since = message.due or now
        row = (task, attempt, message.data, state, since - PRIORITY_SECONDS * message.priority, since, message.due)
        stored = connection.execute(INSERT, (self.queue, run_id, *row, message.unique or None, message.delivered))
        self.results.keep_revocation(connection, run_id, now)
        if message.is_new_run and stored.rowcount:
            self.events.append_lines(connection, [message.data.decode()])
        return run_id

    def first_of_name(self, connection: sqlite3.Connection, message: NewMessage) -> str | None:
        row = connection.execute(
            "SELECT id FROM message "
            "WHERE queue = ? AND uniq = ? AND state IN ('waiting', 'scheduled', 'held') AND id <> ?",
            (self.queue, message.unique, message.run_id),
        ).fetchone()
        return row and str(row[0])

    def mark_finished(self, connection: sqlite3.Connection, run_id: str, state: str) -> bool:
        """Delete an ended run if its row is in `state`. Its message is not stored again. Returns True if so."""
        where = (self.queue, run_id, state)
        connection.execute(
            "INSERT OR REPLACE INTO spent SELECT queue, id, attempt, ? FROM message "
            "WHERE queue = ? AND id = ? AND state = ?",
            (time.time() + self.result_ttl, *where),
        )
        sql = "DELETE FROM message WHERE queue = ? AND id = ? AND state = ?"
        return bool(connection.execute(sql, where).rowcount)

    def enqueue_due(self, now: float, limit: int = 500) -> int:
        with self.database.write_transaction() as connection:
            rows = connection.execute(
                "UPDATE message SET state = 'waiting', missing = NULL WHERE queue = ?1 AND id IN "
                "(SELECT id FROM message WHERE queue = ?1 AND state = 'scheduled' AND due <= ?2 "
                "ORDER BY due LIMIT ?3) RETURNING id",
                (self.queue, now, limit),
            ).fetchall()
            self.events.append(connection, [event_json("due", run_id, now) for (run_id,) in rows])
            return len(rows)

    # --- one message -------------------------------------------------------------------------------------------

    def get(self, run_id: str) -> bytes | None:
        rows = self.database.query(
            "SELECT CAST(data AS BLOB) FROM message WHERE queue = ? AND id = ?", self.queue, run_id
        )
        return bytes(rows[0][0]) if rows else None

    def waiting_ids(self, limit: int) -> list[str]:
        sql = "SELECT CAST(id AS TEXT) FROM message WHERE queue = ? AND state = 'waiting' ORDER BY score LIMIT ?"
        return [run_id for (run_id,) in self.database.query(sql, self.queue, limit)]

    def ended_attempt(self, run_id: str) -> int:
        sql = "SELECT attempt FROM spent WHERE queue = ? AND id = ?"
        attempts = [attempt for (attempt,) in self.database.query(sql, self.queue, run_id)]
        return max((attempt for attempt in attempts if isinstance(attempt, int)), default=0)

    def locate(self, run_id: str) -> MessageLocation | None:
        rows = self.database.query("SELECT state, score FROM message WHERE queue = ? AND id = ?", self.queue, run_id)
        if not rows or rows[0][0] == "done":
            return None
        state, score = rows[0]
        if state != "waiting":
            return MessageLocation(state)
        sql = "SELECT count(*) FROM (SELECT 1 FROM message WHERE queue = ? AND state = 'waiting' AND score < ? LIMIT ?)"
        return MessageLocation(state, int(self.database.query(sql, self.queue, score, AHEAD_LIMIT + 1)[0][0]))

    def missing_task(self, run_id: str) -> MissingTask | None:
        rows = self.database.query(
            "SELECT met, met_at, due FROM message WHERE queue = ? AND id = ? AND state = 'scheduled' AND missing <> ''",
            self.queue,
            run_id,
        )
        return parse_missing_task(self.queue, run_id, *rows[0]) if rows else None

    # --- what waits and is scheduled -----------------------------------------------------------------------------

    def count_waiting(self, limit: int = -1) -> int:
        sql = "SELECT count(*) FROM (SELECT 1 FROM message WHERE queue = ? AND state = 'waiting' LIMIT ?)"
        return int(self.database.query(sql, self.queue, limit)[0][0])

    def count_scheduled(self) -> int:
        sql = "SELECT count(*) FROM message WHERE queue = ? AND state = 'scheduled'"
        return int(self.database.query(sql, self.queue)[0][0])

    def oldest_waiting(self) -> float | None:
        sql = "SELECT CAST(min(since) AS REAL) FROM message WHERE queue = ? AND state = 'waiting'"
        return self.database.query(sql, self.queue)[0][0]

    def waiting(self, limit: int | None = None) -> list[bytes]:
        return self.read("waiting", "score", limit)

    def scheduled(self, limit: int | None = None) -> list[bytes]:
        return self.read("scheduled", "due", limit)

    def read(self, state: str, order: str, limit: int | None) -> list[bytes]:
        sql = f"SELECT CAST(data AS BLOB) FROM message WHERE queue = ? AND state = ? ORDER BY {order} LIMIT ?"
        return [bytes(data) for (data,) in self.database.query(sql, self.queue, state, -1 if limit is None else limit)]

    def delete_waiting(self) -> None:
        self.database.execute("DELETE FROM message WHERE queue = ? AND state = 'waiting'", self.queue)

    def delete_scheduled(self) -> None:
        self.database.execute("DELETE FROM message WHERE queue = ? AND state = 'scheduled'", self.queue)

    # --- commands ------------------------------------------------------------------------------------------------

    def cancel(self, run_id: str, by: str) -> str:
        with self.database.write_transaction() as connection:
            where = (self.queue, run_id)
            row = connection.execute("SELECT state FROM message WHERE queue = ? AND id = ?", where).fetchone()
            line = self.database.entries.sign_event(event_json("cancelled", run_id, time.time(), by=by)).decode()
            if row and row[0] == "held":
                connection.execute("UPDATE message SET cancel = ? WHERE queue = ? AND id = ?", (line, *where))
                return "running"
            if not row or row[0] not in ("waiting", "scheduled"):
                return "unknown"
            self.mark_finished(connection, run_id, row[0])
            self.results.delete_revocation(connection, run_id)
            self.events.append_lines(connection, [line])
            return "removed"

    def purge(self, by: str, limit: int = 1000) -> int:
        with self.database.write_transaction() as connection:
            sql = "SELECT id FROM message WHERE queue = ? AND state = 'waiting' ORDER BY score LIMIT ?"
            ids = [run_id for (run_id,) in connection.execute(sql, (self.queue, limit)).fetchall()]
            for run_id in ids:
                self.mark_finished(connection, run_id, "waiting")
                self.results.delete_revocation(connection, run_id)
            self.events.append(connection, [event_json("cancelled", run_id, time.time(), by=by) for run_id in ids])
            return len(ids)

    def clear_finished(self, run_id: str) -> None:
        with self.database.write_transaction() as connection:
            connection.execute("DELETE FROM kv WHERE queue = ? AND key = ?", (self.queue, run_id))
            connection.execute("DELETE FROM spent WHERE queue = ? AND id = ?", (self.queue, run_id))

    def report_lost(self, ids: Sequence[str]) -> int:
        marks, now = ", ".join("?" * len(ids)), time.time()
        sql = f"SELECT id FROM message WHERE queue = ? AND state IN ({PLACES}) AND id IN ({marks})"
        if not set(ids).difference(run_id for (run_id,) in self.database.query(sql, self.queue, *ids)):
            return 0
        with self.database.write_transaction() as connection:
            existing = {run_id for (run_id,) in connection.execute(sql, (self.queue, *ids))}
            lost = [run_id for run_id in ids if run_id not in existing]
            self.events.append(connection, [event_json("lost", run_id, now) for run_id in lost])
        return len(lost)
