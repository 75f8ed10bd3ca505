"""Lifetime counters and request counters for Prometheus, alerts and their notices."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    INSERT INTO dewey_run_counts (span, start, task, queue, what, bucket, count)
        SELECT 0, 0, task, queue, what, bucket, SUM(count) FROM dewey_run_counts WHERE span = 86400
        GROUP BY task, queue, what, bucket HAVING SUM(count) > 0;

    CREATE TABLE dewey_http_counts (
        endpoint text NOT NULL,
        method text NOT NULL,
        status integer NOT NULL,
        bucket integer NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (endpoint, method, status, bucket)
    );

    CREATE TABLE dewey_alerts (
        id {numbered},
        rule text NOT NULL,
        subject text NOT NULL,
        open_as text,
        value double precision NOT NULL,
        facts text NOT NULL,
        began_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        ended_at timestamptz
    );
    CREATE UNIQUE INDEX dewey_alerts_open ON dewey_alerts (open_as);
    CREATE INDEX dewey_alerts_ended ON dewey_alerts (ended_at);

    CREATE TABLE dewey_notices (
        id {numbered},
        alert_id integer,
        event text NOT NULL,
        channel text NOT NULL,
        state text NOT NULL,
        facts text NOT NULL,
        created_at timestamptz NOT NULL,
        due_at timestamptz NOT NULL,
        tries integer NOT NULL DEFAULT 0,
        sent_at timestamptz,
        error text
    );
    CREATE INDEX dewey_notices_due ON dewey_notices (state, due_at);
    CREATE INDEX dewey_notices_alert ON dewey_notices (alert_id);
    CREATE INDEX dewey_notices_created ON dewey_notices (created_at);

    CREATE TABLE dewey_watches (
        id text NOT NULL PRIMARY KEY,
        host text NOT NULL,
        pid integer NOT NULL,
        started_at timestamptz NOT NULL,
        beat_at timestamptz NOT NULL,
        stopped_at timestamptz,
        seen text NOT NULL
    );
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
