"""Resource usage of each worker, and since when a consumer is quiet."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    ALTER TABLE dewey_workers ADD COLUMN quiet_at timestamptz;
    ALTER TABLE dewey_workers ADD COLUMN slots text NOT NULL DEFAULT '[]';
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
