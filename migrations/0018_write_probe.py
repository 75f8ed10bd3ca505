"""The one row that `/readyz` overwrites to check that the database accepts writes."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = "CREATE TABLE dewey_write_probe (id integer NOT NULL PRIMARY KEY, at timestamptz NOT NULL)"


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
