"""The JSON API over the tables of actions and reads: its answers, its pages, its refusals."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from browsers import PEOPLE, Browser, bearer_headers
from flask import Flask
from library import attempt, closed, consumer_of, run, session
from werkzeug.test import TestResponse

import tasks
from engine.broker.effects import Effects
from engine.broker.messages import Requester
from engine.control import bulk
from engine.models import LogLine, Run, Tick, now
from models import AuditEntry, SavedView

BASE = "/api/v1/admin"
NOBODY = str(UUID(int=7))

Ask = Callable[..., TestResponse]


@pytest.fixture
def ask(app: Flask) -> Ask:
    """Sends an admin program's requests; `json` is the body."""
    browser, headers = app.test_client(), bearer_headers("admin")

    def send(method: str, path: str, more: dict[str, str] | None = None, **options: Any) -> TestResponse:
        return browser.open(f"{BASE}{path}", method=method, headers=headers | (more or {}), **options)

    return send


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    assert answer.json is not None and answer.json["status"] == status
    return answer.json


# --- reads ---------------------------------------------------------------------------------------------------


def test_runs_are_listed_by_the_filter_of_their_page_and_paged_by_next(ask: Ask) -> None:
    made = [run(state="failed", enqueued_at=now() - timedelta(minutes=number)).id for number in range(5)]
    run(state="succeeded")
    found: list[str] = []
    path: str | None = "/runs?state=failed&limit=2"
    while path:
        page = ask("GET", path.removeprefix(BASE)).json
        found += [one["id"] for one in page["runs"]]
        path = page["next"]
        assert len(found) <= len(made), "the pages do not end"
    assert found == made


def test_every_list_goes_on_where_next_points_until_it_ends(ask: Ask) -> None:
    for number in range(5):
        session(minutes_ago=number)
        one = run(state="failed", enqueued_at=now() - timedelta(minutes=number))
        tasks.light.storage.messages.write(Effects().enqueue(f"dead-{number}", b"unreadable"))
        die(f"c{number}")
        Tick.create(
            task="close_abandoned_sessions",
            due_at=now() - timedelta(hours=number),
            queue="light",
            state="late",
            seen_at=now(),
        )
        ticked = bulk.ticked([each.id for each in Run.select()])
        begun = bulk.begin("retry", ticked, bulk.preflight(ticked, 1).fingerprint, Requester("cli", "test"))
        LogLine.create(run_id=one.id, delivery=1, number=1, at=now(), level="INFO", logger="x", text="x")
        ask("POST", "/queues/heavy/pause", json={})
    schedule = "/schedule/close_abandoned_sessions/ticks"
    for path in ("/runs", "/sessions", "/dead", "/bulk", f"/bulk/{begun.id}/items", schedule, "/audit"):
        whole = ask("GET", f"{path}?limit=200").json
        (name,) = (key for key, value in whole.items() if isinstance(value, list))
        found, next_page = [], f"{path}?limit=2"
        while next_page:
            page = ask("GET", next_page.removeprefix(BASE)).json
            assert 0 < len(page[name]) <= 2
            found, next_page = found + page[name], page["next"]
        assert found == whole[name] and len(found) == 5, path


def die(consumer: str) -> None:
    """What waits on `light` takes down its workers."""
    while tasks.light.storage.deliveries.settle_and_claim(consumer, "w", False, "{}").claimed:
        tasks.light.storage.deliveries.release(consumer, "w", "it cannot be read", 1)


def test_the_search_box_is_understood(ask: Ask) -> None:
    wanted = run(task="get_cleanup_statistics", kwargs={"hours": 24}, state="failed", error="refused by 10.0.0.1")
    run(state="failed", error="timed out")
    assert [one["id"] for one in ask("GET", "/runs?q=args.hours:24+refused").json["runs"]] == [wanted.id]
    assert problem(ask("GET", "/runs?q=duration:soon"), 422)["field"] == "q"
    assert ask("GET", "/runs/counts?task=get_cleanup_statistics").json["counts"]["failed"] == 1


