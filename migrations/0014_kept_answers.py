"""Responses to requests with an Idempotency-Key."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    CREATE TABLE dewey_kept_answers (
        name varchar(64) NOT NULL PRIMARY KEY,
        request varchar(64) NOT NULL,
        status integer,
        content_type text,
        body text,
        created_at timestamptz NOT NULL
    );
    CREATE INDEX dewey_kept_answers_created ON dewey_kept_answers (created_at);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
