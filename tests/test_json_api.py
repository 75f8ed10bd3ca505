"""The JSON API over the tables of actions and reads: responses, paging, errors."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from browsers import PEOPLE, Browser, bearer_headers
from factories import create_attempt, create_closed_session, create_consumer, create_run, create_session
from flask import Flask
from werkzeug.test import TestResponse

import tasks
from engine.broker.effects import Effects
from engine.broker.messages import Requester
from engine.control import bulk
from engine.models import LogLine, Run, Tick, now
from models import AuditEntry, SavedView

BASE = "/api/v1/admin"
UNKNOWN_ID = str(UUID(int=7))

CallApi = Callable[..., TestResponse]


@pytest.fixture
def call_api(app: Flask) -> CallApi:
    """Return a function that sends an admin's requests. `json` is the body."""
    browser, headers = app.test_client(), bearer_headers("admin")

    def send(method: str, path: str, extra_headers: dict[str, str] | None = None, **options: Any) -> TestResponse:
        return browser.open(f"{BASE}{path}", method=method, headers=headers | (extra_headers or {}), **options)

    return send


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    assert answer.json is not None and answer.json["status"] == status
    return answer.json


# --- reads ---------------------------------------------------------------------------------------------------


def test_runs_are_filtered_and_paged_by_next(call_api: CallApi) -> None:
    made = [create_run(state="failed", enqueued_at=now() - timedelta(minutes=number)).id for number in range(5)]
    create_run(state="succeeded")
    ids: list[str] = []
    path: str | None = "/runs?state=failed&limit=2"
    while path:
        page = call_api("GET", path.removeprefix(BASE)).json
        ids += [run["id"] for run in page["runs"]]
        path = page["next"]
        assert len(ids) <= len(made), "the pages do not end"
    assert ids == made


def test_every_list_continues_with_next_until_its_end(call_api: CallApi) -> None:
    for number in range(5):
        create_session(minutes_ago=number)
        run = create_run(state="failed", enqueued_at=now() - timedelta(minutes=number))
        tasks.light.storage.messages.write(Effects().enqueue(f"dead-{number}", b"unreadable"))
        kill_workers(f"c{number}")
        Tick.create(
            task="close_abandoned_sessions",
            due_at=now() - timedelta(hours=number),
            queue="light",
            state="late",
            seen_at=now(),
        )
        ticked = bulk.by_ids([each.id for each in Run.select()])
        begun = bulk.create("retry", ticked, bulk.preflight(ticked, 1).fingerprint, Requester("cli", "test"))
        LogLine.create(run_id=run.id, delivery=1, number=1, at=now(), level="INFO", logger="x", text="x")
        call_api("POST", "/queues/heavy/pause", json={})
    schedule = "/schedule/close_abandoned_sessions/ticks"
    for path in ("/runs", "/sessions", "/dead", "/bulk", f"/bulk/{begun.id}/items", schedule, "/audit"):
        whole = call_api("GET", f"{path}?limit=200").json
        (name,) = (key for key, value in whole.items() if isinstance(value, list))
        items, next_page = [], f"{path}?limit=2"
        while next_page:
            page = call_api("GET", next_page.removeprefix(BASE)).json
            assert 0 < len(page[name]) <= 2
            items, next_page = items + page[name], page["next"]
        assert items == whole[name] and len(items) == 5, path


def kill_workers(consumer: str) -> None:
    """Let the runs that wait on `light` kill their workers."""
    while tasks.light.storage.deliveries.settle_and_claim(consumer, "w", False, "{}").claimed:
        tasks.light.storage.deliveries.release(consumer, "w", "it cannot be read", 1)


def test_search_query_is_parsed(call_api: CallApi) -> None:
    expected = create_run(
        task="get_cleanup_statistics", kwargs={"hours": 24}, state="failed", error="refused by 10.0.0.1"
    )
    create_run(state="failed", error="timed out")
    assert [run["id"] for run in call_api("GET", "/runs?q=args.hours:24+refused").json["runs"]] == [expected.id]
    assert problem(call_api("GET", "/runs?q=duration:soon"), 422)["field"] == "q"
    assert call_api("GET", "/runs/counts?task=get_cleanup_statistics").json["counts"]["failed"] == 1