def test_one_run_is_told_with_its_attempts_and_its_log(ask: Ask) -> None:
    one = run(state="failed", attempts=2, ended_at=now())
    for number in (1, 2):
        attempt(one, number, "failed", error="no")
        LogLine.create(
            run_id=one.id, delivery=number, number=1, at=now(), level="INFO", logger="x", text=f"try {number}"
        )
    told = ask("GET", f"/runs/{one.id}").json
    assert (told["id"], told["attempts"], [each["number"] for each in told["history"]]) == (one.id, 2, [1, 2])
    first = ask("GET", f"/runs/{one.id}/log?limit=1").json
    second = ask("GET", first["next"].removeprefix(BASE)).json
    assert [line["text"] for line in first["lines"] + second["lines"]] == ["try 1", "try 2"]
    assert second["next"] is None
    assert ask("GET", f"/runs/{one.id}/why").json["causes"][0]["cause"] == "ended"


def test_what_carries_the_work_is_told(ask: Ask) -> None:
    consumer = consumer_of("light")
    tasks.get_cleanup_statistics(hours=3)
    assert [one["name"] for one in ask("GET", "/queues").json["queues"]] == ["heavy", "normal", "light"]
    assert ask("GET", "/queues/light").json["waiting"] == 1
    assert ask("GET", "/queues/light/head").json["head"][0]["kwargs"] == {"hours": 3}
    assert ask("GET", "/broker").json["product"] == "sqlite"
    assert [one["id"] for one in ask("GET", "/workers").json["workers"]] == [consumer.id]
    assert ask("GET", f"/workers/{consumer.id}").json["worker"]["state"] == "live"
    assert ask("GET", "/dead").json == {"dead": [], "next": None, "total": 0}


def test_tasks_and_schedules_are_told_as_the_code_has_them(ask: Ask) -> None:
    told = ask("GET", "/tasks/app.tasks.get_cleanup_statistics").json
    assert told["parameters"] == [{"name": "hours", "type": "int", "required": False, "default": 24}]
    assert {one["task"] for one in ask("GET", "/tasks").json["tasks"]} >= {"get_cleanup_statistics", "process_bulk"}
    told = ask("GET", "/schedule/close_abandoned_sessions").json
    assert (told["expression"], told["words"], len(told["next"])) == ("*/30 * * * *", "Every 30 minutes", 5)
    Tick.create(task="close_abandoned_sessions", due_at=now(), queue="light", state="missed", seen_at=now())
    ticks = ask("GET", "/schedule/close_abandoned_sessions/ticks?state=missed").json
    assert [one["state"] for one in ticks["ticks"]] == ["missed"]


def test_sessions_are_listed_and_told_with_who_closed_them(ask: Ask) -> None:
    one, other = session("ann@example.org", "Emma"), closed("bob@example.org", "Emma")
    assert [each["email"] for each in ask("GET", "/sessions").json["sessions"]] == ["ann@example.org"]
    assert [each["id"] for each in ask("GET", "/sessions?state=closed").json["sessions"]] == [str(other.id)]
    ask("POST", f"/sessions/{one.id}/close")
    told = ask("GET", f"/sessions/{one.id}").json
    assert (told["is_active"], told["closed_by"]) == (False, {"kind": "token", "name": "a admin program"})


def test_statistics_over_time_are_those_of_the_charts(ask: Ask) -> None:
    closed(ended_at=now())
    told = ask("GET", "/statistics/runs?hours=168").json
    assert (told["hours"], len(told["steps"]), told["step_seconds"]) == (168, 42, 4 * 3600)
    told = ask("GET", "/statistics/sessions").json
    assert (told["now"]["closed"], sum(one["closed"] for one in told["by_hour"])) == (1, 1)


