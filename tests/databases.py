"""Databases of a test's own, and the program's one database handle pointed at them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import psycopg2

from engine.database import bind, database, release_connection
from engine.migrations import migrate

fresh_names = (f"fresh_{number}" for number in count(1))


@contextmanager
def bind_database(url: str) -> Iterator[None]:
    """Point the database handle at `url` for a while."""
    before = database.obj
    bind(url)
    try:
        yield
    finally:
        release_connection()
        if hasattr(database.obj, "close_all"):
            database.close_all()
        database.initialize(before)


@contextmanager
def bound_to_library(url: str) -> Iterator[None]:
    """Point the database handle at `url` for a while, and give that database the whole schema."""
    file = Path(url.removeprefix("sqlite:///"))
    if copies := url.startswith("sqlite:///") and not file.exists():
        file.write_bytes(empty_sqlite_library())
    with bind_database(url):
        if not copies:
            migrate()
        yield


@cache
def empty_sqlite_library() -> bytes:
    """Return the content of an SQLite file that has the whole schema: it is copied faster than it is migrated."""
    with tempfile.TemporaryDirectory() as folder:
        with bind_database(f"sqlite:///{folder}/library.db"):
            migrate()
        return Path(folder, "library.db").read_bytes()


@contextmanager
def create_postgresql(server_url: str, like: str = "template1") -> Iterator[str]:
    """The URL of a database on the session's PostgreSQL server, for a while: empty, or like the one of this name."""
    name = next(fresh_names)
    execute_autocommit(server_url, f"CREATE DATABASE {name} TEMPLATE {like}")
    yield server_url.replace("/postgres?", f"/{name}?")
    execute_autocommit(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def execute_autocommit(url: str, *statements: str) -> None:
    """Run statements that refuse to be in a transaction."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        for statement in statements:
            connection.cursor().execute(statement)
    finally:
        connection.close()
