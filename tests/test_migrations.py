"""The schema is created on both databases, by one process at a time, and matches the models."""

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg2
import pytest
from databases import bind_database
from factories import create_run
from peewee import Model
from playhouse.migrations import Runner
from waiting import wait_until

from config import ROOT
from engine.database import database, on_postgresql
from engine.history import run_counts
from engine.migrations import MIGRATION_LOCK, MigrationFailed, migrate
from engine.models import BaseModel, RunCount
from engine.monitor import alerts  # noqa: F401 - alerts declares tables
from models import Book, CreatedTable, ReadingSession, User, owns_reading_tables

ALL = [path.stem for path in sorted((ROOT / "migrations").glob("0*.py"))]
MODELS: list[type[Model]] = BaseModel.__subclasses__()


# --- an empty database ---------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/new/library.db" if on_sqlite else request.getfixturevalue("fresh_postgresql")
    with bind_database(url):
        yield url


def test_migrations_are_applied_in_order_and_once(empty_database: str) -> None:
    assert migrate() == ALL
    assert migrate() == []


def test_tables_created_by_migrations_are_owned(empty_database: str) -> None:
    migrate()
    assert owns_reading_tables()
    assert {row.name for row in CreatedTable.select()} == {"users", "books", "reading_sessions"}


def test_other_tables_are_named_dewey_and_have_a_model(each_database: str) -> None:
    declared = {model._meta.table_name for model in MODELS}
    assert set(database.get_tables()) == declared | {"dewey_migrations"}
    assert {name for name in declared if not name.startswith("dewey_")} == {"users", "books", "reading_sessions"}


def test_reading_columns_have_database_defaults(each_database: str) -> None:
    user = User.create(email="a@example.org")
    book = Book.create(title="Emma", author="Jane Austen")
    before = datetime.now(UTC) - timedelta(seconds=1)
    values = f"'{uuid4().hex}', '{user.id.hex}', '{book.id.hex}', '2026-11-23 17:33:36+00:00'"
    database.execute_sql(f"INSERT INTO reading_sessions (id, user_id, book_id, started_at) VALUES ({values})")
    session = ReadingSession.get()
    assert session.started_at == datetime(2026, 11, 23, 17, 33, 36, tzinfo=UTC)
    assert before <= session.created_at <= datetime.now(UTC)
    assert (session.is_active, session.ended_at, session.device_type) == (True, None, None)
    assert (session.duration_minutes, session.start_position, session.end_position, session.pages_read) == (0, 0, 0, 0)


# --- models and migrations -----------------------------------------------------------------------------------


def test_models_and_migrations_agree(each_database: str) -> None:
    migrated = {model: schema_of(model) for model in MODELS}
    database.drop_tables(MODELS)
    database.create_tables(MODELS)
    for model in MODELS:
        columns, keys, indexes = migrated[model]
        declared_columns, declared_keys, declared_indexes = schema_of(model)
        name = model._meta.table_name
        assert columns == declared_columns, f"{name}: migrations and model differ in columns"
        assert keys == declared_keys, f"{name}: migrations and model differ in foreign keys"
        assert declared_indexes <= indexes, f"{name}: the model declares an index that no migration creates"


def schema_of(model: type[Model]) -> tuple[Any, Any, Any]:
    """Return columns, foreign keys and indexes without their names, and on SQLite without types, which are hints."""
    table = model._meta.table_name
    columns = {
        (column.name, column.full_type if on_postgresql() else None, column.null, column.primary_key)
        for column in database.get_columns(table)
    }
    keys = {(key.column, key.dest_table, key.dest_column, key.on_delete) for key in database.get_foreign_keys(table)}
    indexes = {(tuple(index.columns), index.unique) for index in database.get_indexes(table)}
    return columns, keys, indexes


def test_existing_runs_of_several_attempts_are_counted(empty_database: str) -> None:
    migrate_up_to(ALL[ALL.index("0016_retried_runs") - 1])
    at = datetime(2026, 11, 23, 17, 33, 36, 5000, tzinfo=UTC)
    for attempts in (1, 2, 3):
        create_run(state="failed", ended_at=at, attempts=attempts)
    create_run(state="running", attempts=2)
    migrate()
    rows = RunCount.select().where(RunCount.what == run_counts.RETRIED_RUNS)
    counts = {(row.span, row.start): row.count for row in rows}
    assert counts == {(span, int(at.timestamp()) // span * span): 2 for span in run_counts.SPANS}


# --- several processes, and failures -------------------------------------------------------------------------


def test_concurrent_migrations_run_once(empty_database: str) -> None:
    with hold_migration_lock(empty_database) as waiting:
        runners = [start_migration(empty_database) for _ in range(3)]
        wait_until(lambda: waiting() == 3)
        assert [process.poll() for process in runners] == [None, None, None]
    outputs = [process.communicate(timeout=60) for process in runners]
    assert [process.returncode for process in runners] == [0, 0, 0], outputs
    assert sorted(output for output, _ in outputs) == [f"{ALL}\n", "[]\n", "[]\n"]


def start_migration(url: str) -> "subprocess.Popen[str]":
    program = "import sys; from engine.database import bind; from engine.migrations import migrate; "
    program += "bind(sys.argv[1]); print(migrate())"
    return subprocess.Popen(
        [sys.executable, "-c", program, url], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextmanager
def hold_migration_lock(url: str) -> Iterator[Callable[[], int]]:
    """Hold the migration lock. Yield a function that counts the processes that wait for it."""
    if url.startswith("sqlite"):
        path = Path(f"{url.removeprefix('sqlite:///')}.migrating")
        path.parent.mkdir()
        with open(path, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            children = psutil.Process().children
            yield lambda: sum(str(path) in [file.path for file in child.open_files()] for child in children())
        return
    connection = psycopg2.connect(url)
    cursor = connection.cursor()
    cursor.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
    connection.commit()

    def waiting() -> int:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'dewey' AND query LIKE '%pg_try_advisory_lock%'"
        )
        number = cursor.fetchone()[0]
        connection.commit()
        return int(number)

    yield waiting
    connection.close()


def test_failed_migration_is_named_and_rolled_back(empty_database: str) -> None:
    migrate_up_to("0001_library")
    database.execute_sql("CREATE TABLE dewey_workers (name text)")
    with pytest.raises(MigrationFailed) as caught:
        migrate()
    assert "0002_runs" in str(caught.value) and "dewey_workers" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not database.table_exists("dewey_runs")
    database.execute_sql("DROP TABLE dewey_workers")
    assert migrate() == ALL[1:]


def migrate_up_to(name: str) -> None:
    Path(database.obj.database).parent.mkdir(exist_ok=True)
    Runner(database.obj, str(ROOT / "migrations"), table_name="dewey_migrations").up(name)


def test_unreachable_server_is_reported_in_one_line() -> None:
    with bind_database("postgresql://dewey:secret@127.0.0.1:1/library"), pytest.raises(MigrationFailed) as caught:
        migrate()
    assert "library" in str(caught.value) and "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_folder_that_cannot_be_created_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with bind_database(f"sqlite:///{tmp_path}/file/library.db"), pytest.raises(MigrationFailed) as caught:
        migrate()
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_program_connections_keep_their_timeouts(fresh_postgresql: str) -> None:
    with bind_database(fresh_postgresql):
        migrate()
        assert database.execute_sql("SHOW lock_timeout").fetchone()[0] == "0"
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert database.execute_sql(locks).fetchone()[0] == 0
