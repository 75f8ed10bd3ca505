"""Books that Dewey processes, their chapters and passages. No foreign key leads into the reading app's tables."""

from peewee import Database
from playhouse.migrate import SchemaMigrator

from engine.migrations import run_script

SCRIPT = """
    CREATE TABLE dewey_books (
        book_id {uuid} NOT NULL PRIMARY KEY,
        sha256 text,
        original_name text NOT NULL,
        format text,
        encoding text,
        language text,
        size_bytes bigint NOT NULL,
        title text NOT NULL,
        author text NOT NULL,
        state text NOT NULL,
        progress integer NOT NULL DEFAULT 0,
        error_code text,
        error_detail text,
        warnings text,
        kept_share double precision,
        chapters_total integer,
        chapters_done integer NOT NULL DEFAULT 0,
        words integer NOT NULL DEFAULT 0,
        minutes integer NOT NULL DEFAULT 0,
        passages integer NOT NULL DEFAULT 0,
        pictures integer NOT NULL DEFAULT 0,
        run_id text,
        requeued integer NOT NULL DEFAULT 0,
        added_by text NOT NULL,
        added_at timestamptz NOT NULL,
        started_at timestamptz,
        finished_at timestamptz
    );
    CREATE UNIQUE INDEX dewey_books_sha256 ON dewey_books (sha256);
    CREATE INDEX dewey_books_added ON dewey_books (added_at, book_id);
    CREATE INDEX dewey_books_state ON dewey_books (state, added_at, book_id);

    CREATE TABLE dewey_chapters (
        id {uuid} NOT NULL PRIMARY KEY,
        book_id {uuid} NOT NULL REFERENCES dewey_books (book_id) ON DELETE CASCADE,
        number integer NOT NULL,
        title text NOT NULL,
        level integer NOT NULL,
        source_ref text NOT NULL,
        content text NOT NULL,
        content_sha256 text NOT NULL,
        characters integer NOT NULL,
        words integer NOT NULL,
        minutes integer NOT NULL,
        is_service_page boolean NOT NULL,
        passages integer NOT NULL DEFAULT 0,
        parser_version integer NOT NULL,
        processed_at timestamptz NOT NULL
    );
    CREATE UNIQUE INDEX dewey_chapters_number ON dewey_chapters (book_id, number);

    ALTER TABLE dewey_workers ADD COLUMN book_folder text;

    CREATE TABLE dewey_passages (
        id {uuid} NOT NULL PRIMARY KEY,
        chapter_id {uuid} NOT NULL REFERENCES dewey_chapters (id) ON DELETE CASCADE,
        type text NOT NULL,
        content text NOT NULL,
        position_start integer NOT NULL,
        position_end integer NOT NULL,
        words integer NOT NULL,
        confidence double precision NOT NULL,
        priority double precision NOT NULL
    );
    CREATE UNIQUE INDEX dewey_passages_place ON dewey_passages (chapter_id, position_start);
"""


def up(migrator: SchemaMigrator, db: Database) -> None:
    run_script(db, SCRIPT)
