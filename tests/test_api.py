"""The JSON API: responses to valid and invalid requests, without a consumer."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from browsers import Browser, bearer_headers
from flask import Flask
from thread_worker import make_cleanup_fail, process_one_run
from werkzeug.test import TestResponse

import tasks
from admin.api import cleanup
from admin.auth.access import public
from engine.broker.messages import Requester
from engine.control.queues import pause_queue, resume_queue
from engine.models import Consumer, Run, now
from models import AuditEntry, Book, ReadingSession, User

ADMIN = "/api/v1/admin/reading-sessions"
STATS, CLEANUP, CLEANUP_ASYNC = f"{ADMIN}/cleanup-stats", f"{ADMIN}/cleanup", f"{ADMIN}/cleanup-async"


@pytest.fixture
def program(app: Flask, browser: Browser) -> Callable[..., TestResponse]:
    """Return a function that sends requests with an operator's token."""
    headers = bearer_headers("operator")

    def send(method: str, path: str, **options: object) -> TestResponse:
        return browser.open(path, method=method, headers=headers | options.pop("headers", {}), **options)

    return send


@pytest.fixture
def live_consumer(app: Flask) -> Consumer:
    """Store a live consumer of `light` that takes no runs."""
    return Consumer.create(
        id="host:1:abc", queue="light", host="host", pid=1, code_version="1", worker_type="process", worker_count=2,
        periodic=True, started_at=now(), beat_at=now(), scheduler_at=now(),
    )  # fmt: skip


def problem(answer: TestResponse, status: int) -> dict[str, object]:
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert set(answer.json) >= {"type", "title", "status", "detail"}
    assert answer.json["status"] == status
    return answer.json


# --- statistics ----------------------------------------------------------------------------------------------


def test_statistics_have_the_documented_shape_and_numbers(program: Callable[..., TestResponse]) -> None:
    user, book = User.create(email="reader@example.org"), Book.create(title="A", author="B")
    for minutes, end in [(10, 0), (21, 40)]:
        started, ended = now() - timedelta(hours=3), now() - timedelta(hours=1)
        ReadingSession.create(user=user, book=book, started_at=started, ended_at=ended, is_active=False,
                              duration_minutes=minutes, end_position=end)  # fmt: skip
    ReadingSession.create(user=user, book=book, started_at=now())
    answer = program("GET", STATS)
    assert list(answer.json) == [
        "total_closed", "total_active", "avg_duration_minutes", "no_progress_count", "period_hours", "timestamp",
    ]  # fmt: skip
    timestamp = answer.json.pop("timestamp")
    assert timestamp.endswith("+00:00")
    assert list(answer.json.values())[:5] == [2, 1, 15.5, 1, 24]


@pytest.mark.parametrize(("hours", "period"), [("1", 1), ("168", 168), ("24", 24), ("024", 24)])
def test_hours_accept_whole_numbers_from_1_to_168(
    program: Callable[..., TestResponse], hours: str, period: int
) -> None:
    assert program("GET", STATS, query_string={"hours": hours}).json["period_hours"] == period


@pytest.mark.parametrize(
    "hours",
    [
        "0",
        "169",
        "-1",
        "1.5",
        "abc",
        "",
        "24 ",
        " 24",
        "+24",
        "٢٤",
        "２４",
        "²",
        "1e2",
        "0x10",
        "24\n",
        "9" * 5000,
        "null",
    ],
)
def test_invalid_hours_are_rejected_by_field(program: Callable[..., TestResponse], hours: str) -> None:
    answer = problem(program("GET", STATS, query_string={"hours": hours}), 422)
    assert answer["field"] == "hours"
    assert str(answer["detail"]).startswith("hours: ")


def test_repeated_hours_are_rejected_and_unknown_parameters_ignored(program: Callable[..., TestResponse]) -> None:
    assert problem(program("GET", f"{STATS}?hours=1&hours=2"), 422)["field"] == "hours"
    assert program("GET", f"{STATS}?_=1732384800&hours=2").json["period_hours"] == 2


# --- cleanup -------------------------------------------------------------------------------------------------


def test_async_cleanup_is_accepted_on_a_paused_queue(program: Callable[..., TestResponse]) -> None:
    pause_queue(tasks.light, by=Requester("cli", "test"))
    answer = program("POST", CLEANUP_ASYNC)
    assert answer.status_code == 202
    assert list(answer.json) == ["task_id", "status", "message"]
    task_id = answer.json["task_id"]
    assert str(UUID(task_id)) == task_id
    assert answer.json["status"] == "PENDING"
    assert answer.json["message"].startswith(f"Cleanup task started with ID: {task_id}. ")
    run = Run.get_by_id(task_id)
    assert (run.task, run.queue, run.state) == ("close_abandoned_sessions", "light", "waiting")
    assert (run.asked_by_kind, run.asked_by) == ("token", "a operator program")


def test_async_cleanup_writes_one_audit_row(program: Callable[..., TestResponse]) -> None:
    task_id = program("POST", CLEANUP_ASYNC).json["task_id"]
    entry = AuditEntry.get()
    assert (entry.action, entry.target, entry.actor_kind, entry.source) == ("tasks.run", task_id, "token", "api")
    assert entry.after == {"task": "close_abandoned_sessions", "arguments": {}}


@pytest.mark.parametrize("what", [None, "close_abandoned_sessions"])
def test_cleanup_on_a_paused_queue_conflicts_and_enqueues_nothing(
    program: Callable[..., TestResponse], live_consumer: Consumer, what: str | None
) -> None:
    pause_queue(tasks.light, task=what, by=Requester("cli", "test"))
    assert "paused" in str(problem(program("POST", CLEANUP), 409)["detail"])
    resume_queue(tasks.light, task=what)
    assert nothing_changed()


