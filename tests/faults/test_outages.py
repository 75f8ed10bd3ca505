"""The errors of a database and of Redis that count as unavailable, and their messages."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import redis_6_executable, redis_executable
from databases import bind_database
from peewee import PeeweeException
from redis.exceptions import ResponseError
from servers import RedisServer

from engine.broker.effects import Effects
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.database import database, release_connection
from engine.exceptions import BrokerUnavailable
from engine.outages import error_reason, find_outage, lacks_table


def execute_and_catch(statement: str) -> PeeweeException:
    with pytest.raises(PeeweeException) as caught, database.atomic():
        database.execute_sql(statement)
    return caught.value


# --- PostgreSQL ----------------------------------------------------------------------------------------------


@pytest.fixture
def postgresql(fresh_postgresql: str) -> Iterator[str]:
    with bind_database(fresh_postgresql):
        yield fresh_postgresql


@pytest.mark.parametrize("state", ["08006", "25006", "40001", "42501", "53100", "53300", "55P03", "57014", "58030"])
def test_postgresql_outage_is_recognised_by_sqlstate(postgresql: str, state: str) -> None:
    error = execute_and_catch(
        f"DO $$BEGIN RAISE EXCEPTION 'no space, sorry' USING ERRCODE = '{state}', DETAIL = 'd'; END$$"
    )
    assert find_outage(error) == ("no space, sorry",)
    assert error_reason(error) == "no space, sorry"


@pytest.mark.parametrize("state", ["22P02", "23505", "25P02", "42601", "42P01", "54000", "P0001", "XX000"])
def test_faulty_statement_is_no_outage_on_postgresql(postgresql: str, state: str) -> None:
    error = execute_and_catch(f"DO $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END$$")
    assert find_outage(error) is None
    assert lacks_table(error) == (state == "42P01")


def test_read_only_postgresql_is_an_outage_with_its_message(postgresql: str) -> None:
    database.execute_sql("SET default_transaction_read_only = on")
    assert find_outage(execute_and_catch("CREATE TABLE t (id int)")) == (
        "cannot execute CREATE TABLE in a read-only transaction",
    )


def test_read_only_session_is_not_reused(postgresql: str) -> None:
    database.execute_sql("SELECT 1")
    first = database.connection()
    release_connection()
    database.execute_sql("SET default_transaction_read_only = on")
    assert database.connection() is first
    release_connection()
    database.execute_sql("CREATE TABLE t (id int)")
    assert database.connection() is not first


def test_lost_connection_has_no_server_message(postgresql: str) -> None:
    [(session,)] = database.execute_sql("SELECT pg_backend_pid()").fetchall()
    with bind_database(postgresql):
        database.execute_sql("SELECT pg_terminate_backend(%s)", [session])
    error = execute_and_catch("SELECT 1")
    assert find_outage(error) in [(None,), ("terminating connection due to administrator command",)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no_such_database", 'database "…" does not exist'), ("postgres?host=/nowhere", None)],
)
def test_refused_connection_hides_user_and_path(fresh_postgresql: str, name: str, reason: str) -> None:
    server, _, folder = fresh_postgresql.partition("?")
    url = f"{server.rpartition('/')[0]}/{name}" + ("" if "?" in name else f"?{folder}")
    with bind_database(url.replace("postgres:@", "postgres:secret@")):
        error = execute_and_catch("SELECT 1")
    assert find_outage(error) == (reason,)


# --- SQLite --------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """Return a database with one table, and a handle that does not wait for locks."""
    path = tmp_path / "any.db"
    with bind_database(f"sqlite:///{path}"):
        database.obj.timeout = 0
        database.execute_sql("CREATE TABLE t (id integer PRIMARY KEY, filler text)")
        yield path


def test_locked_sqlite_is_an_outage(file: Path) -> None:
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert find_outage(execute_and_catch("INSERT INTO t (id) VALUES (1)")) == ("database is locked",)


def test_full_sqlite_is_an_outage(file: Path) -> None:
    database.execute_sql("PRAGMA max_page_count = 2")
    too_long = f"INSERT INTO t VALUES (1, '{'x' * 9000}')"
    assert find_outage(execute_and_catch(too_long)) == ("database or disk is full",)
    with database.atomic():
        assert find_outage(execute_and_catch(too_long)) == ("database or disk is full",), "inside a transaction"
        database.execute_sql("BEGIN")


def test_read_only_sqlite_is_an_outage(file: Path) -> None:
    database.execute_sql("PRAGMA query_only = 1")
    assert find_outage(execute_and_catch("INSERT INTO t (id) VALUES (1)")) == ("attempt to write a readonly database",)


def test_missing_or_invalid_sqlite_file_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at " * 20)
    with bind_database(f"sqlite:///{tmp_path}/text.db"):
        assert find_outage(execute_and_catch("SELECT 1 FROM sqlite_schema")) == ("file is not a database",)
    with bind_database(f"sqlite:///{tmp_path}/no/such/folder.db"):
        assert find_outage(execute_and_catch("SELECT 1")) == (None,)


@pytest.mark.parametrize("statement", ["SELECT nothing", "INSERT INTO t VALUES ('x', 1)", "SELECT 1 FROM nowhere", "?"])
def test_faulty_statement_is_no_outage_on_sqlite(file: Path, statement: str) -> None:
    error = execute_and_catch(statement)
    assert find_outage(error) is None
    assert lacks_table(error) == ("nowhere" in statement)


# --- brokers -------------------------------------------------------------------------------------------------


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SqliteStorage]:
    storage = SqliteStorage("q", tmp_path / "queue.db", 60)
    yield storage
    storage.close()


def test_sqlite_broker_raises_faulty_statements_unchanged(broker: SqliteStorage) -> None:
    with pytest.raises(sqlite3.OperationalError):
        broker.database.query("SELECT nothing")
    with pytest.raises(sqlite3.IntegrityError):
        broker.database.execute("INSERT INTO kv VALUES (NULL, NULL, NULL, NULL)")
    broker.results.put("key", b"value")


def test_sqlite_broker_recovers_from_a_read_only_file(broker: SqliteStorage) -> None:
    broker.results.put("key", b"old")
    broker.close()
    broker.database.connection.execute("PRAGMA query_only = 1")  # a connection that found the file read-only
    with pytest.raises(BrokerUnavailable) as caught:
        broker.results.put("key", b"new")
    assert caught.value.reason == "attempt to write a readonly database"
    broker.results.put("key", b"new")
    assert broker.results.get("key") == b"new"


def test_sqlite_broker_is_unavailable_when_full(broker: SqliteStorage) -> None:
    [(pages,)] = broker.database.query("PRAGMA page_count")
    broker.database.connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(BrokerUnavailable, match=r"queue\.db: database or disk is full") as caught:
        broker.results.put("key", b"x" * 100_000)
    assert caught.value.reason == "database or disk is full"
    assert not broker.database.connection.in_transaction


@pytest.mark.parametrize("executable", [redis_executable, redis_6_executable])
def test_redis_broker_raises_faulty_commands_unchanged(executable: Callable[[], str], tmp_path: Path) -> None:
    server = RedisServer(tmp_path, executable=executable())
    server.start()
    storage = RedisStorage("q", server.url, 60)
    storage.messages.write(Effects().enqueue("id", b"data"))
    with pytest.raises(ResponseError):
        storage.client.command("NONSENSE", "queue")
    for minute in (1, 2):
        with pytest.raises(ResponseError):
            storage.client.run_script("reap", "no number", "neither")
        # The connection is in step: each command gets the reply that belongs to it.
        assert [storage.ticks.record("task", minute, Effects()) for _ in range(2)] == [True, False]
    server.kill()
