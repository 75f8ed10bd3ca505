"""A reading app's live PostgreSQL is adopted unchanged: nothing is dropped, altered, blocked or lost."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from databases import bind_database, execute_autocommit
from reading_app import CLEANUP_INDEX, ROWS, SCHEMA, ReadingApp, Writer, open_app_transaction
from waiting import wait_until

from config import ROOT
from engine.database import database
from engine.migrations import LOCK_TIMEOUT_MS, MigrationFailed, migrate
from models import CreatedTable, owns_reading_tables
from reading import sessions
from reading.sample_data import ForeignTables, load

CLEANUP, STATISTICS, ACTIVE = INDEXES = [f"idx_reading_sessions_{name}" for name in ("cleanup", "statistics", "active")]
ALL = [path.stem for path in sorted((ROOT / "migrations").glob("0*.py"))]

#: The longest allowed write. On a busy machine a write of 1 ms sometimes takes 300.
BOUND_MS = LOCK_TIMEOUT_MS + 800
TWO_HOURS = timedelta(hours=2)

#: A concurrent build waits for the end of a transaction that has run this.
LONG_WRITE = "UPDATE reading_sessions SET mood = 'long' WHERE device_type = 'tablet'"

MIGRATE = """
import sys
from engine.database import bind
from engine.migrations import migrate
bind(sys.argv[1])
print(migrate())
"""


@pytest.fixture(params=["without the cleanup index", "with the cleanup index"])
def app(request: pytest.FixtureRequest, fresh_postgresql: str) -> Iterator[ReadingApp]:
    with reading_app(fresh_postgresql, SCHEMA, *([CLEANUP_INDEX] if "without" not in request.param else [])) as app:
        yield app


@pytest.fixture
def plain_app(fresh_postgresql: str) -> Iterator[ReadingApp]:
    with reading_app(fresh_postgresql, SCHEMA) as app:
        yield app


@contextmanager
def reading_app(url: str, *schema: str) -> Iterator[ReadingApp]:
    app = ReadingApp(url)
    for script in (*schema, ROWS):
        app.run(script)
    with bind_database(url):
        yield app
    app.close()


@contextmanager
def migrating_during(url: str, write: str = LONG_WRITE) -> Iterator[tuple["Future[list[str]]", Any]]:
    """Migrate in a thread while an app transaction with a write stays open. Yield both."""
    with ThreadPoolExecutor(1) as pool, open_app_transaction(url, write) as transaction:
        yield pool.submit(migrate), transaction


# --- nothing is changed --------------------------------------------------------------------------------------


def test_migration_leaves_the_objects_and_rows_of_the_app_unchanged(app: ReadingApp) -> None:
    objects, rows = app.objects(), app.rows()
    assert migrate() == ALL
    assert objects - app.objects() == set()
    assert app.rows() == rows


def test_migration_adds_only_three_indexes_and_dewey_tables(app: ReadingApp) -> None:
    before = app.objects()
    migrate()
    added = {name for name, _ in app.objects() - before}
    assert {name for name in added if not name.lstrip("_").startswith("dewey_")} <= set(INDEXES)
    assert [app.validity(name) for name in INDEXES] == [True, True, True]


def test_second_migration_changes_nothing(app: ReadingApp) -> None:
    migrate()
    objects, rows = app.objects(), app.rows()
    assert migrate() == []
    assert (app.objects(), app.rows()) == (objects, rows)


def test_existing_index_of_the_same_name_is_kept(fresh_postgresql: str) -> None:
    own = "CREATE INDEX idx_reading_sessions_statistics ON reading_sessions (duration_minutes)"
    with reading_app(fresh_postgresql, SCHEMA, own) as app:
        before = app.scalar("SELECT 'idx_reading_sessions_statistics'::regclass::oid")
        migrate()
        assert app.scalar("SELECT 'idx_reading_sessions_statistics'::regclass::oid") == before


def test_adopted_tables_are_not_owned_and_reject_the_sample_library(app: ReadingApp) -> None:
    migrate()
    rows = app.rows()
    assert not owns_reading_tables()
    with pytest.raises(ForeignTables):
        load(datetime.now(UTC))
    assert app.rows() == rows


def test_tables_of_another_schema_are_used_and_not_recreated(fresh_postgresql: str) -> None:
    with reading_app(fresh_postgresql, SCHEMA) as app:
        app.run("CREATE SCHEMA console")
        app.run(f"ALTER DATABASE {app.connection.info.dbname} SET search_path = console, public")
        database.close_all()
        assert migrate() == ALL
        assert migrate() == []
        tables = app.run("SELECT relname FROM pg_class WHERE relnamespace = 'console'::regnamespace AND relkind = 'r'")
        assert {name for (name,) in tables} == set(dewey_tables())
        assert app.validity(f"public.{ACTIVE}")
        assert sessions.count_abandoned(datetime.now(UTC), TWO_HOURS) == 40


def dewey_tables() -> list[str]:
    return [name for name in database.get_tables() if name.startswith("dewey_")]


# --- no writer is blocked ------------------------------------------------------------------------------------


@pytest.mark.alone
def test_app_writes_continue_during_the_migration(app: ReadingApp) -> None:
    rows = app.rows()
    with Writer(app.url) as writer:
        wait_until(lambda: writer.finished > 50)
        assert migrate() == ALL
        done = writer.finished
        wait_until(lambda: writer.finished > done + 50 or writer.error)
    assert writer.error is None
    assert writer.longest_ms < BOUND_MS
    assert rows <= app.rows()
    assert app.scalar("SELECT count(*) FROM reading_sessions WHERE device_type = 'writer'") >= writer.finished // 5


@pytest.mark.alone
def test_app_writes_continue_while_an_index_build_waits_for_a_transaction(
    plain_app: ReadingApp, caplog: pytest.LogCaptureFixture
) -> None:
    with Writer(plain_app.url) as writer, migrating_during(plain_app.url) as (migration, transaction):
        wait_until(lambda: plain_app.is_build_waiting(CLEANUP))
        done, until = writer.finished, time.monotonic() + 4 * LOCK_TIMEOUT_MS / 1000
        wait_until(lambda: (writer.finished > done + 500 and time.monotonic() > until) or writer.error)
        assert not migration.done()
        transaction.commit()
        assert migration.result(timeout=60) == ALL
    assert writer.error is None
    assert writer.longest_ms < BOUND_MS
    assert "interrupted" not in caplog.text, "the build timed out and restarted"


@pytest.mark.alone
def test_new_foreign_keys_do_not_block_writers_of_the_referenced_tables(
    fresh_postgresql: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If only reading_sessions is missing, its new foreign keys must lock users and books for a moment."""
    caplog.set_level("INFO", "engine.migrations")
    with reading_app(fresh_postgresql, SCHEMA) as app:
        app.run(f"DROP TABLE reading_sessions CASCADE; SET statement_timeout = {BOUND_MS}")
        other_write = "UPDATE users SET plan = 'premium' WHERE email = 'reader1@example.org'"
        with migrating_during(app.url, other_write) as (migration, transaction):
            while caplog.text.count("0001_library is waiting for a transaction") < 3:
                app.run("UPDATE users SET last_seen_at = now() WHERE email = 'reader2@example.org'")
                assert not migration.done()
            transaction.commit()
            assert migration.result(timeout=60) == ALL
        assert [row.name for row in CreatedTable.select()] == ["reading_sessions"]
        assert not owns_reading_tables()


