"""Rows that the database refuses, such as a number out of range, while it takes the others."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg2

from engine.database import database
from engine.outages import driver_error

T = TypeVar("T")

#: What code raises that cannot make a row of what it was given.
UNUSABLE = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)

#: Classes of SQLSTATE that say nothing about a row: connection, transaction, permission, resources, the server itself.
OTHER_TROUBLE = ("08", "25", "28", "3D", "40", "42", "53", "55", "57", "58", "XX")
#: In class 42, which is otherwise about the statement: a value of the wrong type for its column.
WRONG_TYPE = ("42804", "42846")


def is_refusal(error: Exception) -> bool:
    """Whether the database refuses a row, or code cannot make one. False while the database is unavailable."""
    cause = driver_error(error)
    if isinstance(cause, psycopg2.Error):
        code = cause.pgcode
        if code is None:  # the driver itself has no form for the value, or the connection is lost
            return isinstance(cause, psycopg2.ProgrammingError)
        return code in WRONG_TYPE or code[:2] not in OTHER_TROUBLE
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.IntegrityError | sqlite3.DataError) or str(cause).startswith("Error binding")
    return isinstance(cause, UNUSABLE)


def refused(items: Sequence[T], write: Callable[[Sequence[T]], object]) -> list[tuple[T, Exception]]:
    """Write these together, or all of them that the database takes. Returns the others, each with its error.

    Runs in savepoints of the caller's transaction: what is refused is searched for by halves, in order.
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
    return [*refused(items[:middle], write), *refused(items[middle:], write)]
