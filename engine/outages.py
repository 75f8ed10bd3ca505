"""Decide whether an error of a database means that it is unavailable for now, whatever the statement was.

PostgreSQL is judged by its SQLSTATE and SQLite by its result code. Anything else, such as a wrong statement or a row
that the database refuses, is no outage.
"""

import re
import sqlite3
from typing import NamedTuple

import psycopg2
from peewee import PeeweeException

#: What a statement may raise: while rows are fetched, the drivers' own errors come through Peewee as they are.
DATABASE_ERRORS = (PeeweeException, sqlite3.Error, psycopg2.Error)

SQLITE_OUTAGES = frozenset(
    (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    )
)

#: Connection lost, transaction rolled back by the server, out of resources, operator intervention, system error.
SQLSTATE_CLASSES = ("08", "40", "53", "57", "58")
#: read_only_sql_transaction, insufficient_privilege, object_in_use, lock_not_available.
SQLSTATES = ("25006", "42501", "55006", "55P03")
UNDEFINED_TABLE = "42P01"

#: A refused connection has no SQLSTATE. libpq writes the address first, and then what the server answered.
CONNECTION_REFUSED = re.compile(r"(?:^| failed: )\w+:  (.+)")
#: Users, hosts and databases; whoever is refused a connection may be a stranger.
NAMES = re.compile(r'"[^"]*"')


class Outage(NamedTuple):
    """`reason`: the server's own message in one line; None when the server cannot be reached."""

    reason: str | None


def outage_of(error: BaseException) -> Outage | None:
    """The outage that this error shows; None where the fault is the statement's, or no database's at all."""
    cause = driver_error(error)
    if isinstance(cause, sqlite3.Error):
        return sqlite_outage(cause)
    return postgresql_outage(cause) if isinstance(cause, psycopg2.Error) else None


def driver_error(error: BaseException) -> BaseException:
    """The error inside Peewee's, which wraps one of connecting twice."""
    while cause := getattr(error, "orig", None):
        error = cause
    return error


def sqlite_outage(error: sqlite3.Error) -> Outage | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the extended codes have more bits
    if code not in SQLITE_OUTAGES:
        return None
    return Outage(None if code == sqlite3.SQLITE_CANTOPEN else first_line(error))


def postgresql_outage(error: psycopg2.Error) -> Outage | None:
    if state := error.pgcode:
        refused = state[:2] in SQLSTATE_CLASSES or state in SQLSTATES
        return Outage(first_line(error)) if refused else None
    # Without a state psycopg2 speaks for itself: of the connection, or of a call that makes no sense.
    if type(error) not in (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.DatabaseError):
        return None
    answer = CONNECTION_REFUSED.search(str(error))
    return Outage(answer and NAMES.sub('"…"', answer[1]))


def lacks_table(error: BaseException) -> bool:
    cause = driver_error(error)
    # SQLite has no code of its own for it.
    return getattr(cause, "pgcode", None) == UNDEFINED_TABLE or (
        isinstance(cause, sqlite3.OperationalError) and str(cause).startswith("no such table")
    )


def reason_of(error: Exception) -> str | None:
    """Return in one line why the database is unavailable; None when it cannot be reached."""
    if lacks_table(error):
        return "it lacks a table; run `flask migrate`"
    outage = outage_of(error)
    return outage.reason if outage else first_line(error)


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