@pytest.mark.alone
def test_two_concurrent_migrations_adopt_the_tables_once(app: ReadingApp) -> None:
    command = [sys.executable, "-c", MIGRATE, app.url]
    objects = app.objects()
    with Writer(app.url) as writer:
        pair = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = sorted(process.communicate(timeout=60)[0] for process in pair)
    assert outputs == [f"{ALL}\n", "[]\n"]
    assert writer.error is None
    assert writer.longest_ms < BOUND_MS
    assert {name for name, _ in objects - app.objects()} == set()


# --- interrupted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interrupt", ["pg_cancel_backend", "pg_terminate_backend"])
def test_interrupted_index_build_is_repeated(plain_app: ReadingApp, interrupt: str) -> None:
    with migrating_during(plain_app.url) as (migration, _):
        wait_until(lambda: plain_app.is_build_waiting(CLEANUP))
        plain_app.run(f"SELECT {interrupt}(%s)", plain_app.builder_pid(CLEANUP))
        error = migration.exception(timeout=60)
    assert isinstance(error, MigrationFailed)
    assert "0004_cleanup_index" in str(error) and "\n" not in str(error)
    assert plain_app.validity(CLEANUP) is False
    assert migrate() == ALL[3:]
    assert [plain_app.validity(name) for name in INDEXES] == [True, True, True]