@pytest.mark.parametrize("silence", [None, timedelta(minutes=5)])
def test_cleanup_without_a_live_worker_is_rejected_and_enqueues_nothing(
    program: Callable[..., TestResponse], live_consumer: Consumer, silence: timedelta | None
) -> None:
    if silence:
        Consumer.update(beat_at=now() - silence).execute()
    else:
        Consumer.update(stopped_at=now()).execute()
    answer = program("POST", CLEANUP)
    assert "light" in str(problem(answer, 503)["detail"])
    assert int(answer.headers["Retry-After"]) > 0
    assert nothing_changed()


def nothing_changed() -> bool:
    return (tasks.light.storage.messages.count_waiting(), Run.select().count(), AuditEntry.select().count()) == (
        0,
        0,
        0,
    )


def test_slow_cleanup_is_accepted_and_continues(
    program: Callable[..., TestResponse], live_consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "MAX_WAIT_SECONDS", 0.1)
    answer = program("POST", CLEANUP)
    assert (answer.status_code, answer.json["status"]) == (202, "PENDING")
    assert tasks.light.storage.messages.count_waiting() == 1
    assert Run.get_by_id(answer.json["task_id"]).state == "waiting"


def test_failed_cleanup_returns_its_error(
    program: Callable[..., TestResponse], live_consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = make_cleanup_fail(monkeypatch)
    with process_one_run():
        answer = program("POST", CLEANUP)
    assert answer.status_code == 200
    assert (answer.json["closed_count"], answer.json["error"]) == (0, error)


def test_cleanup_does_not_wait_when_half_of_the_threads_do(
    program: Callable[..., TestResponse], live_consumer: Consumer
) -> None:
    places = 0
    while cleanup.waiting_requests.acquire(blocking=False):
        places += 1
    try:
        assert program("POST", CLEANUP).status_code == 202
    finally:
        cleanup.waiting_requests.release(places)
    assert places == 8


# --- invalid requests ----------------------------------------------------------------------------------------


def test_missing_token_names_the_bearer_scheme(browser: Browser) -> None:
    for header in (None, "Bearer", "Bearer  ", "Bearer a b", "Token x", "Bearer dewey_Ω".encode().decode("latin-1")):
        answer = browser.get(STATS, headers={"Authorization": header} if header else {})
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")


def test_lower_role_is_denied_with_the_required_role(browser: Browser) -> None:
    headers = bearer_headers("viewer")
    for path in (CLEANUP, CLEANUP_ASYNC):
        assert "operator" in str(problem(browser.post(path, headers=headers), 403)["detail"])
    assert [entry.action for entry in AuditEntry.select()] == ["denied", "denied"]
    assert (tasks.light.storage.messages.count_waiting(), Run.select().count()) == (0, 0)


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "/api/v1/admin/nothing", f"{STATS}/", "/api/v1/../x"])
def test_unknown_path_is_not_found_for_every_client(
    program: Callable[..., TestResponse], browser: Browser, path: str
) -> None:
    problem(browser.get(path), 404)
    problem(program("POST", path), 404)


def test_wrong_method_is_rejected_with_the_allowed_ones(program: Callable[..., TestResponse], browser: Browser) -> None:
    answer = program("DELETE", STATS)
    problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    problem(browser.get(CLEANUP), 405)


def test_oversized_body_is_rejected(program: Callable[..., TestResponse]) -> None:
    problem(program("POST", CLEANUP_ASYNC, data=b"x" * (2 << 20), content_type="application/json"), 413)
    assert nothing_changed()


def test_body_of_another_media_type_is_rejected(program: Callable[..., TestResponse]) -> None:
    problem(program("POST", CLEANUP_ASYNC, data="<x/>", content_type="application/xml"), 415)
    assert nothing_changed()
    assert program("POST", CLEANUP_ASYNC, data="{}", content_type="application/json").status_code == 202


def test_nul_in_a_parameter_is_rejected(sign_in_as: Callable[[str], Browser]) -> None:
    browser = sign_in_as("viewer")
    assert problem(browser.get(f"{STATS}?reader=a%00b"), 422)["field"] == "reader"
    assert browser.get("/sessions?reader=a%00b").status_code == 422
    assert browser.get("/runs/a%00b").status_code == 404


@pytest.mark.adds_views
def test_internal_error_reveals_no_details(app: Flask, browser: Browser) -> None:
    @public
    def broken() -> None:
        raise RuntimeError("an internal secret")

    app.add_url_rule("/api/broken", "broken", broken)
    answer = browser.get("/api/broken")
    problem(answer, 500)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


# --- health --------------------------------------------------------------------------------------------------


def test_liveness_returns_ok(browser: Browser) -> None:
    assert browser.get("/healthz").json == browser.get("/healthcheck").json == {"status": "ok"}


def test_readiness_lists_every_reason(browser: Browser, live_consumer: Consumer) -> None:
    answer = browser.get("/readyz")
    assert problem(answer, 503)["reasons"] == ["no live worker on heavy", "no live worker on normal"]
    assert int(answer.headers["Retry-After"]) > 0
    for queue in ("heavy", "normal"):
        Consumer.create(**{**live_consumer.__data__, "id": f"host:1:{queue}", "queue": queue})
    assert (browser.get("/readyz").status_code, browser.get("/readyz").json) == (200, {"status": "ok", "warnings": []})
