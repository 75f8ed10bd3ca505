"""The JSON API of a running web server with a real consumer: embedded, and on Redis and PostgreSQL."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from consumers import KEY
from databases import bound_to_library
from installation import Installation
from waiting import wait_until

from engine.models import Consumer, Run, now
from models import Book, ReadingSession, User

ADMIN = "/api/v1/admin/reading-sessions"


@pytest.fixture(params=["embedded", "servers"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    if request.param == "embedded":
        environment = {"DATABASE_URL": f"sqlite:///{tmp_path}/library.db"}
    else:
        environment = {
            "DATABASE_URL": request.getfixturevalue("postgresql_library"),
            "REDIS_URL": request.getfixturevalue("redis_url"),
            "SECRET_KEY": KEY,
        }
    with bound_to_library(environment["DATABASE_URL"]), Installation(tmp_path, **environment).web() as installed:
        yield installed


def open_sessions(count: int, age: timedelta) -> None:
    user, _ = User.get_or_create(email="reader@example.org")
    book, _ = Book.get_or_create(title="A", author="B")
    for number in range(count):
        ReadingSession.create(user=user, book=book, started_at=now() - age, end_position=number % 2 * 50)


def is_ready_for_work(installation: Installation) -> bool:
    return "no live worker on light" not in installation.ask("GET", "/readyz").text


def test_cleanup_closes_abandoned_sessions_and_statistics_count_them(installation: Installation) -> None:
    open_sessions(15, timedelta(hours=3))
    open_sessions(2, timedelta(hours=1))
    headers = installation.bearer("operator")
    with installation.consumer("light"):
        wait_until(lambda: is_ready_for_work(installation))
        answer = installation.ask("POST", f"{ADMIN}/cleanup", headers)
        assert (answer.status, answer.json["closed_count"], answer.json["error"]) == (200, 15, None)
        assert list(answer.json) == ["closed_count", "execution_time_ms", "deadline", "error"]
        again = installation.ask("POST", f"{ADMIN}/cleanup-async", headers)
        assert again.status == 202
    answer = installation.ask("GET", f"{ADMIN}/cleanup-stats?hours=24", headers)
    assert answer.status == 200, answer.text
    stats = answer.json
    assert (stats["total_closed"], stats["total_active"], stats["no_progress_count"]) == (15, 2, 8)
    assert stats["avg_duration_minutes"] == 180.0


@pytest.mark.alone
def test_half_of_the_threads_wait_and_the_rest_keep_answering(installation: Installation) -> None:
    headers = installation.bearer("operator")
    register_future_consumer()
    with ThreadPoolExecutor(9) as many:
        callers = [many.submit(installation.ask, "POST", f"{ADMIN}/cleanup", headers) for _ in range(9)]
        turned_away = wait_until(lambda: [caller for caller in callers if caller.done()])
        assert [caller.result().status for caller in turned_away] == [202]
        wait_until(lambda: Run.select().count() == 9)
        assert installation.ask("GET", "/healthz").status == 200
        assert [caller for caller in callers if caller.done()] == turned_away
        with installation.consumer("light"):
            assert sorted(caller.result().status for caller in callers) == [200] * 8 + [202]


def register_future_consumer() -> None:
    Consumer.create(
        id="host:1:abc", queue="light", host="host", pid=1, code_version="1", worker_type="process", worker_count=2,
        periodic=True, started_at=now(), beat_at=now(),
    )  # fmt: skip


def test_unparseable_request_is_answered_in_json(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    assert installation.flask("migrate").returncode == 0
    with installation.web():
        answer = installation.ask("GET", f"/api/v1/admin/runs?q={'x' * 9000}")
        assert (answer.status, answer.headers["Content-Type"]) == (414, "application/problem+json")
        assert answer.json["status"] == 414
        with socket.create_connection(("127.0.0.1", installation.port)) as connection:
            connection.sendall(b"GET / HTTP/9.1\r\n\r\n")
            head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n")
        detail = "Invalid HTTP Version 'Invalid HTTP Version: (9, 1)'"
        assert json.loads(body) == {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": detail}
