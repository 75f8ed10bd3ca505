"""The reading app's three tables, created only if missing. Created ones are listed in dewey_own_tables."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script, table_exists

USERS = """
    CREATE TABLE users (
        id {uuid} NOT NULL PRIMARY KEY,
        email varchar(255) NOT NULL
    );
    CREATE UNIQUE INDEX users_email ON users (email);
"""

BOOKS = """
    CREATE TABLE books (
        id {uuid} NOT NULL PRIMARY KEY,
        title varchar(255) NOT NULL,
        author varchar(255) NOT NULL
    );
"""

READING_SESSIONS = """
    CREATE TABLE reading_sessions (
        id {uuid} NOT NULL PRIMARY KEY,
        user_id {uuid} NOT NULL REFERENCES users (id),
        book_id {uuid} NOT NULL REFERENCES books (id),
        started_at timestamptz NOT NULL,
        ended_at timestamptz,
        duration_minutes integer NOT NULL DEFAULT 0,
        start_position integer NOT NULL DEFAULT 0,
        end_position integer NOT NULL DEFAULT 0,
        pages_read integer NOT NULL DEFAULT 0,
        device_type varchar(50),
        is_active boolean NOT NULL DEFAULT true,
        created_at timestamptz NOT NULL DEFAULT {now}
    );
    CREATE INDEX reading_sessions_user_id ON reading_sessions (user_id);
    CREATE INDEX reading_sessions_book_id ON reading_sessions (book_id);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, "CREATE TABLE dewey_own_tables (name text NOT NULL PRIMARY KEY)")
    for name, script in (("users", USERS), ("books", BOOKS), ("reading_sessions", READING_SESSIONS)):
        if not table_exists(db, name):
            run_script(db, script)
            run_script(db, f"INSERT INTO dewey_own_tables (name) VALUES ('{name}')")
