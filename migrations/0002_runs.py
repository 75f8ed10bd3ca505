"""Runs, their attempts, consumers, and the position of the history."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    CREATE TABLE dewey_runs (
        id text NOT NULL PRIMARY KEY,
        task text NOT NULL,
        queue text NOT NULL,
        state text NOT NULL,
        args text,
        kwargs text,
        priority double precision,
        retries integer NOT NULL,
        asked_by_kind text,
        asked_by text,
        parent_id text,
        code_version text,
        enqueued_at timestamptz NOT NULL,
        due_at timestamptz,
        started_at timestamptz,
        ended_at timestamptz,
        instant_at timestamptz,
        wait_ms double precision,
        run_ms double precision,
        attempts integer NOT NULL,
        deliveries integer NOT NULL,
        worker text,
        result text,
        error text
    );
    CREATE INDEX dewey_runs_newest ON dewey_runs (enqueued_at, id);
    CREATE INDEX dewey_runs_state ON dewey_runs (state, enqueued_at, id);
    CREATE INDEX dewey_runs_task ON dewey_runs (task, enqueued_at, id);
    CREATE INDEX dewey_runs_queue ON dewey_runs (queue, enqueued_at, id);
    CREATE INDEX dewey_runs_instant ON dewey_runs (instant_at) WHERE instant_at IS NOT NULL;
    CREATE INDEX dewey_runs_parent ON dewey_runs (parent_id) WHERE parent_id IS NOT NULL;
    CREATE INDEX dewey_runs_ended ON dewey_runs (ended_at) WHERE ended_at IS NOT NULL;

    CREATE TABLE dewey_attempts (
        run_id text NOT NULL,
        number integer NOT NULL,
        attempt integer NOT NULL,
        state text NOT NULL,
        worker text,
        code_version text,
        started_at timestamptz,
        ended_at timestamptz,
        run_ms double precision,
        next_at timestamptz,
        error text,
        traceback text,
        PRIMARY KEY (run_id, number)
    );

    CREATE TABLE dewey_workers (
        id text NOT NULL PRIMARY KEY,
        queue text NOT NULL,
        host text NOT NULL,
        pid integer NOT NULL,
        code_version text NOT NULL,
        worker_type text NOT NULL,
        worker_count integer NOT NULL,
        periodic boolean NOT NULL,
        started_at timestamptz NOT NULL,
        beat_at timestamptz NOT NULL,
        stopped_at timestamptz,
        scheduler_at timestamptz,
        rss_bytes bigint NOT NULL,
        cpu_percent double precision NOT NULL,
        processed bigint NOT NULL,
        failed bigint NOT NULL,
        running text NOT NULL
    );

    CREATE TABLE dewey_history_cursors (
        stream text NOT NULL PRIMARY KEY,
        position bigint NOT NULL,
        dropped bigint NOT NULL
    );
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