def test_run_has_its_attempts_and_log(call_api: CallApi) -> None:
    run = create_run(state="failed", attempts=2, ended_at=now())
    for number in (1, 2):
        create_attempt(run, number, "failed", error="no")
        LogLine.create(
            run_id=run.id, delivery=number, number=1, at=now(), level="INFO", logger="x", text=f"try {number}"
        )
    body = call_api("GET", f"/runs/{run.id}").json
    assert (body["id"], body["attempts"], [each["number"] for each in body["history"]]) == (run.id, 2, [1, 2])
    first = call_api("GET", f"/runs/{run.id}/log?limit=1").json
    second = call_api("GET", first["next"].removeprefix(BASE)).json
    assert [line["text"] for line in first["lines"] + second["lines"]] == ["try 1", "try 2"]
    assert second["next"] is None
    assert call_api("GET", f"/runs/{run.id}/why").json["causes"][0]["cause"] == "ended"


def test_queues_workers_and_dead_letters_are_listed(call_api: CallApi) -> None:
    consumer = create_consumer("light")
    tasks.get_cleanup_statistics(hours=3)
    assert [item["name"] for item in call_api("GET", "/queues").json["queues"]] == ["heavy", "normal", "light"]
    assert call_api("GET", "/queues/light").json["waiting"] == 1
    assert call_api("GET", "/queues/light/head").json["head"][0]["kwargs"] == {"hours": 3}
    assert call_api("GET", "/broker").json["product"] == "sqlite"
    assert [item["id"] for item in call_api("GET", "/workers").json["workers"]] == [consumer.id]
    assert call_api("GET", f"/workers/{consumer.id}").json["worker"]["state"] == "live"
    assert call_api("GET", "/dead").json == {"dead": [], "next": None, "total": 0}


def test_tasks_and_schedules_match_the_code(call_api: CallApi) -> None:
    body = call_api("GET", "/tasks/app.tasks.get_cleanup_statistics").json
    assert body["parameters"] == [{"name": "hours", "type": "int", "required": False, "default": 24}]
    assert {item["task"] for item in call_api("GET", "/tasks").json["tasks"]} >= {
        "get_cleanup_statistics",
        "process_bulk",
    }
    body = call_api("GET", "/schedule/close_abandoned_sessions").json
    assert (body["expression"], body["words"], len(body["next"])) == ("*/30 * * * *", "Every 30 minutes", 5)
    Tick.create(task="close_abandoned_sessions", due_at=now(), queue="light", state="missed", seen_at=now())
    ticks = call_api("GET", "/schedule/close_abandoned_sessions/ticks?state=missed").json
    assert [item["state"] for item in ticks["ticks"]] == ["missed"]


def test_sessions_are_listed_with_who_closed_them(call_api: CallApi) -> None:
    session, other = create_session("ann@example.org", "Emma"), create_closed_session("bob@example.org", "Emma")
    assert [each["email"] for each in call_api("GET", "/sessions").json["sessions"]] == ["ann@example.org"]
    assert [each["id"] for each in call_api("GET", "/sessions?state=closed").json["sessions"]] == [str(other.id)]
    call_api("POST", f"/sessions/{session.id}/close")
    body = call_api("GET", f"/sessions/{session.id}").json
    assert (body["is_active"], body["closed_by"]) == (False, {"kind": "token", "name": "a admin program"})


def test_statistics_equal_the_charts(call_api: CallApi) -> None:
    create_closed_session(ended_at=now())
    body = call_api("GET", "/statistics/runs?hours=168").json
    assert (body["hours"], len(body["steps"]), body["step_seconds"]) == (168, 42, 4 * 3600)
    body = call_api("GET", "/statistics/sessions").json
    assert (body["now"]["closed"], sum(hour["closed"] for hour in body["by_hour"])) == (1, 1)


