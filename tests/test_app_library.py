"""The reading app's books and chapters: read as they are, written only where they have the columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from bookreader_schema import SCHEMA
from databases import bind_database
from reading_app import ReadingApp

from engine.database import database
from engine.migrations import migrate
from models import BookFile, Chapter
from reading.app_library import AppLibrary, Share
from reading.book_sources import BookDeleted
from reading.books.errors import BookError
from reading.files import FileStore
from reading.processing import Options, ProcessedBook, process_book

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
    assert [(chapter.number, chapter.title) for chapter in chapters] == [(1, "Chapter 1"), (2, "Chapter 2")]


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


# --- processing ----------------------------------------------------------------------------------------------

OPTIONS = Options(FileStore(Path("unused")), {"ru": 180, "en": 230}, share_with_app=True)


def process(book_id: UUID, *, shared: bool = True) -> ProcessedBook:
    return process_book(book_id, "run", OPTIONS._replace(share_with_app=shared), lambda *_: None)


def name_file(app: ReadingApp, folder: Path) -> None:
    path = folder / "story.fb2"
    path.write_text("Chapter 1\n\nThe best of times.\n\nChapter 2\n\nThe worst of times.\n")
    app.run(f"UPDATE books SET file_path = '{path}'")


def test_chapters_of_the_app_are_used_and_its_file_is_not_opened(app: ReadingApp, book_id: UUID) -> None:
    share = Share(AppLibrary(), book_id)
    for number in (1, 2):
        share.chapter(**CHAPTER | {"chapter_number": number, "title": f"{number}", "content": "The best of times."})
    before = rows("SELECT * FROM chapters ORDER BY chapter_number")
    result = process(book_id)
    assert (result["chapters"], result["words"], result["warnings"]) == (2, 8, [])
    assert [row.content for row in Chapter.select()] == ["The best of times."] * 2
    assert rows("SELECT * FROM chapters ORDER BY chapter_number") == before
    assert rows("SELECT is_parsed, is_processing, parsing_progress FROM books") == [(True, False, 100)]


def test_file_that_the_app_names_is_read_and_shared(app: ReadingApp, book_id: UUID, tmp_path: Path) -> None:
    name_file(app, tmp_path)
    assert process(book_id)["chapters"] == 2
    shared = rows("SELECT chapter_number, word_count, is_description_parsed FROM chapters ORDER BY 1")
    assert [number for number, *_ in shared] == [1, 2]
    before = rows("SELECT id, content FROM chapters ORDER BY chapter_number")
    process(book_id)
    assert rows("SELECT id, content FROM chapters ORDER BY chapter_number") == before


def test_nothing_of_the_app_is_written_unless_it_is_asked_for(app: ReadingApp, book_id: UUID, tmp_path: Path) -> None:
    name_file(app, tmp_path)
    before = rows("SELECT * FROM books")
    process(book_id, shared=False)
    assert (rows("SELECT * FROM books"), rows("SELECT count(*) FROM chapters")) == (before, [(0,)])
    assert Chapter.select().count() == 2


def test_refused_share_is_a_warning_and_the_book_is_completed(app: ReadingApp, book_id: UUID, tmp_path: Path) -> None:
    name_file(app, tmp_path)
    app.run("ALTER TABLE chapters ADD COLUMN mood text NOT NULL")
    assert [warning["code"] for warning in process(book_id)["warnings"]] == ["not_shared"]
    assert BookFile.get().state == "completed"
    assert rows("SELECT is_processing, is_parsed FROM books") == [(False, False)]


def test_missing_file_of_the_app_is_named_in_its_table(app: ReadingApp, book_id: UUID) -> None:
    with pytest.raises(BookError):
        process(book_id)
    assert rows("SELECT is_processing, left(parsing_error, 12) FROM books") == [(False, "missing_file")]


def test_app_without_chapters_and_columns_is_enough(app: ReadingApp, book_id: UUID, tmp_path: Path) -> None:
    name_file(app, tmp_path)
    app.run("DROP TABLE chapters; ALTER TABLE books DROP COLUMN language, DROP COLUMN parsing_error")
    assert process(book_id)["chapters"] == 2


def test_unknown_book_is_no_record(app: ReadingApp) -> None:
    with pytest.raises(BookDeleted):
        process(uuid4())
    assert BookFile.select().count() == 0


def test_interrupted_share_is_read_from_the_file_again(app: ReadingApp, book_id: UUID, tmp_path: Path) -> None:
    name_file(app, tmp_path)

    def die(*_progress: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        process_book(book_id, "run", OPTIONS, die)
    assert rows("SELECT count(*) FROM chapters") == [(1,)]
    assert process(book_id)["chapters"] == 2
