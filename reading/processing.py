"""Processing of a book: from its file to stored chapters.

Each chapter is one transaction with the book's progress. A run that was killed continues after the last stored chapter.
Ids depend on book and chapter number only, so a second run changes none.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypedDict
from uuid import UUID

from peewee import Case, Field

from engine.database import database
from engine.exceptions import RunCancelled
from engine.models import now
from models import Book, BookFile, owns_reading_tables
from reading import chapters
from reading.app_library import AppLibrary, Share
from reading.book_sources import AppChapters, BookDeleted, Source, adopt_book, open_source
from reading.books.book import Chapter as SourceChapter
from reading.books.errors import BookError
from reading.books.findings import Warning
from reading.files import FileStore
from reading.passages import find_passages

#: Length of title and author in Dewey's own `books`.
MAX_NAME = 255

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


class Options(NamedTuple):
    """How books are processed. `share_with_app`: write results into the reading app's own tables too."""

    files: FileStore
    words_per_minute: Mapping[str, int]
    share_with_app: bool = False


def process_book(book_id: UUID, run_id: str, options: Options, report: Report) -> ProcessedBook:
    """Read a book and store its chapters. Raises BookError, BookDeleted, OSError and PeeweeException.

    A BookError and a cancel are recorded as the book's error. Other errors leave it to be processed again.
    """
    library = AppLibrary()
    share = Share(library, book_id, active=options.share_with_app and not owns_reading_tables())
    record = begin(book_id, library, share, run_id)
    try:
        book = open_source(record, options.files, library, options.words_per_minute)
        share.has_own_chapters = isinstance(book, AppChapters)
        # The first reading judges the whole book and counts. It is fast beside the second, which stores.
        total = sum(1 for _ in book.chapters())
        describe(book_id, book, total)
        for chapter in book.chapters():
            store_chapter(book_id, chapter, book.language or "", share, progress=99 * chapter.number // total)
            report(chapter.number, total, chapter.title)
        return complete(book_id, book, total, share)
    except BookError as error:
        fail(book_id, error.code, error.detail, share)
        raise
    except RunCancelled as cancel:
        fail(book_id, "cancelled", str(cancel), share)
        raise


def begin(book_id: UUID, library: AppLibrary, share: Share, run_id: str) -> BookFile:
    """Record the start. A book that the reading app has added itself gets its record here."""
    record = BookFile.get_or_none(BookFile.book_id == book_id) or adopt_book(book_id, library)
    changes = {"state": "processing", "run_id": run_id, "error_code": None, "error_detail": None, "finished_at": None}
    with database.atomic():
        update(book_id, started_at=now(), **changes)
        share.state(is_processing=True, is_parsed=False, parsing_error=None)
    return record


def describe(book_id: UUID, book: Source, total: int) -> None:
    """Store what the file says of itself. The row in `books` is changed only if the table is Dewey's own."""
    title, author = book.title or "", book.author or ""
    with database.atomic():
        update(
            book_id,
            format=book.format,
            encoding=book.encoding,
            language=book.language,
            chapters_total=total,
            **{name: value for name, value in (("title", title), ("author", author)) if value},
        )
        if title and owns_reading_tables():
            own = {"title": title[:MAX_NAME], **({"author": author[:MAX_NAME]} if author else {})}
            Book.update(own).where(Book.id == book_id).execute()


def store_chapter(book_id: UUID, chapter: SourceChapter, language: str, share: Share, progress: int) -> None:
    """Store one chapter and its passages with the book's progress. An equal stored chapter is left as it is."""
    is_stored = chapters.is_stored(book_id, chapter)
    passages = [] if is_stored or chapter.is_service_page else find_passages(chapter.content, language)
    with database.atomic():
        # First, because it locks the book: a deleted one ends the run here.
        update(
            book_id,
            chapters_done=greatest(BookFile.chapters_done, chapter.number),
            progress=greatest(BookFile.progress, progress),
        )
        if not is_stored:
            chapters.write(book_id, chapter, passages)
        share_chapter(chapter, share, progress)


def share_chapter(chapter: SourceChapter, share: Share, progress: int) -> None:
    share.state(parsing_progress=progress)
    share.chapter(
        chapter_number=chapter.number,
        title=chapter.title,
        content=chapter.content,
        word_count=chapter.words,
        estimated_reading_time=chapter.minutes,
        is_description_parsed=False,
        descriptions_found=0,
        parsing_progress=100,
        is_service_page=chapter.is_service_page,
    )


def complete(book_id: UUID, book: Source, total: int, share: Share) -> ProcessedBook:
    """Record the end and delete the chapters that the file does not have."""
    with database.atomic():
        chapters.delete_after(book_id, total)
        words, minutes, passages = chapters.sum_figures(book_id)
        share.state(
            is_parsed=not share.refused,
            is_processing=False,
            parsing_progress=100,
            estimated_reading_time=minutes,
            parsing_error=share.refused,
        )
        warnings = [*book.warnings, *share_warnings(share)]
        update(
            book_id,
            state="completed",
            progress=100,
            chapters_done=total,
            words=words,
            minutes=minutes,
            passages=passages,
            kept_share=book.kept_share,
            warnings=warnings,
            finished_at=now(),
        )
    return ProcessedBook(
        book_id=str(book_id),
        status="completed",
        chapters=total,
        words=words,
        minutes=minutes,
        passages=passages,
        warnings=warnings,
    )


def share_warnings(share: Share) -> list[Warning]:
    return [{"code": "not_shared", "detail": share.refused}] if share.refused else []


def fail(book_id: UUID, code: str, detail: str, share: Share | None = None) -> None:
    changes = {"state": "failed", "error_code": code, "error_detail": detail, "finished_at": now()}
    with database.atomic():
        BookFile.update(changes).where(BookFile.book_id == book_id).execute()
        if share:
            share.state(is_processing=False, parsing_error=f"{code}: {detail}")


def update(book_id: UUID, **changes: object) -> None:
    """Raise BookDeleted if the row is gone."""
    if not BookFile.update(changes).where(BookFile.book_id == book_id).execute():
        raise BookDeleted(f"book {book_id} was deleted while it was processed")


def greatest(field: Field, value: int) -> Case:
    return Case(None, [(field < value, value)], field)
