"""Decides if a database error means an outage, whatever the statement was.

PostgreSQL is judged by SQLSTATE, SQLite by its result code. Any other error, such as a wrong statement or a rejected
row, is no outage.
"""

import re
import sqlite3
from enum import Enum, auto
from typing import NamedTuple

import psycopg2
from peewee import PeeweeException

#: Errors of a statement. While rows are fetched, Peewee passes the drivers' own errors on.
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
    SERVER = auto()  # unavailable for now, whatever the statement was
    STATEMENT = auto()  # this statement or this session, not a row
    ROW = auto()  # the values: other rows may be accepted


#: By SQLSTATE or its class, the first two characters. Unlisted ones concern a row.
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

#: A refused connection has no SQLSTATE. libpq writes the address first, then the server's answer.
CONNECTION_REFUSED = re.compile(r"(?:^| failed: )\w+:  (.+)")
#: Users, hosts and databases: the answer may be shown without a sign-in.
NAMES = re.compile(r'"[^"]*"')


class Outage(NamedTuple):
    """`reason`: the server's own message in one line, None if the server cannot be reached."""

    reason: str | None


def find_outage(error: BaseException) -> Outage | None:
    cause = driver_error(error)
    if isinstance(cause, sqlite3.Error):
        return sqlite_outage(cause)
    return postgresql_outage(cause) if isinstance(cause, psycopg2.Error) else None


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's error inside Peewee's, which wraps connection errors twice."""
    while cause := getattr(error, "orig", None):
        error = cause
    return error


def sqlite_outage(error: sqlite3.Error) -> Outage | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # extended codes have more bits
    if code not in SQLITE_OUTAGES:
        return None
    return Outage(None if code == sqlite3.SQLITE_CANTOPEN else first_line(error))


def find_fault(sqlstate: str) -> Fault:
    return FAULTS.get(sqlstate) or FAULTS.get(sqlstate[:2], Fault.ROW)


def postgresql_outage(error: psycopg2.Error) -> Outage | None:
    if error.pgcode:
        return Outage(first_line(error)) if find_fault(error.pgcode) is Fault.SERVER else None
    # Without a SQLSTATE the error is psycopg2's own: a lost connection or a wrong call.
    if type(error) not in (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.DatabaseError):
        return None
    answer = CONNECTION_REFUSED.search(str(error))
    return Outage(answer and NAMES.sub('"…"', answer[1]))


def lacks_table(error: BaseException) -> bool:
    cause = driver_error(error)
    # SQLite has no code for a missing table.
    return getattr(cause, "pgcode", None) == UNDEFINED_TABLE or (
        isinstance(cause, sqlite3.OperationalError) and str(cause).startswith("no such table")
    )


def error_reason(error: Exception) -> str | None:
    if lacks_table(error):
        return "it lacks a table. Run `dewey migrate`."
    outage = find_outage(error)
    return outage.reason if outage else first_line(error)


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
