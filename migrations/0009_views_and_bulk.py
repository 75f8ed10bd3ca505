"""Saved filters of the list of runs, and bulk commands."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    CREATE TABLE dewey_views (
        id {numbered},
        name varchar(60) NOT NULL,
        search text NOT NULL,
        owner text NOT NULL,
        shared boolean NOT NULL,
        created_at timestamptz NOT NULL
    );
    CREATE UNIQUE INDEX dewey_views_name ON dewey_views (owner, name);

    CREATE TABLE dewey_bulks (
        id {numbered},
        verb text NOT NULL,
        search text,
        asked_by_kind text NOT NULL,
        asked_by text NOT NULL,
        created_at timestamptz NOT NULL,
        run_id text,
        total integer NOT NULL,
        done integer NOT NULL,
        refused integer NOT NULL,
        stopped_at timestamptz,
        stopped_by text,
        ended_at timestamptz
    );

    CREATE TABLE dewey_bulk_items (
        bulk_id integer NOT NULL,
        number integer NOT NULL,
        run_id text NOT NULL,
        state text NOT NULL,
        reason text,
        claim text,
        PRIMARY KEY (bulk_id, number)
    );
    CREATE INDEX dewey_bulk_items_state ON dewey_bulk_items (bulk_id, state, number);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
