"""Pages of long lists, newest first, and counts that stop at a limit."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar

from peewee import SQL, Field, IntegerField, Model, ModelSelect, Select, fn

from engine.database import database

COUNT_LIMIT = 10_000

Row = TypeVar("Row", bound=Model)
Key = TypeVar("Key")


class InvalidCursor(ValueError):
    """The cursor is not a position in this list."""


class Page(NamedTuple, Generic[Row]):
    """`older` is the cursor of the next page, None on the last one."""

    rows: list[Row]
    older: str | None


def fetch_page(query: "ModelSelect[Row]", at: Field, key: Field, size: int, before: str = "") -> Page[Row]:
    """Return the `size` rows of `query` after the cursor `before`, by `at` and then `key`, descending.

    A cursor holds time and key of the last row. So rows with equal times are neither skipped nor repeated, and new rows
    do not shift the pages. `query` must select both columns. Raises InvalidCursor.
    """
    if before:
        last_at, last_key = parse_cursor(before, parse_row_id if isinstance(key, IntegerField) else key.python_value)
        # The first half bounds the index. The second one handles rows with the same time.
        query = query.where((at <= last_at) & ((at < last_at) | (key < last_key)))
    rows = list(query.order_by(at.desc(), key.desc()).limit(size + 1))
    last = rows[size - 1] if len(rows) > size else None
    # A time that only the database can represent is None here, and ends the list.
    instant = last and getattr(last, at.name)
    return Page(rows[:size], f"{instant.isoformat()}_{getattr(last, key.name)}" if instant else None)


def parse_row_id(text: str) -> int:
    """Return the number, which both databases can compare. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError("not the id of a row")
    return int(text)


def parse_cursor(text: str, key_of: Callable[[str], Key]) -> tuple[datetime, Key]:
    instant, separator, key = text.partition("_")
    try:
        if not separator:
            raise ValueError("no key")
        if (at := datetime.fromisoformat(instant)).tzinfo is None:
            raise ValueError("no offset")
        return at.astimezone(UTC), key_of(key)
    except (ValueError, OverflowError) as error:  # also outside years 1 to 9999 in UTC
        raise InvalidCursor(f"{text!r} is not a position in this list") from error


def count_rows(**queries: "ModelSelect[Row]") -> dict[str, int]:
    """Return the row count of each query, in one statement. More than `COUNT_LIMIT` counts as `COUNT_LIMIT` + 1."""
    columns = []
    for name, query in queries.items():
        rows = query.select(SQL("1")).order_by().limit(COUNT_LIMIT + 1).alias(f"{name}_rows")
        columns.append(Select([rows], [fn.COUNT(SQL("1"))]).alias(name))
    return dict(next(iter(Select(columns=columns).bind(database).dicts())))
