"""An index for counting a task's missed and late ticks."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = "CREATE INDEX dewey_ticks_task ON dewey_ticks (task, state, due_at);"


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
