"""Messages on one SQLite file that name a task which the consumer that met them does not know.

They are scheduled for the end of their grace, with the name of the task that is missing. A consumer that knows this
task takes them from there. `put_off` in `redis_scripts` is the same for Redis.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Iterator
from typing import Any

from engine.broker.deliveries import Delivery, MissingTask
from engine.broker.effects import event_json

#: Columns that a file of an older version lacks. `missing` is the task, dotted, while the message waits for it.
COLUMNS = ("missing TEXT", "met TEXT", "met_at REAL")
INDEX = "CREATE INDEX IF NOT EXISTS message_missing ON message (queue, missing, score) WHERE missing IS NOT NULL;\n"
FORGET = "missing = NULL, met = NULL, met_at = NULL"

HOLDER = """
SELECT task, max(attempt, 1), held_at, worker, met_at FROM message
WHERE queue = ? AND id = ? AND state = 'held' AND consumer = ? AND deliveries = ?
"""
FIRST = """
SELECT id, task, data, deliveries + 1, score, since FROM message
WHERE queue = ?1 AND missing = ?2 AND state = 'scheduled'
  AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.queue = ?1 AND target IN ('', message.task)) ORDER BY score LIMIT 1
"""


def put_off(
    connection: sqlite3.Connection, queue: str, consumer: str, taken: Delivery, why: MissingTask, grace: float
) -> tuple[str, str] | None:
    """Return the new state of the message, `scheduled` or `dead`, and the event; None when it is not held any more."""
    row = connection.execute(HOLDER, (queue, taken.run_id, consumer, taken.delivery)).fetchone()
    if row is None:
        return None
    now = time.time()
    task, attempt, held_at, worker, met_at = row
    met_at, state = met_at or now, "dead"
    if now < met_at + grace:
        state, facts = "scheduled", json.dumps([why.task, why.consumer, why.consumer_id, why.version])
        connection.execute(
            "UPDATE message SET due = ?, missing = ?, met = ?, met_at = ?, consumer = NULL, worker = NULL "
            "WHERE queue = ? AND id = ?",
            (met_at + grace, why.task, facts, met_at, queue, taken.run_id),
        )
    connection.execute("UPDATE message SET state = ? WHERE queue = ? AND id = ?", (state, queue, taken.run_id))
    told = {"task": task, "attempt": attempt, "started": held_at, "worker": worker, "consumer": consumer}
    told |= {"delivery": taken.delivery, "error": why.reason, "version": why.version, "unknown": True}
    return state, event_json("dead" if state == "dead" else "put_off", taken.run_id, now, **told)


def first_of_each(connection: sqlite3.Connection, queue: str, known: Collection[str]) -> Iterator[tuple[Any, ...]]:
    """Yield, for each known task that messages wait for, the first of them."""
    for task in missing(connection, queue):
        if task in known and (row := connection.execute(FIRST, (queue, task)).fetchone()):
            yield row


def missing(connection: sqlite3.Connection, queue: str) -> Iterator[str]:
    """Yield the tasks that messages wait for. One look into the index for each, however many messages there are."""
    task = ""
    sql = "SELECT min(missing) FROM message WHERE queue = ? AND missing > ?"
    while task := connection.execute(sql, (queue, task)).fetchone()[0]:
        yield task
