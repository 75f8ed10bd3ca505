"""Events that could not be stored, with the reason, and their number per stream."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    CREATE TABLE dewey_rejected_events (
        id {numbered},
        queue text NOT NULL,
        stream text NOT NULL,
        position bigint NOT NULL,
        run_id text,
        kind text,
        reason text NOT NULL,
        line text NOT NULL,
        rejected_at timestamptz NOT NULL
    );
    CREATE INDEX dewey_rejected_events_at ON dewey_rejected_events (rejected_at, id);
    ALTER TABLE dewey_history_cursors ADD COLUMN rejected bigint NOT NULL DEFAULT 0;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
