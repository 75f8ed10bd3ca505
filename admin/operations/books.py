"""Queries and actions for books and their chapters."""

from contextlib import suppress
from datetime import datetime
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from flask import abort
from flask_babel import gettext as _
from peewee import IntegrityError
from werkzeug.exceptions import RequestEntityTooLarge

import tasks
from admin import audit_log
from admin.auth.access import deny
from admin.auth.identity import Actor
from admin.operations.queries import Cursor, Limit, register_query
from admin.operations.registry import ActionResult, register_action
from admin.problems import ConflictError, InvalidInput
from config import settings
from engine.broker.messages import Requester
from engine.control.runs import Result, cancel_run, run_task
from engine.database import database
from engine.exceptions import BrokerUnavailable, InvalidState
from engine.search import pagination
from models import Book, BookFile, Chapter, Passage, ReadingSession, owns_reading_tables
from reading.app_library import AppLibrary
from reading.book_sources import BookDeleted, adopt_book
from reading.files import IncomingFile, book_files

PROCESS = tasks.process_book.task_class.__name__
MAX_TITLE = 255


class ProblemOfBook(NamedTuple):
    code: str
    detail: str | None


class BookRow(NamedTuple):
    """A book. `progress` is in percent, `error` is set if it failed."""

    id: UUID
    title: str
    author: str
    language: str | None
    format: str | None
    encoding: str | None
    size_bytes: int
    sha256: str | None
    state: str
    progress: int
    chapters_total: int | None
    chapters_done: int
    words: int
    minutes: int
    passages: int
    pictures: int
    warnings: list[dict[str, Any]]
    error: ProblemOfBook | None
    run_id: str | None
    kept_share: float | None
    added_at: datetime
    finished_at: datetime | None


class ChapterRow(NamedTuple):
    number: int
    title: str
    level: int
    characters: int
    words: int
    minutes: int
    is_service_page: bool
    passages: int


class ChapterText(NamedTuple):
    """A chapter with all of its text."""

    number: int
    title: str
    level: int
    characters: int
    words: int
    minutes: int
    is_service_page: bool
    passages: int
    content: str


class Books(NamedTuple):
    books: list[BookRow]
    next: str | None


class Chapters(NamedTuple):
    chapters: list[ChapterRow]


class PassageRow(NamedTuple):
    """A passage: `content` is the `content[start:end]` of its chapter. `chapter` is the chapter's number."""

    id: UUID
    chapter: int
    type: str
    content: str
    start: int
    end: int
    words: int
    confidence: float
    priority: float
    picture_id: UUID | None


class Passages(NamedTuple):
    passages: list[PassageRow]


class AddedBook(NamedTuple):
    """`run_id` is None if the broker is unavailable. The book then waits for `requeue_stuck_books`."""

    book: BookRow
    run_id: str | None
    duplicate: bool


# --- queries -------------------------------------------------------------------------------------------------


@register_query(
    "books.list", "/books", columns=("id", "title", "author", "state", "progress", "chapters_done", "words")
)
def list_books(
    state: Literal["", "queued", "processing", "completed", "failed"] = "", before: Cursor = "", limit: Limit = 30
) -> Books:
    """List books, the newest first."""
    query = BookFile.select()
    if state:
        query = query.where(BookFile.state == state)
    try:
        page = pagination.fetch_page(query, BookFile.added_at, BookFile.book_id, limit, before)
    except pagination.InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error
    return Books([book_row(book) for book in page.rows], page.older)


@register_query("books.show", "/books/{book_id}")
def show_book(book_id: UUID) -> BookRow:
    """Show a book with its figures."""
    return book_row(get_book(book_id))


@register_query(
    "books.chapters", "/books/{book_id}/chapters", columns=("number", "title", "words", "minutes", "is_service_page")
)
def list_chapters(book_id: UUID) -> Chapters:
    """List the chapters of a book in reading order, without their text."""
    get_book(book_id)
    columns = [getattr(Chapter, name) for name in ChapterRow._fields]
    rows = Chapter.select(*columns).where(Chapter.book == book_id).order_by(Chapter.number)
    return Chapters([ChapterRow(**{name: row.__data__[name] for name in ChapterRow._fields}) for row in rows])


@register_query("books.chapter", "/books/{book_id}/chapters/{number}")
def show_chapter(book_id: UUID, number: int) -> ChapterText:
    """Show a chapter with its text."""
    get_book(book_id)
    columns = [getattr(Chapter, name) for name in ChapterText._fields]
    row = Chapter.select(*columns).where((Chapter.book == book_id) & (Chapter.number == number)).tuples().first()
    if row is None:
        abort(404, _("This book has no chapter with this number."))
    return ChapterText(*row)


@register_query(
    "books.passages", "/books/{book_id}/passages", columns=("chapter", "type", "words", "confidence", "priority")
)
def list_passages(
    book_id: UUID,
    type: Literal["", "location", "character", "atmosphere"] = "",
    min_priority: Annotated[int, {"minimum": 0, "maximum": 100}] = 0,
) -> Passages:
    """List the passages of a book that are worth a picture, in reading order."""
    get_book(book_id)
    query = Passage.select(Passage, Chapter.number).join(Chapter).where(Chapter.book == book_id)
    query = query.where(Passage.type == type) if type else query
    rows = query.where(Passage.priority >= min_priority).order_by(Chapter.number, Passage.position_start)
    return Passages([passage_row(row) for row in rows])