def test_a_read_that_is_known_already_is_a_304(ask: Ask) -> None:
    run()
    first = ask("GET", "/runs")
    again = ask("GET", "/runs", {"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    run()
    assert ask("GET", "/runs", {"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_people_and_tokens_are_told_without_their_secrets_and_the_audit_with_every_line(ask: Ask) -> None:
    made = ask("POST", "/tokens/create", json={"name": "new", "role": "viewer"}).json["result"]
    ask("POST", "/queues/light/pause", json={"reason": "x"})
    people, tokens_told = ask("GET", "/operators"), ask("GET", "/tokens")
    assert [one["email"] for one in people.json["operators"]] == sorted(PEOPLE.values())
    assert {"new", "a admin program"} <= {one["name"] for one in tokens_told.json["tokens"]}
    assert made not in tokens_told.text and "hash" not in people.text and "digest" not in tokens_told.text
    first = ask("GET", "/audit?actor=a+admin+program&limit=1").json
    second = ask("GET", first["next"].removeprefix(BASE)).json
    assert [one["action"] for one in first["audit"] + second["audit"]] == ["queues.pause", "tokens.create"]
    assert ask("GET", "/audit?action=tokens.create&source=api").json["audit"][0]["after"]["role"] == "viewer"
    assert ask("GET", "/audit?source=web").json == {"audit": [], "next": None}


# --- commands ------------------------------------------------------------------------------------------------


def test_a_task_is_run_with_typed_arguments(ask: Ask) -> None:
    body = {"arguments": {"hours": 3}, "priority": 2.5, "eta": (now() + timedelta(hours=1)).isoformat()}
    made = Run.get_by_id(ask("POST", "/tasks/get_cleanup_statistics/run", json=body).json["result"]["run_id"])
    assert (made.kwargs, made.priority, made.state, made.asked_by_kind) == ({"hours": 3}, 2.5, "scheduled", "token")
    assert problem(ask("POST", "/tasks/nothing/run"), 404)
    assert (
        problem(ask("POST", "/tasks/get_cleanup_statistics/run", json={"arguments": {"hours": "3"}}), 422)["field"]
        == "hours"
    )


def test_a_run_is_run_again_with_its_own_arguments_or_with_others(ask: Ask) -> None:
    old = run(task="get_cleanup_statistics", kwargs={"hours": 5})
    made = [
        ask("POST", f"/runs/{old.id}/again", json=body).json["result"]["run_id"] for body in (None, {"arguments": {}})
    ]
    assert [(Run.get_by_id(one).kwargs, Run.get_by_id(one).parent_id) for one in made] == [
        ({"hours": 5}, old.id),
        ({}, old.id),
    ]


def test_many_runs_are_retried_after_their_preflight(ask: Ask, served: None) -> None:
    run(state="failed")
    shown = ask("GET", "/bulk/preflight?search=state:failed").json
    assert (shown["total"], shown["states"]) == (1, {"failed": 1})
    body = {"fingerprint": shown["fingerprint"], "search": "state:failed"}
    number = ask("POST", "/bulk/retry", json=body).json["result"]
    assert ask("GET", f"/bulk/{number}").json["total"] == 1
    assert [one["state"] for one in ask("GET", f"/bulk/{number}/items").json["items"]] == ["waiting"]
    assert [one["id"] for one in ask("GET", "/bulk").json["bulks"]] == [number]
    run(state="failed")
    assert problem(ask("POST", "/bulk/retry", json=body), 409)


def test_a_view_is_saved_listed_and_removed(ask: Ask) -> None:
    ask("POST", "/views/save", json={"name": "bad", "search": "state:failed", "shared": True})
    (view,) = ask("GET", "/views").json["views"]
    assert (view["name"], view["shared"]) == ("bad", True)
    ask("POST", f"/views/{view['id']}/delete")
    assert SavedView.select().count() == 0
    assert problem(ask("POST", f"/views/{view['id']}/delete"), 404)


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/queues/light/pause", {"reason": 5}, "reason"),
        ("/queues/light/pause", {"why": "x"}, "why"),
        ("/queues/light/pause", {"queue": "light"}, "queue"),
        ("/queues/light/pause", {"reason": "a\0b"}, "reason"),
        ("/tasks/get_cleanup_statistics/run", {"priority": "3"}, "priority"),
        ("/tasks/get_cleanup_statistics/run", {"priority": 1e300}, "priority"),
        ("/tasks/get_cleanup_statistics/run", {"eta": "0001-01-01T00:00:00+23:00"}, "eta"),
        ("/tasks/get_cleanup_statistics/run", {"eta": "tomorrow"}, "eta"),
        ("/tasks/get_cleanup_statistics/run", {"arguments": [1]}, "arguments"),
        ("/views/save", {"name": "x", "search": "state:failed", "shared": "true"}, "shared"),
        ("/views/save", {"name": "x"}, "search"),
        ("/tokens/create", {"name": "x", "role": "viewer", "days": "3"}, "days"),
        ("/bulk/99999999999999999999/stop", {}, "bulk_id"),
        ("/sessions/x/close", {}, "session_id"),
        ("/queues/light/pause", [1], "body"),
    ],
)  # fmt: skip
def test_what_is_unknown_or_ill_typed_is_refused_by_name(ask: Ask, path: str, body: Any, field: str) -> None:
    assert problem(ask("POST", path, json=body), 422)["field"] == field
    assert (AuditEntry.select().count(), Run.select().count(), tasks.light.pauses()) == (0, 0, {})


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/runs?limit=0", "limit"),
        ("/runs?limit=many", "limit"),
        ("/runs?limit=1&limit=2", "limit"),
        ("/runs?state=failed&state=dead", "state"),
        ("/runs?stat=failed", "stat"),
        ("/runs?before=yesterday", "before"),
        ("/runs/counts?limit=3", "limit"),
        ("/sessions/x", "session_id"),
        ("/sessions?state=open", "state"),
        ("/statistics/runs?hours=2", "hours"),
        ("/bulk/preflight", "search"),
        ("/dead?before=x", "before"),
    ],
)
def test_a_question_that_cannot_be_is_refused_by_name(ask: Ask, path: str, field: str) -> None:
    assert problem(ask("GET", path), 422)["field"] == field


