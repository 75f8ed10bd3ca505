"""Processing of a book: from its file to stored chapters.

Each chapter is one transaction with the book's progress. A run that was killed continues after the last stored chapter.
Ids depend on book and chapter number only, so a second run changes none.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict
from uuid import UUID, uuid5

from peewee import Case, Field, fn

from engine.database import database
from engine.exceptions import RunCancelled
from engine.models import now
from models import Book, BookFile, Chapter, owns_reading_tables
from reading.books.book import PARSER_VERSION, read_book
from reading.books.book import Book as SourceBook
from reading.books.book import Chapter as SourceChapter
from reading.books.errors import BookError
from reading.books.findings import Warning
from reading.files import FileStore

#: Shows the progress: chapters done, chapters in all, chapter title.
Report = Callable[[float, float, str], None]


class ProcessedBook(TypedDict):
    """The result of `process_book`."""

    book_id: str
    status: str
    chapters: int
    words: int
    minutes: int
    passages: int
    warnings: list[Warning]


class BookDeleted(Exception):
    """The book was deleted while it was processed."""


def process_book(
    book_id: UUID, files: FileStore, run_id: str, words_per_minute: Mapping[str, int], report: Report
) -> ProcessedBook:
    """Read a book's file and store its chapters. Raises BookError, BookDeleted, OSError and PeeweeException.

    A BookError and a cancel are recorded as the book's error. Other errors leave it to be processed again.
    """
    path = begin(book_id, files, run_id)
    try:
        if not path.exists():
            raise BookError("missing_file", f"{path.name} is not in {files.root}")
        book = read_book(path, words_per_minute=words_per_minute)
        # The first reading judges the whole book and counts. It is fast beside the second, which stores.
        total = sum(1 for _ in book.chapters())
        describe(book_id, book, total)
        for chapter in book.chapters():
            store_chapter(book_id, chapter, progress=99 * chapter.number // total)
            report(chapter.number, total, chapter.title)
        return complete(book_id, book, total)
    except BookError as error:
        fail(book_id, error.code, error.detail)
        raise
    except RunCancelled as cancel:
        fail(book_id, "cancelled", str(cancel))
        raise


def begin(book_id: UUID, files: FileStore, run_id: str) -> Path:
    """Record the start and return the path of the book's file."""
    changes = {"state": "processing", "run_id": run_id, "error_code": None, "error_detail": None, "finished_at": None}
    update(book_id, started_at=now(), **changes)
    return files.path(BookFile.get_by_id(book_id).sha256 or "")


def describe(book_id: UUID, book: SourceBook, total: int) -> None:
    """Store what the file says of itself. The row in `books` is changed only if the table is Dewey's own."""
    with database.atomic():
        update(
            book_id,
            format=book.format,
            encoding=book.encoding,
            language=book.language,
            chapters_total=total,
            **{name: value for name, value in (("title", book.title), ("author", book.author)) if value},
        )
        if book.title and owns_reading_tables():
            Book.update(title=book.title[:255], author=(book.author or "")[:255]).where(Book.id == book_id).execute()


def store_chapter(book_id: UUID, chapter: SourceChapter, progress: int) -> None:
    """Store one chapter with the book's progress. An equal chapter of the same reader version is left as it is."""
    digest = hashlib.sha256(chapter.content.encode()).hexdigest()
    values = {
        "title": chapter.title,
        "level": chapter.level,
        "source_ref": chapter.source_ref,
        "content": chapter.content,
        "content_sha256": digest,
        "characters": chapter.characters,
        "words": chapter.words,
        "minutes": chapter.minutes,
        "is_service_page": chapter.is_service_page,
        "parser_version": PARSER_VERSION,
        "processed_at": now(),
    }
    of_number = (Chapter.book == book_id) & (Chapter.number == chapter.number)
    with database.atomic():
        # First, because it locks the book: a deleted one ends the run here.
        update(
            book_id,
            chapters_done=greatest(BookFile.chapters_done, chapter.number),
            progress=greatest(BookFile.progress, progress),
        )
        stored = Chapter.select(Chapter.content_sha256, Chapter.parser_version).where(of_number).tuples().first()
        if stored is None:
            Chapter.insert(
                id=chapter_id(book_id, chapter.number), book=book_id, number=chapter.number, **values
            ).execute()
        elif stored != (digest, PARSER_VERSION):
            Chapter.update(values).where(of_number).execute()


def complete(book_id: UUID, book: SourceBook, total: int) -> ProcessedBook:
    """Record the end and delete the chapters that the file does not have."""
    with database.atomic():
        Chapter.delete().where((Chapter.book == book_id) & (Chapter.number > total)).execute()
        words, minutes = sum_figures(book_id)
        update(
            book_id,
            state="completed",
            progress=100,
            chapters_done=total,
            words=words,
            minutes=minutes,
            kept_share=book.kept_share,
            warnings=book.warnings,
            finished_at=now(),
        )
    return ProcessedBook(
        book_id=str(book_id),
        status="completed",
        chapters=total,
        words=words,
        minutes=minutes,
        passages=0,
        warnings=book.warnings,
    )


def sum_figures(book_id: UUID) -> tuple[int, int]:
    """Return the words and minutes of the stored chapters."""
    query = Chapter.select(fn.SUM(Chapter.words), fn.SUM(Chapter.minutes)).where(Chapter.book == book_id)
    words, minutes = query.scalar(as_tuple=True)
    return int(words or 0), int(minutes or 0)


def fail(book_id: UUID, code: str, detail: str) -> None:
    BookFile.update(state="failed", error_code=code, error_detail=detail, finished_at=now()).where(
        BookFile.book_id == book_id
    ).execute()


def update(book_id: UUID, **changes: object) -> None:
    """Raise BookDeleted if the row is gone."""
    if not BookFile.update(changes).where(BookFile.book_id == book_id).execute():
        raise BookDeleted(f"book {book_id} was deleted while it was processed")


def greatest(field: Field, value: int) -> Case:
    return Case(None, [(field < value, value)], field)


def chapter_id(book_id: UUID, number: int) -> UUID:
    return uuid5(book_id, str(number))