def test_unchanged_read_returns_304(call_api: CallApi) -> None:
    create_run()
    first = call_api("GET", "/runs")
    again = call_api("GET", "/runs", {"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    create_run()
    assert call_api("GET", "/runs", {"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_people_and_tokens_hide_secrets_and_audit_lists_every_row(call_api: CallApi) -> None:
    made = call_api("POST", "/tokens/create", json={"name": "new", "role": "viewer"}).json["result"]
    call_api("POST", "/queues/light/pause", json={"reason": "x"})
    people, tokens_told = call_api("GET", "/operators"), call_api("GET", "/tokens")
    assert [item["email"] for item in people.json["operators"]] == sorted(PEOPLE.values())
    assert {"new", "a admin program"} <= {item["name"] for item in tokens_told.json["tokens"]}
    assert made not in tokens_told.text and "hash" not in people.text and "digest" not in tokens_told.text
    first = call_api("GET", "/audit?actor=a+admin+program&limit=1").json
    second = call_api("GET", first["next"].removeprefix(BASE)).json
    assert [item["action"] for item in first["audit"] + second["audit"]] == ["queues.pause", "tokens.create"]
    assert call_api("GET", "/audit?action=tokens.create&source=api").json["audit"][0]["after"]["role"] == "viewer"
    assert call_api("GET", "/audit?source=web").json == {"audit": [], "next": None}


# --- commands ------------------------------------------------------------------------------------------------


def test_task_is_run_with_typed_arguments(call_api: CallApi) -> None:
    body = {"arguments": {"hours": 3}, "priority": 2.5, "eta": (now() + timedelta(hours=1)).isoformat()}
    made = Run.get_by_id(call_api("POST", "/tasks/get_cleanup_statistics/run", json=body).json["result"]["run_id"])
    assert (made.kwargs, made.priority, made.state, made.asked_by_kind) == ({"hours": 3}, 2.5, "scheduled", "token")
    assert problem(call_api("POST", "/tasks/nothing/run"), 404)
    assert (
        problem(call_api("POST", "/tasks/get_cleanup_statistics/run", json={"arguments": {"hours": "3"}}), 422)["field"]
        == "hours"
    )


def test_run_again_uses_the_same_or_new_arguments(call_api: CallApi) -> None:
    old = create_run(task="get_cleanup_statistics", kwargs={"hours": 5})
    made = [
        call_api("POST", f"/runs/{old.id}/again", json=body).json["result"]["run_id"]
        for body in (None, {"arguments": {}})
    ]
    assert [(Run.get_by_id(run_id).kwargs, Run.get_by_id(run_id).parent_id) for run_id in made] == [
        ({"hours": 5}, old.id),
        ({}, old.id),
    ]


def test_bulk_retry_needs_its_preflight_fingerprint(call_api: CallApi, live_consumers: None) -> None:
    create_run(state="failed")
    shown = call_api("GET", "/bulk/preflight?search=state:failed").json
    assert (shown["total"], shown["states"]) == (1, {"failed": 1})
    body = {"fingerprint": shown["fingerprint"], "search": "state:failed"}
    number = call_api("POST", "/bulk/retry", json=body).json["result"]
    assert call_api("GET", f"/bulk/{number}").json["total"] == 1
    assert [item["state"] for item in call_api("GET", f"/bulk/{number}/items").json["items"]] == ["waiting"]
    assert [item["id"] for item in call_api("GET", "/bulk").json["bulks"]] == [number]
    create_run(state="failed")
    assert problem(call_api("POST", "/bulk/retry", json=body), 409)


def test_view_is_saved_listed_and_removed(call_api: CallApi) -> None:
    call_api("POST", "/views/save", json={"name": "bad", "search": "state:failed", "shared": True})
    (view,) = call_api("GET", "/views").json["views"]
    assert (view["name"], view["shared"]) == ("bad", True)
    call_api("POST", f"/views/{view['id']}/delete")
    assert SavedView.select().count() == 0
    assert problem(call_api("POST", f"/views/{view['id']}/delete"), 404)


# --- errors --------------------------------------------------------------------------------------------------


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
def test_invalid_command_body_is_rejected_by_field(call_api: CallApi, path: str, body: Any, field: str) -> None:
    assert problem(call_api("POST", path, json=body), 422)["field"] == field
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
def test_invalid_query_is_rejected_by_field(call_api: CallApi, path: str, field: str) -> None:
    assert problem(call_api("GET", path), 422)["field"] == field


@pytest.mark.parametrize(
    "path",
    [
        f"/runs/{UNKNOWN_ID}",
        f"/runs/{UNKNOWN_ID}/log",
        "/tasks/nothing",
        "/queues/nothing",
        "/workers/x",
        f"/sessions/{UNKNOWN_ID}",
        "/bulk/12",
        "/bulk/x",
        f"/dead/{UNKNOWN_ID}",
        "/schedule/nothing",
        "/nothing",
        "//runs",
        "/runs/",
    ],
)
def test_missing_object_is_a_404_problem(call_api: CallApi, path: str) -> None:
    problem(call_api("GET", path), 404)


@pytest.mark.parametrize(
    "path",
    [
        f"/runs/{UNKNOWN_ID}/cancel",
        f"/sessions/{UNKNOWN_ID}/close",
        "/bulk/12/stop",
        "/bulk/x/stop",
        "/views/3/delete",
        "/queues/nothing/pause",
        "/schedule/process_bulk/run",
        f"/dead/{UNKNOWN_ID}/requeue",
        "/workers/missing/wake",
    ],
)
def test_command_on_a_missing_object_is_404_and_a_late_one_409(call_api: CallApi, path: str) -> None:
    problem(call_api("POST", path), 404)
    problem(call_api("POST", f"/runs/{create_run(state='succeeded').id}/cancel"), 409)
    gone = create_consumer("light", stopped_at=now())
    for name in (gone.id, f"light@{gone.host}:{gone.pid}"):
        problem(call_api("POST", f"/workers/{name}/wake"), 409)


def test_body_must_be_json_of_limited_size(call_api: CallApi) -> None:
    path = "/queues/light/pause"
    problem(call_api("POST", path, data={"reason": "x"}), 415)
    problem(call_api("POST", path, data="<a/>", content_type="application/xml"), 415)
    problem(call_api("POST", path, data="{", content_type="application/json"), 400)
    problem(call_api("POST", path, data='{"reason": "\\ud800"}', content_type="application/json"), 400)
    problem(call_api("POST", path, data=" " * (1 << 20) + "{}", content_type="application/json"), 413)
    long = json.dumps({"arguments": {"hours": "x" * ((1 << 20) - 100)}})
    assert (
        call_api("POST", "/tasks/get_cleanup_statistics/run", data=long, content_type="application/json").status_code
        == 422
    )
    assert call_api("POST", path, json={}).json == {"result": None}


def test_invalid_long_argument_is_rejected_by_field(call_api: CallApi) -> None:
    long = json.dumps({"name": "x" * ((1 << 20) - 100)})
    made = create_run(task="close_abandoned_sessions")
    answer = call_api("POST", f"/runs/{made.id}/again", data=long, content_type="application/json")
    assert problem(answer, 422)["field"] == "name"


def test_wrong_method_is_405_with_the_allowed_ones(call_api: CallApi) -> None:
    answer = call_api("DELETE", "/runs")
    problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "POST" in call_api("PUT", "/queues/light/pause").headers["Allow"]
    problem(call_api("GET", "/bulk/retry"), 405)


def test_cookie_request_needs_the_csrf_token(operator: Browser) -> None:
    problem(operator.post(f"{BASE}/queues/light/pause", json={}), 400)
    headers = {"X-CSRFToken": operator.form_token}
    assert operator.post(f"{BASE}/queues/light/pause", json={}, headers=headers).status_code == 200
    assert operator.get(f"{BASE}/queues/light").json["paused"]["by"] == "operator@example.org"