@pytest.mark.parametrize(
    "path",
    [f"/runs/{NOBODY}", f"/runs/{NOBODY}/log", "/tasks/nothing", "/queues/nothing", "/workers/x", f"/sessions/{NOBODY}",
     "/bulk/12", "/bulk/x", f"/dead/{NOBODY}", "/schedule/nothing", "/nothing", "//runs", "/runs/"],
)  # fmt: skip
def test_what_is_not_there_is_a_404_that_a_program_can_read(ask: Ask, path: str) -> None:
    problem(ask("GET", path), 404)


@pytest.mark.parametrize(
    "path",
    [
        f"/runs/{NOBODY}/cancel",
        f"/sessions/{NOBODY}/close",
        "/bulk/12/stop",
        "/bulk/x/stop",
        "/views/3/delete",
        "/queues/nothing/pause",
        "/schedule/process_bulk/run",
        f"/dead/{NOBODY}/requeue",
        "/workers/nobody/wake",
    ],
)
def test_a_command_about_nothing_is_a_404_and_one_that_is_too_late_a_409(ask: Ask, path: str) -> None:
    problem(ask("POST", path), 404)
    problem(ask("POST", f"/runs/{run(state='succeeded').id}/cancel"), 409)
    gone = consumer_of("light", stopped_at=now())
    for name in (gone.id, f"light@{gone.host}:{gone.pid}"):
        problem(ask("POST", f"/workers/{name}/wake"), 409)


def test_a_body_must_be_json_and_not_too_long(ask: Ask) -> None:
    path = "/queues/light/pause"
    problem(ask("POST", path, data={"reason": "x"}), 415)
    problem(ask("POST", path, data="<a/>", content_type="application/xml"), 415)
    problem(ask("POST", path, data="{", content_type="application/json"), 400)
    problem(ask("POST", path, data='{"reason": "\\ud800"}', content_type="application/json"), 400)
    problem(ask("POST", path, data=" " * (1 << 20) + "{}", content_type="application/json"), 413)
    long = json.dumps({"arguments": {"hours": "x" * ((1 << 20) - 100)}})
    assert (
        ask("POST", "/tasks/get_cleanup_statistics/run", data=long, content_type="application/json").status_code == 422
    )
    assert ask("POST", path, json={}).json == {"result": None}


def test_arguments_that_no_message_holds_are_a_413(ask: Ask) -> None:
    long = json.dumps({"name": "x" * ((1 << 20) - 100)})
    made = run(task="close_abandoned_sessions")
    answer = ask("POST", f"/runs/{made.id}/again", data=long, content_type="application/json")
    assert problem(answer, 422)["field"] == "name"


def test_another_method_is_a_405_that_says_which_are_taken(ask: Ask) -> None:
    answer = ask("DELETE", "/runs")
    problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "POST" in ask("PUT", "/queues/light/pause").headers["Allow"]
    problem(ask("GET", "/bulk/retry"), 405)


def test_a_browser_needs_its_forms_token(operator: Browser) -> None:
    problem(operator.post(f"{BASE}/queues/light/pause", json={}), 400)
    headers = {"X-CSRFToken": operator.form_token}
    assert operator.post(f"{BASE}/queues/light/pause", json={}, headers=headers).status_code == 200
    assert operator.get(f"{BASE}/queues/light").json["paused"]["by"] == "operator@example.org"
