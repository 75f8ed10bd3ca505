"""Rows that the database rejects, such as a number out of range, while it accepts others."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg2

from engine.database import database
from engine.outages import Fault, driver_error, find_fault

T = TypeVar("T")

#: Errors of code that cannot build a row from its input.
UNUSABLE = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)


def is_refusal(error: Exception) -> bool:
    """True if the database rejects a row, or code cannot build it. False while the database is unavailable."""
    cause = driver_error(error)
    if isinstance(cause, psycopg2.Error):
        if cause.pgcode is None:  # the driver has no form for the value, or the connection is lost
            return isinstance(cause, psycopg2.ProgrammingError)
        return find_fault(cause.pgcode) is Fault.ROW
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.IntegrityError | sqlite3.DataError) or str(cause).startswith("Error binding")
    return isinstance(cause, UNUSABLE)


def write_each(items: Sequence[T], write: Callable[[Sequence[T]], object]) -> list[tuple[T, Exception]]:
    """Write these items together, or all that the database accepts. Returns the others, each with its error.

    Runs in savepoints of the caller's transaction. Rejected items are found by bisection, in order.
    """
    if not items:
        return []
    try:
        with database.atomic():
            write(items)
        return []
    except Exception as error:
        if not is_refusal(error):
            raise
        if len(items) == 1:
            return [(items[0], error)]
    middle = len(items) // 2
    return [*write_each(items[:middle], write), *write_each(items[middle:], write)]
