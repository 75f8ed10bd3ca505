"""The next message that a worker claims from a SQLite file.

Besides waiting messages these are deferred ones, whose task a consumer's code lacked. They are scheduled for the end of
their grace with the name of the missing task. A consumer with the task claims them from there.
"""

import sqlite3
import time
from collections.abc import Collection, Iterator
from operator import itemgetter

from engine.broker.deliveries import Delivery
from engine.broker.effects import event_json
from engine.broker.message_header import parse_header
from engine.broker.sqlite.database import Row, SqliteFile
from engine.broker.sqlite.events import SqliteEvents
from engine.broker.sqlite.results import SqliteResults

SCHEMA = """
CREATE TABLE IF NOT EXISTS start (queue TEXT NOT NULL, task TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS start_task ON start (queue, task, at);
CREATE INDEX IF NOT EXISTS message_missing ON message (queue, missing, score) WHERE missing IS NOT NULL;
"""
#: Columns of `message` that a file of an older version lacks.
ADDED_COLUMNS = ("missing TEXT", "met TEXT", "met_at REAL")

#: The columns of a claim, with the types of the schema: a foreign program may store values of other types.
COLUMNS = """
id, CAST(task AS TEXT), CAST(data AS BLOB), max(min(CAST(deliveries AS INTEGER), 999999998), 0) + 1,
CAST(score AS REAL), CAST(since AS REAL)
"""
FIRST_WAITING = f"""
SELECT {COLUMNS} FROM message WHERE queue = ?1 AND state = 'waiting'
  AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.queue = ?1 AND target IN ('', message.task)) ORDER BY score LIMIT 1
"""
FIRST_DEFERRED = f"""
SELECT {COLUMNS} FROM message
WHERE queue = ?1 AND missing = ?2 AND state = 'scheduled'
  AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.queue = ?1 AND target IN ('', message.task)) ORDER BY score LIMIT 1
"""
FORGET_MISSING = "UPDATE message SET missing = NULL, met = NULL, met_at = NULL WHERE queue = ? AND id = ?"

#: Task → starts within a number of seconds.
Limits = dict[str, list[float]]


class SqliteClaims:
    def __init__(self, database: SqliteFile, results: SqliteResults, events: SqliteEvents) -> None:
        self.queue, self.results, self.events = database.queue, results, events

    def held_by(self, connection: sqlite3.Connection, consumer: str, worker: str) -> Delivery | None:
        row = connection.execute(
            "SELECT id, deliveries, CAST(data AS BLOB) FROM message "
            "WHERE queue = ? AND state = 'held' AND consumer = ? AND worker = ?",
            (self.queue, consumer, worker),
        ).fetchone()
        return row and Delivery(row[0], row[1], bytes(row[2]), is_marked=True)

    def claim_next(
        self,
        connection: sqlite3.Connection,
        consumer: str,
        worker: str,
        limits: Limits,
        known_tasks: Collection[str],
    ) -> Delivery | None:
        now = time.time()
        deferred = [
            row
            for row in self.deferred(connection, known_tasks)
            if self.limited_until(connection, row[1], limits.get(row[1]), now) is None
        ]
        first = self.first_waiting(connection, limits)
        rows = [*deferred, first] if first else deferred
        if not rows:
            return None
        run_id, task, data, delivery, _score, _since = row = min(rows, key=itemgetter(4))
        if row is not first:
            connection.execute(FORGET_MISSING, (self.queue, run_id))
        connection.execute(
            "UPDATE message SET state = 'held', deliveries = ?, consumer = ?, worker = ?, held_at = ? "
            "WHERE queue = ? AND id = ?",
            (delivery, consumer, worker, now, self.queue, run_id),
        )
        if task in limits:
            connection.execute("INSERT INTO start VALUES (?, ?, ?)", (self.queue, task, now))
        header = parse_header(bytes(data))
        is_marked = self.results.is_marked(connection, run_id, header.task if header else "")
        return Delivery(run_id, delivery, bytes(data), is_marked)

    def deferred(self, connection: sqlite3.Connection, known_tasks: Collection[str]) -> list[Row]:
        tasks = [task for task in self.missing_tasks(connection) if task in known_tasks] if known_tasks else []
        rows = (connection.execute(FIRST_DEFERRED, (self.queue, task)).fetchone() for task in tasks)
        return [row for row in rows if row]

    def missing_tasks(self, connection: sqlite3.Connection) -> Iterator[str]:
        """Yield the tasks of deferred messages. Each takes one index search, for any number of messages."""
        task = ""
        sql = "SELECT min(missing) FROM message WHERE queue = ? AND missing > ?"
        while task := connection.execute(sql, (self.queue, task)).fetchone()[0]:
            yield task

    def first_waiting(self, connection: sqlite3.Connection, limits: Limits) -> Row | None:
        while row := connection.execute(FIRST_WAITING, (self.queue,)).fetchone():
            run_id, task, _data, _delivery, score, since = row
            now = time.time()
            again = self.limited_until(connection, task, limits.get(task), now)
            if again is None:
                return tuple(row)
            connection.execute(
                "UPDATE message SET state = 'scheduled', due = ?1, since = ?1, score = ?1 - ?2 "
                "WHERE queue = ?3 AND id = ?4",
                (again, since - score, self.queue, run_id),
            )
            self.events.append(connection, [event_json("limited", run_id, now, due=again)])
        return None

    def limited_until(
        self, connection: sqlite3.Connection, task: str, limit: list[float] | None, now: float
    ) -> float | None:
        if limit is None:
            return None
        starts, seconds = limit
        connection.execute(
            "DELETE FROM start WHERE queue = ? AND task = ? AND at <= ?", (self.queue, task, now - seconds)
        )
        row = connection.execute(
            "SELECT at FROM start WHERE queue = ? AND task = ? ORDER BY at DESC LIMIT 1 OFFSET ?",
            (self.queue, task, int(starts) - 1),
        ).fetchone()
        return row and float(row[0]) + seconds
