"""The reading app's books and chapters: read as they are, written only where they have the columns."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from bookreader_schema import SCHEMA
from databases import bind_database
from reading_app import ReadingApp

from engine.database import database
from engine.migrations import migrate
from reading.app_library import AppLibrary, Share

CHAPTER = {
    "chapter_number": 1,
    "title": "T" * 600,
    "content": "Text.",
    "word_count": 1,
    "estimated_reading_time": 1,
    "is_description_parsed": True,
    "descriptions_found": 0,
    "parsing_progress": 100,
    "is_service_page": False,
}
BOOK = """
INSERT INTO users VALUES ('{user}', 'reader@example.org');
INSERT INTO books VALUES ('{book}', '{user}', 'A Title', NULL, 'other', 'en', '/nowhere.epub', 'epub', 1, NULL,
    NULL, NULL, 1, 1, false, false, 0, NULL, now(), now(), NULL);
"""


@pytest.fixture
def app(fresh_postgresql: str) -> Iterator[ReadingApp]:
    app = ReadingApp(fresh_postgresql)
    app.run(SCHEMA)
    with bind_database(fresh_postgresql):
        migrate()
        yield app


@pytest.fixture
def book_id(app: ReadingApp) -> UUID:
    book_id = uuid4()
    app.run(BOOK.format(user=uuid4(), book=book_id))
    return book_id


def rows(query: str) -> list[Any]:
    return list(database.execute_sql(query).fetchall())


def test_book_is_found_with_the_columns_that_exist(app: ReadingApp, book_id: UUID) -> None:
    book = AppLibrary().find(book_id)
    assert book == ("A Title", "", "en", "/nowhere.epub", False)
    assert AppLibrary().find(uuid4()) is None
    app.run("ALTER TABLE books DROP COLUMN language, DROP COLUMN file_path")
    assert AppLibrary().find(book_id) == ("A Title", "", None, None, False)


def test_chapters_are_read_in_their_order(app: ReadingApp, book_id: UUID) -> None:
    share = Share(AppLibrary(), book_id)
    for number in (2, 1):
        share.chapter(**CHAPTER | {"chapter_number": number, "title": f"Chapter {number}"})
    assert share.refused is None
    book = AppLibrary().find(book_id)
    assert book and book.has_chapters
    chapters = list(AppLibrary().read_chapters(book_id))
    assert [(chapter["number"], chapter["title"]) for chapter in chapters] == [(1, "Chapter 1"), (2, "Chapter 2")]


def test_shared_chapter_is_updated_and_fits_its_columns(app: ReadingApp, book_id: UUID) -> None:
    share = Share(AppLibrary(), book_id)
    share.chapter(**CHAPTER)
    share.chapter(**CHAPTER | {"content": "Other text."})
    assert rows("SELECT content, length(title) FROM chapters") == [("Other text.", 500)]


def test_shared_state_changes_only_columns_that_exist(app: ReadingApp, book_id: UUID) -> None:
    app.run("ALTER TABLE books DROP COLUMN is_processing")
    share = Share(AppLibrary(), book_id)
    share.state(parsing_progress=40, is_processing=True, is_parsed=False)
    assert rows("SELECT parsing_progress, is_parsed, title FROM books") == [(40, False, "A Title")]


def test_refused_value_becomes_a_warning_and_the_rest_of_the_transaction_stays(app: ReadingApp, book_id: UUID) -> None:
    share = Share(AppLibrary(), book_id)
    with database.atomic():
        database.execute_sql("UPDATE users SET email = 'other@example.org'")
        share.state(parsing_progress=101)
    assert share.refused and "parsing_progress" in share.refused
    assert rows("SELECT email FROM users") == [("other@example.org",)]


def test_unknown_required_column_is_named_and_nothing_is_written(app: ReadingApp, book_id: UUID) -> None:
    app.run("ALTER TABLE chapters ADD COLUMN mood text NOT NULL")
    share = Share(AppLibrary(), book_id)
    share.chapter(**CHAPTER)
    assert share.refused == "chapters.mood needs a value that Dewey does not know"
    assert rows("SELECT count(*) FROM chapters") == [(0,)]
