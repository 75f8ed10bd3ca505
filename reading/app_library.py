"""The reading app's own books and chapters, used as they are.

Columns are found, never assumed: versions of the app differ. Nothing is altered. Rows are written only if
`SHARE_WITH_APP` is set, only in columns that exist, and never against a constraint.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from peewee import ColumnMetadata, PeeweeException, Table

from engine.database import database
from engine.models import now
from engine.refusals import is_refusal
from models import Book

logger = logging.getLogger(__name__)


def db_id(value: UUID) -> str:
    """Return an id as the database stores it. A table without a model has no field that converts it."""
    return str(Book.id.db_value(value))


class AppTable:
    """A table of the reading app. `columns` is empty if the database has no such table."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: dict[str, ColumnMetadata] = (
            {column.name: column for column in database.get_columns(name)} if database.table_exists(name) else {}
        )
        self.table = Table(name).bind(database.obj)

    def fit(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return the values that have a column, cut to its length."""
        return {name: cut(value, self.columns[name]) for name, value in values.items() if name in self.columns}

    def unknown_required(self, values: Mapping[str, object]) -> str | None:
        """Return a column that needs a value and gets none."""
        required = (column for column in self.columns.values() if not column.null and column.default is None)
        return next((column.name for column in required if column.name not in values), None)


def cut(value: object, column: ColumnMetadata) -> object:
    length = re.search(r"\((\d+)\)", column.full_type or "") if isinstance(value, str) else None
    return value[: int(length[1])] if length and isinstance(value, str) else value


class AppBook(NamedTuple):
    """A book in the app's table `books`."""

    title: str
    author: str
    language: str | None
    file_path: str | None
    has_chapters: bool


class AppChapter(NamedTuple):
    number: int
    title: str
    content: str
    is_service_page: bool


class AppLibrary:
    """The app's tables `books` and `chapters`."""

    @cached_property
    def books(self) -> AppTable:
        return AppTable("books")

    @cached_property
    def chapters(self) -> AppTable:
        return AppTable("chapters")

    def find(self, book_id: UUID) -> AppBook | None:
        columns = [name for name in ("title", "author", "language", "file_path") if name in self.books.columns]
        table = self.books.table
        row = (
            table.select(*(getattr(table.c, name) for name in columns))
            .where(table.c.id == db_id(book_id))
            .dicts()
            .first()
        )
        if row is None:
            return None
        return AppBook(
            title=row.get("title") or "",
            author=row.get("author") or "",
            language=row.get("language"),
            file_path=row.get("file_path"),
            has_chapters=self.has_chapters(book_id),
        )

    def has_chapters(self, book_id: UUID) -> bool:
        if not {"book_id", "chapter_number", "content"} <= self.chapters.columns.keys():
            return False
        table = self.chapters.table
        return bool(table.select(table.c.book_id).where(table.c.book_id == db_id(book_id)).limit(1).tuples().first())

    def read_chapters(self, book_id: UUID) -> Iterator["AppChapter"]:
        """Yield the chapters in the order of their numbers, one row in memory at a time."""
        table = self.chapters.table
        numbers = table.select(table.c.chapter_number).where(table.c.book_id == db_id(book_id))
        for (number,) in list(numbers.order_by(table.c.chapter_number).tuples()):
            is_row = (table.c.book_id == db_id(book_id)) & (table.c.chapter_number == number)
            columns = [name for name in ("title", "content", "is_service_page") if name in self.chapters.columns]
            row = table.select(*(getattr(table.c, name) for name in columns)).where(is_row).dicts().first()
            if row is not None:  # else it was deleted meanwhile
                content, title = row["content"] or "", row.get("title") or ""
                yield AppChapter(number, title, content, bool(row.get("is_service_page")))


class Share:
    """Writes the results of one book into the app's tables, if `active`.

    No chapter is written after the first refusal: see `refused`.
    """

    def __init__(self, library: AppLibrary, book_id: UUID, active: bool = True) -> None:
        self.library, self.book_id, self.active = library, db_id(book_id), active
        self.refused: str | None = None
        self.has_own_chapters = False  # they stay as they are

    def state(self, **values: object) -> None:
        """Update the book's row: `parsing_progress, is_parsed, is_processing, parsing_error` and the like."""
        if not self.active:
            return
        table = self.library.books
        changes = table.fit({**values, "updated_at": now()})
        if changes.keys() - {"updated_at"}:
            self.write(lambda: table.table.update(**changes).where(table.table.c.id == self.book_id).execute())

    def chapter(self, **values: Any) -> None:
        """Insert or update a chapter by its number."""
        table = self.library.chapters
        if not self.active or self.has_own_chapters or self.refused:
            return
        if not {"id", "book_id", "chapter_number", "content"} <= table.columns.keys():
            return
        row = table.fit({**values, "updated_at": now(), "parsed_at": now()})
        new = table.fit({"id": db_id(uuid4()), "book_id": self.book_id, "created_at": now(), **row})
        if column := table.unknown_required(new):
            self.refuse(f"chapters.{column} needs a value that Dewey does not know")
            return
        own = table.table.c
        is_row = (own.book_id == self.book_id) & (own.chapter_number == values["chapter_number"])
        self.write(lambda: table.table.update(**row).where(is_row).execute() or table.table.insert(**new).execute())

    def write(self, statement: Any) -> None:
        try:
            with database.atomic():
                statement()
        except PeeweeException as error:
            if not is_refusal(error):
                raise
            self.refuse(str(error).splitlines()[0])

    def refuse(self, reason: str) -> None:
        if not self.refused:
            self.refused = reason
            logger.warning("Results of book %s are not shared with the reading app: %s", self.book_id, reason)
