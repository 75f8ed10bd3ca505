"""The database handle, and fields that behave alike on both databases."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import peewee
from peewee import (
    Database,
    DatabaseProxy,
    DateTimeField,
    Model,
    PeeweeException,
    PostgresqlDatabase,
    SqliteDatabase,
    TextField,
)
from playhouse import db_url
from playhouse.pool import PooledPostgresqlDatabase

from config import settings
from engine.private_files import make_database_private


class Savepoint:
    def __init__(self, handle: "Handle") -> None:
        self.handle, self.name = handle, f"s{uuid4().hex}"

    def __enter__(self) -> "Savepoint":
        self.handle.execute_sql(f"SAVEPOINT {self.name}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.handle.execute_sql(f"RELEASE SAVEPOINT {self.name}")
        except Exception:
            self.rollback()
            raise
        if error is not None:
            self.rollback()

    def rollback(self) -> None:
        if self.handle.can_roll_back():
            self.handle.execute_sql(f"ROLLBACK TO SAVEPOINT {self.name}")


class Handle(DatabaseProxy):
    def savepoint(self) -> Savepoint:  # type: ignore[override]
        return Savepoint(self)


database = Handle()


def bind(url: str) -> None:
    """Point the handle at `url` (`sqlite:///path` or `postgresql://…`) without connecting."""
    database.initialize(open_database(url))


def open_database(url: str) -> Database:
    if url.startswith("sqlite:///"):
        return Sqlite(
            url.removeprefix("sqlite:///"),
            # A deferred transaction that reads and then writes fails at once, whatever the busy timeout.
            lock_type="IMMEDIATE",
            timeout=30,
            pragmas={"journal_mode": "wal", "synchronous": "normal", "foreign_keys": 1},
            cached_statements=16,  # batch statements are long and rarely repeat
        )
    options = db_url.parse(url, unquote_password=True, unquote_user=True)
    name = options.pop("database")
    return Postgresql(
        name,
        **{"connect_timeout": 5, "application_name": "dewey", **options},
        max_connections=64,
        stale_timeout=300,
    )


class Transactions:
    """Rolls back only if there is something to roll back. A failing ROLLBACK would hide the original error."""

    is_closed: Callable[[], bool]

    def can_roll_back(self) -> bool:
        raise NotImplementedError

    def rollback(self) -> None:
        if not self.is_closed() and self.can_roll_back():
            super().rollback()  # type: ignore[misc]

    def release_connection(self) -> None:
        self.close()  # type: ignore[attr-defined]


class Sqlite(Transactions, SqliteDatabase):
    def connect(self, reuse_if_open: bool = False) -> bool:
        make_database_private(Path(self.database))
        return bool(super().connect(reuse_if_open))

    def can_roll_back(self) -> bool:
        """False after an error such as a full disk, after which SQLite has already rolled back."""
        return bool(self.connection().in_transaction)  # type: ignore[no-untyped-call]


class Postgresql(Transactions, PooledPostgresqlDatabase):
    def can_roll_back(self) -> bool:
        return not self.connection().closed

    def release_connection(self) -> None:
        """Return the connection to the pool. Close a read-only session, which would stay so after a failover."""
        if self.takes_writes():
            self.close()
        else:
            self.manual_close()

    def takes_writes(self) -> bool:
        """False for a read-only session, as reported by servers from version 14 on."""
        connection = self.connection()
        if connection.closed:
            return False
        return "on" not in map(connection.get_parameter_status, ("default_transaction_read_only", "in_hot_standby"))


def on_postgresql() -> bool:
    return isinstance(database.obj, PostgresqlDatabase)


def release_connection() -> None:
    bound = database.obj
    if not bound.is_closed():
        while bound.in_transaction():
            bound.pop_transaction()
        bound.release_connection()


#: Database handles of the parent process. Closing their connections would break the parent.
abandoned: list[Database] = []


def abandon_connections() -> None:
    abandoned.append(database.obj)
    bind(settings.database_url)


def limit_page_cache() -> None:
    if not on_postgresql():
        with suppress(PeeweeException):  # a file that cannot be opened now gets it later
            database.obj.pragma("cache_size", -256, permanent=True)


class UTCDateTimeField(DateTimeField):
    """An aware UTC datetime: `timestamptz` on PostgreSQL, sortable text on SQLite. A naive value is UTC."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: object) -> object:
        value = self.python_value(value)
        return str(value) if isinstance(value, datetime) and not on_postgresql() else value

    def python_value(self, value: object) -> Any:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return value

    adapt = python_value


class JSONTextField(TextField):
    """Any JSON value as text. PostgreSQL's `jsonb` rejects the NUL escape, which a task's argument may contain."""

    def db_value(self, value: object) -> object:
        return None if value is None else json.dumps(value, separators=(",", ":"), default=str)

    def python_value(self, value: Any) -> Any:
        return None if value is None else json.loads(value)


ROWS_PER_INSERT = 500


def write_rows(model: type[Model], rows: Sequence[Sequence[object]], changing: Iterable[str] | None = None) -> None:
    """Insert these rows with all columns, in the order of the model, as database values.

    For an existing key the columns in `changing` are replaced, or all of them if it is None. Bypasses Peewee's model
    layer, which would be too slow for batches of thousands. Fewer changed columns mean fewer index updates.
    """
    insert, on_conflict = upsert_parts(model, changing)
    placeholders = f"({', '.join([database.param] * len(model._meta.sorted_fields))})"
    if not on_postgresql():
        # executemany: SQLite takes longer to parse one long statement than to run many short ones.
        with translated_errors():
            database.connection().executemany(insert + placeholders + on_conflict, rows)
        return
    for start in range(0, len(rows), ROWS_PER_INSERT):
        part = rows[start : start + ROWS_PER_INSERT]
        values = [value for row in part for value in row]
        database.execute_sql(insert + ", ".join([placeholders] * len(part)) + on_conflict, values)


def upsert_parts(model: type[Model], changing: Iterable[str] | None) -> tuple[str, str]:
    meta = model._meta
    columns = [field.column_name for field in meta.sorted_fields]
    key = [field.column_name for field in meta.get_primary_keys()]
    replaced = columns if changing is None else changing
    changes = ", ".join(f"{column} = excluded.{column}" for column in replaced if column not in key)
    insert = f"INSERT INTO {meta.table_name} ({', '.join(columns)}) VALUES "
    return insert, f" ON CONFLICT ({', '.join(key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"


@contextmanager
def translated_errors() -> Iterator[None]:
    """Convert errors of SQLite's driver to Peewee's, as Peewee does around its own statements."""
    try:
        yield
    except sqlite3.Error as error:
        translated = getattr(peewee, type(error).__name__, peewee.DatabaseError)
        raise translated(error, *error.args) from error


bind(settings.database_url)
