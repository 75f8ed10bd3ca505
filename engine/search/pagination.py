"""Long lists, newest first, one page at a time; and how long a list is, without counting further than anyone reads."""

from collections.abc import Callable
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from peewee import SQL, Field, Model, ModelSelect, Select, fn

from engine.database import database

COUNT_LIMIT = 10_000

Row = TypeVar("Row", bound=Model)
Key = TypeVar("Key")


class InvalidCursor(ValueError):
    """The place to go on from names no place in this list."""


class Page(NamedTuple, Generic[Row]):
    """`older` is what to ask the next page with, None on the last one."""

    rows: list[Row]
    older: str | None


def fetch_page(query: "ModelSelect[Row]", at: Field, key: Field, size: int, before: str = "") -> Page[Row]:
    """The `size` rows of `query` after the place `before`, ordered by the instant `at` and then by `key`, descending.

    A place is the last row's instant and key, so rows of one instant are neither skipped nor shown twice, and rows
    that came since do not push the others along. `query` must select both columns. Raises InvalidCursor.
    """
    if before:
        last_at, last_key = parse_cursor(before, key.python_value)
        # The first half alone bounds the index; the second settles rows of that instant.
        query = query.where((at <= last_at) & ((at < last_at) | (key < last_key)))
    rows = list(query.order_by(at.desc(), key.desc()).limit(size + 1))
    last = rows[size - 1] if len(rows) > size else None
    # An instant that only the database can express is None here; the list ends where those begin.
    instant = last and getattr(last, at.name)
    return Page(rows[:size], f"{instant.isoformat()}_{getattr(last, key.name)}" if instant else None)


def parse_cursor(text: str, key_of: Callable[[str], Key]) -> tuple[datetime, Key]:
    instant, separator, key = text.partition("_")
    try:
        if not separator:
            raise ValueError("no key")
        if (at := datetime.fromisoformat(instant)).tzinfo is None:
            raise ValueError("no offset")
        return at, key_of(key)
    except ValueError as error:
        raise InvalidCursor(f"{text!r} is no place in this list") from error


def count_rows(**queries: "ModelSelect[Row]") -> dict[str, int]:
    """How many rows each query has, in one statement; `COUNT_LIMIT` + 1 stands for more than that."""
    columns = []
    for name, query in queries.items():
        rows = query.select(SQL("1")).order_by().limit(COUNT_LIMIT + 1).alias(f"{name}_rows")
        columns.append(Select([rows], [fn.COUNT(SQL("1"))]).alias(name))
    return dict(next(iter(Select(columns=columns).bind(database).dicts())))
