"""The index for abandoned sessions. Apps that followed the earlier system's advice already have it."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import build_index

atomic = False


def up(migrator: SchemaMigrator, db: Database) -> None:
    build_index(
        db,
        "idx_reading_sessions_cleanup",
        "reading_sessions",
        "(is_active, started_at) WHERE is_active = true AND ended_at IS NULL",
    )
