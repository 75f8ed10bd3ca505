"""Error groups, and the group of each attempt and run.

Each statement may be repeated, so an interrupted migration can be resumed.
"""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import build_index, run_script, table_exists

atomic = False

SCRIPT = """
    CREATE TABLE dewey_errors (
        id text NOT NULL PRIMARY KEY,
        task text NOT NULL,
        exception text NOT NULL,
        place text NOT NULL,
        code text NOT NULL,
        message text NOT NULL,
        first_seen_at timestamptz NOT NULL,
        first_version text,
        last_seen_at timestamptz NOT NULL,
        last_version text,
        state text NOT NULL,
        resolved_at timestamptz,
        resolved_by text,
        regressed_at timestamptz,
        snoozed_until timestamptz,
        snoozed_by text
    )
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    if not table_exists(db, "dewey_errors"):
        run_script(db, SCRIPT)
    build_index(db, "dewey_errors_last", "dewey_errors", "(last_seen_at, id)")
    for table in ("dewey_runs", "dewey_attempts"):
        if "error_group" not in [column.name for column in db.get_columns(table)]:
            db.execute_sql(f"ALTER TABLE {table} ADD COLUMN error_group text")
    grouped = "WHERE error_group IS NOT NULL"
    build_index(db, "dewey_runs_error", "dewey_runs", f"(error_group, enqueued_at, id) {grouped}")
    build_index(db, "dewey_attempts_error", "dewey_attempts", f"(error_group, ended_at) {grouped}")
