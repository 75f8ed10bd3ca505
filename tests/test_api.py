"""The JSON API: what it answers to right and to wrong requests, without a consumer."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from browsers import Browser, bearer_headers
from flask import Flask
from inline_worker import make_cleanup_fail, one_run_worked_off
from werkzeug.test import TestResponse

import tasks
from admin.api import cleanup
from admin.auth.access import open_to_all
from engine.broker.messages import Requester
from engine.control.queues import pause, resume
from engine.models import Run, WorkerProcess, now
from models import AuditEntry, Book, ReadingSession, User

ADMIN = "/api/v1/admin/reading-sessions"
STATS, CLEANUP, CLEANUP_ASYNC = f"{ADMIN}/cleanup-stats", f"{ADMIN}/cleanup", f"{ADMIN}/cleanup-async"


@pytest.fixture
def program(app: Flask, browser: Browser) -> Callable[..., TestResponse]:
    """Sends requests with an operator's token."""
    headers = bearer_headers("operator")

    def send(method: str, path: str, **options: object) -> TestResponse:
        return browser.open(path, method=method, headers=headers | options.pop("headers", {}), **options)

    return send


@pytest.fixture
def live_consumer(app: Flask) -> WorkerProcess:
    """The record of a consumer that serves `light`, and never takes anything."""
    return WorkerProcess.create(
        id="host:1:abc", queue="light", host="host", pid=1, code_version="1", worker_type="process", worker_count=2,
        periodic=True, started_at=now(), beat_at=now(), scheduler_at=now(),
    )  # fmt: skip


def problem(answer: TestResponse, status: int) -> dict[str, object]:
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert set(answer.json) >= {"type", "title", "status", "detail"}
    assert answer.json["status"] == status
    return answer.json


# --- the statistics ------------------------------------------------------------------------------------------


def test_the_statistics_have_their_shape_and_the_right_numbers(program: Callable[..., TestResponse]) -> None:
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
def test_hours_are_a_whole_number_from_1_to_168(program: Callable[..., TestResponse], hours: str, period: int) -> None:
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
def test_other_hours_are_refused_by_name(program: Callable[..., TestResponse], hours: str) -> None:
    answer = problem(program("GET", STATS, query_string={"hours": hours}), 422)
    assert answer["field"] == "hours"
    assert str(answer["detail"]).startswith("hours: ")


def test_hours_given_twice_are_refused_and_what_is_unknown_is_ignored(program: Callable[..., TestResponse]) -> None:
    assert problem(program("GET", f"{STATS}?hours=1&hours=2"), 422)["field"] == "hours"
    assert program("GET", f"{STATS}?_=1732384800&hours=2").json["period_hours"] == 2


# --- the cleanup ---------------------------------------------------------------------------------------------


def test_an_asynchronous_cleanup_is_always_accepted(program: Callable[..., TestResponse]) -> None:
    pause(tasks.light, by=Requester("cli", "test"))
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


def test_asking_for_a_cleanup_leaves_one_line_in_the_audit(program: Callable[..., TestResponse]) -> None:
    task_id = program("POST", CLEANUP_ASYNC).json["task_id"]
    entry = AuditEntry.get()
    assert (entry.action, entry.target, entry.actor_kind, entry.source) == ("tasks.run", task_id, "token", "api")
    assert entry.after == {"task": "close_abandoned_sessions", "arguments": {}}


@pytest.mark.parametrize("what", [None, "close_abandoned_sessions"])
def test_a_cleanup_on_a_paused_queue_conflicts_and_leaves_nothing_behind(
    program: Callable[..., TestResponse], live_consumer: WorkerProcess, what: str | None
) -> None:
    pause(tasks.light, task=what, by=Requester("cli", "test"))
    assert "paused" in str(problem(program("POST", CLEANUP), 409)["detail"])
    resume(tasks.light, task=what)
    assert nothing_happened()


@pytest.mark.parametrize("silence", [None, timedelta(minutes=5)])
def test_a_cleanup_that_nobody_would_run_is_refused_and_leaves_nothing_behind(
    program: Callable[..., TestResponse], live_consumer: WorkerProcess, silence: timedelta | None
) -> None:
    if silence:
        WorkerProcess.update(beat_at=now() - silence).execute()
    else:
        WorkerProcess.update(stopped_at=now()).execute()
    answer = program("POST", CLEANUP)
    assert "light" in str(problem(answer, 503)["detail"])
    assert int(answer.headers["Retry-After"]) > 0
    assert nothing_happened()


def nothing_happened() -> bool:
    return (tasks.light.storage.messages.count_waiting(), Run.select().count(), AuditEntry.select().count()) == (
        0,
        0,
        0,
    )


