"""Indexes for filtering the list of runs. Each begins with the filtered columns and ends with the order.

Three of them replace narrower ones. Each statement may be repeated, so an interrupted migration can be resumed.
"""

from peewee import Database, PostgresqlDatabase
from playhouse.migrate import SchemaMigrator

from engine.migrations import build_index

atomic = False

INDEXES = {
    "dewey_runs_task_state": "(task, state, enqueued_at, id, queue)",
    "dewey_runs_queue_state": "(queue, state, enqueued_at, id)",
    "dewey_runs_state_ended": "(state, ended_at, id) WHERE ended_at IS NOT NULL",
    "dewey_runs_children": "(parent_id, enqueued_at, id) WHERE parent_id IS NOT NULL",
    "dewey_runs_people": "(asked_by, enqueued_at, id) WHERE asked_by_kind IN ('operator', 'token', 'cli')",
}
REPLACED = ("dewey_runs_queue", "dewey_runs_ended", "dewey_runs_parent")


def up(migrator: SchemaMigrator, db: Database) -> None:
    for name, definition in INDEXES.items():
        build_index(db, name, "dewey_runs", definition)
    concurrently = "CONCURRENTLY " if isinstance(db, PostgresqlDatabase) else ""
    for name in REPLACED:
        db.execute_sql(f"DROP INDEX {concurrently}IF EXISTS {name}")
