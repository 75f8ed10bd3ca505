"""The index for recently ended sessions, in order, including those that ended but are still marked active.

It leaves out the columns that the statistics add up, which a reading app updates while a reader reads. PostgreSQL
updates a row in place (HOT) only if no index contains a changed column.
"""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import build_index

atomic = False


def up(migrator: SchemaMigrator, db: Database) -> None:
    build_index(
        db,
        "idx_reading_sessions_statistics",
        "reading_sessions",
        "(is_active, ended_at, id) WHERE ended_at IS NOT NULL",
    )
