"""The index that finds the sessions that ended lately, in order, and the odd one that ended and is still active.

It does not hold the columns that the statistics add up: a reading app writes them again and again while somebody
reads, and PostgreSQL updates a row in place (HOT) only while no index mentions a changed column.
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
