"""Separate test databases, and the program's database handle bound to them."""

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
    """Bind the database handle to `url` for the length of a block."""
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
    """Bind the database handle to `url` for the length of a block, and create the whole schema there."""
    file = Path(url.removeprefix("sqlite:///"))
    if copies := url.startswith("sqlite:///") and not file.exists():
        file.write_bytes(empty_sqlite_library())
    with bind_database(url):
        if not copies:
            migrate()
        yield


@cache
def empty_sqlite_library() -> bytes:
    """Return the content of an SQLite file with the whole schema. Copying is faster than migrating."""
    with tempfile.TemporaryDirectory() as folder:
        with bind_database(f"sqlite:///{folder}/library.db"):
            migrate()
        return Path(folder, "library.db").read_bytes()


@contextmanager
def create_postgresql(server_url: str, like: str = "template1") -> Iterator[str]:
    """Create a database on the session's PostgreSQL server for the length of a block, empty or from this template."""
    name = next(fresh_names)
    execute_autocommit(server_url, f"CREATE DATABASE {name} TEMPLATE {like}")
    yield server_url.replace("/postgres?", f"/{name}?")
    execute_autocommit(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def execute_autocommit(url: str, *statements: str) -> None:
    """Run statements that PostgreSQL refuses inside a transaction."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        for statement in statements:
            connection.cursor().execute(statement)
    finally:
        connection.close()
