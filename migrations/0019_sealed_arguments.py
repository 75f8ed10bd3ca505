"""The secret arguments of a run, encrypted. They are deleted with it."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    CREATE TABLE dewey_sealed_arguments (
        run_id text NOT NULL PRIMARY KEY REFERENCES dewey_runs ON DELETE CASCADE,
        sealed text NOT NULL
    )
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