def test_a_cleanup_that_takes_too_long_is_accepted_and_goes_on(
    program: Callable[..., TestResponse], live_consumer: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "LONGEST_WAIT_SECONDS", 0.1)
    answer = program("POST", CLEANUP)
    assert (answer.status_code, answer.json["status"]) == (202, "PENDING")
    assert tasks.light.storage.messages.count_waiting() == 1
    assert Run.get_by_id(answer.json["task_id"]).state == "waiting"


def test_a_cleanup_that_failed_for_good_is_an_answer_that_says_why(
    program: Callable[..., TestResponse], live_consumer: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = make_cleanup_fail(monkeypatch)
    with one_run_worked_off():
        answer = program("POST", CLEANUP)
    assert answer.status_code == 200
    assert (answer.json["closed_count"], answer.json["error"]) == (0, error)


def test_when_half_of_the_threads_wait_the_next_caller_is_not_kept(
    program: Callable[..., TestResponse], live_consumer: WorkerProcess
) -> None:
    places = 0
    while cleanup.waiting.acquire(blocking=False):
        places += 1
    try:
        assert program("POST", CLEANUP).status_code == 202
    finally:
        cleanup.waiting.release(places)
    assert places == 8


# --- what is wrong with the request --------------------------------------------------------------------------


def test_without_a_token_the_answer_names_the_scheme(browser: Browser) -> None:
    for given in (None, "Bearer", "Bearer  ", "Bearer a b", "Token x", "Bearer dewey_Ω".encode().decode("latin-1")):
        answer = browser.get(STATS, headers={"Authorization": given} if given else {})
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")


def test_a_role_that_is_too_low_is_told_which_one_is_needed(browser: Browser) -> None:
    headers = bearer_headers("viewer")
    for path in (CLEANUP, CLEANUP_ASYNC):
        assert "operator" in str(problem(browser.post(path, headers=headers), 403)["detail"])
    assert [entry.action for entry in AuditEntry.select()] == ["denied", "denied"]
    assert (tasks.light.storage.messages.count_waiting(), Run.select().count()) == (0, 0)


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "/api/v1/admin/nothing", f"{STATS}/", "/api/v1/../x"])
def test_an_unknown_path_is_not_found_by_anybody(
    program: Callable[..., TestResponse], browser: Browser, path: str
) -> None:
    problem(browser.get(path), 404)
    problem(program("POST", path), 404)


def test_a_wrong_method_is_told_the_right_ones(program: Callable[..., TestResponse], browser: Browser) -> None:
    answer = program("DELETE", STATS)
    problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    problem(browser.get(CLEANUP), 405)


def test_a_body_that_is_too_long_is_refused(program: Callable[..., TestResponse]) -> None:
    problem(program("POST", CLEANUP_ASYNC, data=b"x" * (2 << 20), content_type="application/json"), 413)
    assert nothing_happened()


def test_a_body_of_another_kind_is_refused(program: Callable[..., TestResponse]) -> None:
    problem(program("POST", CLEANUP_ASYNC, data="<x/>", content_type="application/xml"), 415)
    assert nothing_happened()
    assert program("POST", CLEANUP_ASYNC, data="{}", content_type="application/json").status_code == 202


def test_nul_is_refused_before_a_database_chokes_on_it(signed_in: Callable[[str], Browser]) -> None:
    browser = signed_in("viewer")
    assert problem(browser.get(f"{STATS}?reader=a%00b"), 422)["field"] == "reader"
    assert browser.get("/sessions?reader=a%00b").status_code == 422
    assert browser.get("/runs/a%00b").status_code == 404


@pytest.mark.adds_views
def test_a_fault_of_our_own_says_nothing_about_it(app: Flask, browser: Browser) -> None:
    @open_to_all
    def broken() -> None:
        raise RuntimeError("the secret of the house")

    app.add_url_rule("/api/broken", "broken", broken)
    answer = browser.get("/api/broken")
    problem(answer, 500)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


# --- health --------------------------------------------------------------------------------------------------


def test_the_process_says_that_it_lives(browser: Browser) -> None:
    assert browser.get("/healthz").json == browser.get("/healthcheck").json == {"status": "ok"}


def test_readiness_names_every_reason_against_it(browser: Browser, live_consumer: WorkerProcess) -> None:
    answer = browser.get("/readyz")
    assert problem(answer, 503)["reasons"] == ["no live worker on heavy", "no live worker on normal"]
    assert int(answer.headers["Retry-After"]) > 0
    for queue in ("heavy", "normal"):
        WorkerProcess.create(**{**live_consumer.__data__, "id": f"host:1:{queue}", "queue": queue})
    assert (browser.get("/readyz").status_code, browser.get("/readyz").json) == (200, {"status": "ok", "warnings": []})
