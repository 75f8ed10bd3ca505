"""From which position on the events of a stream must be signed."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    ALTER TABLE dewey_history_cursors ADD COLUMN signed_from bigint;
    ALTER TABLE dewey_history_cursors ADD COLUMN upgraded_at timestamptz;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
