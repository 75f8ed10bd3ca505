"""Decide whether an error of a database means that it is unavailable for now, whatever the statement was.

PostgreSQL is judged by its SQLSTATE and SQLite by its result code. Anything else, such as a wrong statement or a row
that the database refuses, is no outage.
"""

import re
import sqlite3
from enum import Enum, auto
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

UNDEFINED_TABLE, LOCK_NOT_AVAILABLE = "42P01", "55P03"


class Fault(Enum):
    """What an error of PostgreSQL is about."""

    SERVER = auto()  # unavailable for now, whatever the statement was
    STATEMENT = auto()  # this statement or this session; it says nothing about a row
    ROW = auto()  # the values: others may be taken


#: By SQLSTATE, or by its class, which is its first two characters. What is not listed is about a row.
FAULTS = {
    "08": Fault.SERVER,  # connection
    "25": Fault.STATEMENT,  # transaction state
    "25006": Fault.SERVER,  # read_only_sql_transaction
    "28": Fault.STATEMENT,  # authorization
    "3D": Fault.STATEMENT,  # database name
    "40": Fault.SERVER,  # transaction rolled back by the server
    "42": Fault.STATEMENT,  # syntax, names, privileges
    "42501": Fault.SERVER,  # insufficient_privilege
    "42804": Fault.ROW,  # datatype_mismatch: a value of the wrong type for its column
    "42846": Fault.ROW,  # cannot_coerce
    "53": Fault.SERVER,  # out of resources
    "55": Fault.STATEMENT,  # object state
    "55006": Fault.SERVER,  # object_in_use
    LOCK_NOT_AVAILABLE: Fault.SERVER,
    "57": Fault.SERVER,  # operator intervention
    "58": Fault.SERVER,  # system error
    "XX": Fault.STATEMENT,  # internal error
}

#: A refused connection has no SQLSTATE. libpq writes the address first, and then what the server answered.
CONNECTION_REFUSED = re.compile(r"(?:^| failed: )\w+:  (.+)")
#: Users, hosts and databases: the answer may be shown without a sign-in.
NAMES = re.compile(r'"[^"]*"')


class Outage(NamedTuple):
    """`reason`: the server's own message in one line; None when the server cannot be reached."""

    reason: str | None


def find_outage(error: BaseException) -> Outage | None:
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


def find_fault(sqlstate: str) -> Fault:
    return FAULTS.get(sqlstate) or FAULTS.get(sqlstate[:2], Fault.ROW)


def postgresql_outage(error: psycopg2.Error) -> Outage | None:
    if error.pgcode:
        return Outage(first_line(error)) if find_fault(error.pgcode) is Fault.SERVER else None
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


def error_reason(error: Exception) -> str | None:
    """Return in one line why the database is unavailable; None when it cannot be reached."""
    if lacks_table(error):
        return "it lacks a table; run `flask migrate`"
    outage = find_outage(error)
    return outage.reason if outage else first_line(error)


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
