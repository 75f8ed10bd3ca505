"""The one database handle, and the fields that both databases agree on."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from peewee import (  # type: ignore[attr-defined]
    Database,
    DatabaseProxy,
    DateTimeField,
    Model,
    PeeweeException,
    PostgresqlDatabase,
    SqliteDatabase,
    TextField,
    __exception_wrapper__,
    _savepoint,
)
from playhouse import db_url
from playhouse.pool import PooledPostgresqlDatabase

from config import settings


class Savepoint(_savepoint):
    def rollback(self, begin: bool = True) -> None:
        if self.db.can_roll_back():
            super().rollback(begin)


class Handle(DatabaseProxy):
    def savepoint(self) -> Savepoint:
        return Savepoint(self)


database = Handle()


def bind(url: str) -> None:
    """Point the handle at `url` (`sqlite:///path` or `postgresql://…`). Nothing is connected yet."""
    database.initialize(open_database(url))


def open_database(url: str) -> Database:
    if url.startswith("sqlite:///"):
        return Sqlite(
            url.removeprefix("sqlite:///"),
            # IMMEDIATE: a transaction that reads first and then writes fails at once, whatever the busy timeout.
            lock_type="IMMEDIATE",
            timeout=30,
            pragmas={"journal_mode": "wal", "synchronous": "normal", "foreign_keys": 1},
            cached_statements=16,  # those of a batch are long, and no two are alike
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
    """Rolls back where there is still something to roll back: the error of a ROLLBACK would hide the one before it."""

    is_closed: Callable[[], bool]

    def can_roll_back(self) -> bool:
        raise NotImplementedError

    def rollback(self) -> None:
        if not self.is_closed() and self.can_roll_back():
            super().rollback()  # type: ignore[misc]


class Sqlite(Transactions, SqliteDatabase):
    def can_roll_back(self) -> bool:
        """False after an error such as a full disk, on which SQLite has rolled back by itself."""
        return bool(self.connection().in_transaction)  # type: ignore[no-untyped-call]


class Postgresql(Transactions, PooledPostgresqlDatabase):
    def can_roll_back(self) -> bool:
        return not self.connection().closed

    def _can_reuse(self, conn: Any) -> bool:
        """False for a session that takes no writes: after a failover it would stay so, and another server would not.

        The server reports both settings by itself, from version 14 on.
        """
        if not super()._can_reuse(conn):
            return False
        return "on" not in map(conn.get_parameter_status, ("default_transaction_read_only", "in_hot_standby"))


def on_postgresql() -> bool:
    return isinstance(database.obj, PostgresqlDatabase)


def release() -> None:
    """End this thread's use of its connection; a broken one is thrown away here, so the next use connects anew."""
    here = database.obj
    if not here.is_closed():
        while here.in_transaction():
            here.pop_transaction()
        here.close()


#: Database handles of the process that this one was forked from. Closing their connections would harm that process.
left_behind: list[Database] = []


def leave_connections() -> None:
    """After a fork: open connections of this process's own from now on."""
    left_behind.append(database.obj)
    bind(settings.database_url)


def keep_few_pages() -> None:
    """The connections of this process keep little of an SQLite database in memory: for one that mostly writes."""
    if not on_postgresql():
        with suppress(PeeweeException):  # a file that cannot be opened now has it when it is
            database.obj.pragma("cache_size", -256, permanent=True)


class UTCDateTimeField(DateTimeField):
    """An aware UTC datetime: `timestamptz` on PostgreSQL; on SQLite text whose order is the order of time.

    A naive value, which only a foreign writer can have left, is read as UTC.
    """

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: Any) -> Any:
        value = self.python_value(value)
        return str(value) if isinstance(value, datetime) and not on_postgresql() else value

    def python_value(self, value: Any) -> Any:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return value

    adapt = python_value


class JSONTextField(TextField):
    """Any JSON value as text. Not `jsonb`: that refuses the escape of NUL, which a task's argument may hold."""

    def db_value(self, value: Any) -> Any:
        return None if value is None else json.dumps(value, separators=(",", ":"), default=str)

    def python_value(self, value: Any) -> Any:
        return None if value is None else json.loads(value)


ROWS_PER_INSERT = 500


def write_rows(model: type[Model], rows: Sequence[Sequence[Any]], changing: Iterable[str] | None = None) -> None:
    """Insert these rows, all columns in the order of the model, as the database holds them.

    Of a row whose key is there already the columns named are replaced; all of them where `changing` is None. Past the
    model: a batch of thousands is written in a fraction of the time, and the fewer columns change, the fewer indexes.
    """
    meta: Any = model._meta
    columns = [field.column_name for field in meta.sorted_fields]
    key = [field.column_name for field in meta.get_primary_keys()]
    replaced = columns if changing is None else changing
    changes = ", ".join(f"{one} = excluded.{one}" for one in replaced if one not in key)
    begin = f"INSERT INTO {meta.table_name} ({', '.join(columns)}) VALUES "
    end = f" ON CONFLICT ({', '.join(key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    row = f"({', '.join([database.param] * len(columns))})"
    if not on_postgresql():
        # One small statement again and again: SQLite takes longer to read a long one than to do what it says.
        with __exception_wrapper__:  # as Peewee does around each of its own statements
            database.connection().executemany(begin + row + end, rows)
        return
    for start in range(0, len(rows), ROWS_PER_INSERT):
        part = rows[start : start + ROWS_PER_INSERT]
        database.execute_sql(begin + ", ".join([row] * len(part)) + end, [value for one in part for value in one])


bind(settings.database_url)