def passage_row(row: Passage) -> PassageRow:
    return PassageRow(
        id=row.id,
        chapter=row.chapter.number,
        type=row.type,
        content=row.content,
        start=row.position_start,
        end=row.position_end,
        words=row.words,
        confidence=row.confidence,
        priority=row.priority,
        picture_id=None,
    )


def get_book(book_id: UUID) -> BookFile:
    return BookFile.get_or_none(BookFile.book_id == book_id) or abort(404, _("No book with this id."))


def book_row(book: BookFile) -> BookRow:
    columns = {name: book.__data__[name] for name in BookRow._fields if name in book.__data__}
    error = ProblemOfBook(book.error_code, book.error_detail) if book.error_code else None
    return BookRow(**columns | {"id": book.book_id, "warnings": book.warnings or [], "error": error})


# --- actions -------------------------------------------------------------------------------------------------


def add_file(actor: Actor, file: IncomingFile, name: str, book: Book | None = None) -> AddedBook:
    """Add a received file as a book and enqueue its processing. A file that is already there is a duplicate.

    `book` is its row in `books`. A new one has the file's name as its title until the title is read. This is not in the
    table of actions, whose arguments are JSON. Raises ForbiddenError, ConflictError and RequestEntityTooLarge.
    """
    if not actor.may("operator"):
        raise deny(actor, "operator", "books.add", name)
    if not owns_reading_tables():
        raise ConflictError(_("Books can be added only to tables that Dewey created."))
    if file.size > settings.books_max_mb << 20:
        raise RequestEntityTooLarge(_("The file must be at most %(most)s MiB large.", most=settings.books_max_mb))
    try:
        with database.atomic():
            book_id = create_rows(actor, file, name, book or Book(title=title_from_name(name), author=""))
            book_files.keep(file)
    except IntegrityError:
        return duplicate_of(actor, file)
    run_id = enqueue(book_id, actor.requester)
    return AddedBook(show_book(book_id), run_id, duplicate=False)


def title_from_name(name: str) -> str:
    return (PurePath(name).stem or name)[:MAX_TITLE]


def create_rows(actor: Actor, file: IncomingFile, name: str, book: Book) -> UUID:
    """Return the book's id. Raises IntegrityError if the file is already there."""
    BookFile.create(
        book_id=book.id,
        sha256=file.sha256,
        original_name=name,
        size_bytes=file.size,
        title=book.title,
        author=book.author,
        state="queued",
        added_by=actor.name,
    )
    Book.insert(id=book.id, title=book.title, author=book.author).on_conflict_ignore().execute()
    audit_log.write_entry(actor, "books.add", target=str(book.id), after={"name": name, "sha256": file.sha256})
    return UUID(str(book.id))


def duplicate_of(actor: Actor, file: IncomingFile) -> AddedBook:
    """Return the book that has this file. A missing file is restored, and a book that failed for it is processed."""
    book = BookFile.get(BookFile.sha256 == file.sha256)
    if not book_files.path(file.sha256).exists():
        book_files.keep(file)
    if book.error_code == "missing_file":
        set_queued(book.book_id)
        enqueue(book.book_id, actor.requester)
        book = get_book(book.book_id)
    return AddedBook(book_row(book), book.run_id, duplicate=True)


def enqueue(book_id: UUID, requester: Requester) -> str | None:
    """Enqueue the processing and return the run's id. None if the broker is unavailable."""
    try:
        run = run_task(tasks.queues, PROCESS, kwargs={"book_id": str(book_id)}, by=requester)
    except BrokerUnavailable:
        return None
    BookFile.update(run_id=run.id).where(BookFile.book_id == book_id).execute()
    return str(run.id)


@register_action("books.process", "operator", in_transaction=False)
def process_book(actor: Actor, book_id: UUID) -> ActionResult[Result]:
    """Process a book again. Chapters keep their ids."""
    book = BookFile.get_or_none(BookFile.book_id == book_id) or adopt(book_id)
    before = {"state": book.state, "error": book.error_code}
    set_queued(book_id)
    run = run_task(tasks.queues, PROCESS, kwargs={"book_id": str(book_id)}, by=actor.requester)
    return ActionResult(run, str(book_id), before=before, after={"run_id": run.id})


def set_queued(book_id: UUID) -> None:
    """Call this before the run exists: a worker may be faster. Without a run `requeue_stuck_books` finds the book."""
    queued = {"state": "queued", "requeued": 0, "error_code": None, "error_detail": None}
    BookFile.update(queued).where((BookFile.book_id == book_id) & (BookFile.state != "processing")).execute()


def adopt(book_id: UUID) -> BookFile:
    """Return a new record of a book that the reading app has added."""
    try:
        return adopt_book(book_id, AppLibrary())
    except BookDeleted:
        abort(404, _("No book with this id."))


@register_action("books.delete", "admin", danger=True, in_transaction=False)
def delete_book(actor: Actor, book_id: UUID) -> ActionResult[None]:
    """Delete a book with its chapters and its file. Its reading sessions stay."""
    book = get_book(book_id)
    if book.run_id:
        with suppress(InvalidState):  # it has ended
            cancel_run(tasks.queues, book.run_id, actor.requester)
    with database.atomic():
        BookFile.delete().where(BookFile.book_id == book_id).execute()
        if owns_reading_tables() and not ReadingSession.select().where(ReadingSession.book == book_id).exists():
            Book.delete().where(Book.id == book_id).execute()
        # Inside the transaction: an upload of the same file waits for its end, and then stores the file again.
        if book.sha256:
            book_files.delete(book.sha256)
    return ActionResult(target=str(book_id), before={"title": book.title, "state": book.state})