def test_killed_migration_is_repeated(plain_app: ReadingApp) -> None:
    with open_app_transaction(plain_app.url, LONG_WRITE):
        process = subprocess.Popen([sys.executable, "-c", MIGRATE, plain_app.url], cwd=ROOT)
        wait_until(lambda: plain_app.is_build_waiting(CLEANUP))
        process.kill()
        process.wait()
        plain_app.run("SELECT pg_terminate_backend(%s)", plain_app.builder_pid(CLEANUP))
        wait_until(lambda: not plain_app.builder_pid(CLEANUP))
    assert migrate() == ALL[3:]
    assert [plain_app.validity(name) for name in INDEXES] == [True, True, True]


def test_index_the_app_is_building_is_awaited_and_kept(plain_app: ReadingApp) -> None:
    build = CLEANUP_INDEX.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY")
    with ThreadPoolExecutor(2) as pool, open_app_transaction(plain_app.url, LONG_WRITE) as transaction:
        building = pool.submit(execute_autocommit, plain_app.url, build)
        wait_until(lambda: plain_app.is_build_waiting(CLEANUP))
        started = plain_app.scalar("SELECT %s::regclass::oid", CLEANUP)
        migration = pool.submit(migrate)
        wait_until(lambda: is_migration_waiting(plain_app))
        transaction.commit()
        building.result(timeout=60)
        assert migration.result(timeout=60) == ALL
    assert plain_app.scalar("SELECT %s::regclass::oid", CLEANUP) == started
    assert plain_app.validity(CLEANUP)


def is_migration_waiting(app: ReadingApp) -> bool:
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dewey' AND query ~ 'ShareUpdateExclusiveLock'"
    return bool(app.run(f"{query} AND datname = current_database()"))


# --- the cleanup ---------------------------------------------------------------------------------------------


def test_cleanup_closes_abandoned_sessions_of_the_app(app: ReadingApp) -> None:
    migrate()
    closed_before = app.scalar("SELECT count(*) FROM reading_sessions WHERE NOT is_active")
    as_of = datetime.now(UTC)
    assert sessions.close_abandoned(as_of, TWO_HOURS, batch_size=10)["closed_count"] == 38
    assert app.scalar("SELECT count(*) FROM reading_sessions WHERE NOT is_active") == closed_before + 38
    assert app.scalar("SELECT count(*) FROM reading_sessions WHERE is_active AND device_type = 'kiosk'") == 2
    assert app.scalar("SELECT count(*) FROM session_log WHERE change = 'UPDATE'") == 38
    closed = "SELECT DISTINCT ended_at, duration_minutes, start_position, end_position FROM reading_sessions"
    assert app.run(f"{closed} WHERE device_type = 'tablet' AND NOT is_active") == [(as_of, 300, 30, 30)]
