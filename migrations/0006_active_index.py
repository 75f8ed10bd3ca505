"""The index for listing and counting active sessions, newest first, page by page."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import build_index

atomic = False


def up(migrator: SchemaMigrator, db: Database) -> None:
    build_index(
        db,
        "idx_reading_sessions_active",
        "reading_sessions",
        "(started_at, id) WHERE is_active = true",
    )
