"""Run counts, schedule ticks, log lines of attempts, and progress of runs."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    CREATE TABLE dewey_run_counts (
        span integer NOT NULL,
        start bigint NOT NULL,
        task text NOT NULL,
        queue text NOT NULL,
        what text NOT NULL,
        bucket integer NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (span, what, start, task, queue, bucket)
    );

    CREATE TABLE dewey_ticks (
        task text NOT NULL,
        due_at timestamptz NOT NULL,
        queue text NOT NULL,
        state text NOT NULL,
        run_id text,
        seen_at timestamptz NOT NULL,
        PRIMARY KEY (task, due_at)
    );
    CREATE INDEX dewey_ticks_state ON dewey_ticks (state, due_at);

    CREATE TABLE dewey_log_lines (
        run_id text NOT NULL,
        delivery integer NOT NULL,
        number integer NOT NULL,
        at timestamptz NOT NULL,
        level text NOT NULL,
        logger text NOT NULL,
        text text NOT NULL,
        PRIMARY KEY (run_id, delivery, number)
    );

    ALTER TABLE dewey_runs ADD COLUMN progress_done double precision;
    ALTER TABLE dewey_runs ADD COLUMN progress_total double precision;
    ALTER TABLE dewey_runs ADD COLUMN progress_text text;
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
