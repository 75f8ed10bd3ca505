"""Dewey's Flower API has the paths, keys, types and states of real Flower, which runs beside it."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from browsers import bearer_headers
from conftest import skip_or_fail
from factories import create_attempt, create_consumer, create_run
from flask import Flask
from flower_server import CannotInstall, FlowerServer, install, run_flower
from installation import Answer, Installation, send_request
from thread_worker import process_one_run
from waiting import wait_until
from werkzeug.test import TestResponse

import tasks
from admin.flower.serializers import STATES
from config import ROOT
from engine.models import Run, State, now
from models import AuditEntry

DOCUMENT = ROOT / "docs" / "from-celery.md"

#: Differences from Flower, by their place in the responses. The document lists all of them with the reason.
DIFFERENCES = {"stats.total", "stats.pool.writes", "stats.rusage", "stats.broker", "conf", "worker"}

CallApi = Callable[..., TestResponse]


@pytest.fixture
def call_api(app: Flask) -> CallApi:
    headers = bearer_headers("admin")

    def send(method: str, path: str, body: Any = None, **options: Any) -> TestResponse:
        # The header of curl and most scripts: JSON, declared as a form.
        data = None if body is None else json.dumps(body)
        kind = {} if body is None else {"content_type": "application/x-www-form-urlencoded"}
        return app.test_client().open(path, method=method, data=data, headers=headers, **{**kind, **options})

    return send


# --- beside real Flower --------------------------------------------------------------------------------------


class OwnServer:
    """Dewey, with the interface of a Flower server."""

    def __init__(self, installation: Installation) -> None:
        self.place, self.headers = installation, installation.bearer("operator")

    def ask(self, method: str, path: str, body: str | None = None) -> Answer:
        url = f"http://127.0.0.1:{self.place.port}{path}"
        request = urllib.request.Request(url, body and body.encode(), self.headers, method=method)
        return send_request(urllib.request.build_opener(), request)


@pytest.fixture
def both(redis_url: str, tmp_path: Path) -> Iterator[tuple[FlowerServer, OwnServer]]:
    try:
        install()
    except CannotInstall as error:
        skip_or_fail(f"no Flower: {error}")
    (tmp_path / "there").mkdir()
    installation = Installation(tmp_path)
    assert installation.flask("migrate").returncode == 0
    with run_flower(redis_url, tmp_path / "there") as flower_server, installation.consumer("light"), installation.web():
        yield flower_server, OwnServer(installation)


CALLS = {
    "SUCCESS": ("cleanup_old_task_results", None),
    "FAILURE": ("get_cleanup_statistics", '{"kwargs": {"hours": 500}}'),
    "RECEIVED": ("close_abandoned_sessions", '{"countdown": 3600}'),
}


def test_task_api_has_the_keys_and_types_of_flower(both: tuple[FlowerServer, OwnServer]) -> None:
    responses = [collect_responses(item) for item in both]
    document = DOCUMENT.read_text()
    differing: set[str] = set()
    for name, answers in zip(responses[0], zip(*(item.values() for item in responses), strict=True), strict=True):
        differing |= {f"{name}: {path}" for path in differences(*answers)}
    places = {item.partition(": ")[2] for item in differing}
    assert {
        item for item in differing if not any(is_listed(item.partition(": ")[2], path) for path in DIFFERENCES)
    } == set()
    assert {path for path in DIFFERENCES if not any(is_listed(item, path) for item in places)} == set()
    assert [path for path in DIFFERENCES if f"`{path}`" not in document] == []


def collect_responses(server: FlowerServer | OwnServer) -> dict[str, Any]:
    """Return the responses on the three tasks, once each has reached its state."""
    ids = {}
    for state, (name, body) in CALLS.items():
        answer = server.ask("POST", f"/api/task/async-apply/tasks.{name}", body)
        assert answer.status == 200, answer.text
        assert answer.json["state"] in ("PENDING", "STARTED", "SUCCESS", "FAILURE")
        assert set(answer.json) == {"task-id", "state"}
        ids[state] = answer.json["task-id"]

    def states() -> dict[str, str]:
        tasks_by_id = server.ask("GET", "/api/tasks").json
        return {run_id: tasks_by_id.get(run_id, {}).get("state") for run_id in ids.values()}

    wait_until(lambda: states() == {run_id: state for state, run_id in ids.items()}, 30)
    wait_until(lambda: len(server.ask("GET", "/api/workers?refresh=1").json) == 1, 30)
    responses: dict[str, Any] = {}
    listed_tasks = server.ask("GET", "/api/tasks?limit=3").json
    for state, run_id in ids.items():
        responses[f"/api/tasks {state}"] = listed_tasks[run_id]
        responses[f"/api/task/info {state}"] = server.ask("GET", f"/api/task/info/{run_id}").json
        if state != "RECEIVED":
            responses[f"/api/task/result {state}"] = server.ask("GET", f"/api/task/result/{run_id}").json
    (worker,) = server.ask("GET", "/api/workers").json.values()
    responses["/api/workers"] = worker
    responses["/api/workers?status"] = sorted(server.ask("GET", "/api/workers?status=1").json.values())
    types = server.ask("GET", "/api/task/types").json
    assert {f"tasks.{name}" for name, _ in CALLS.values()} <= set(types["task-types"])
    responses["/api/task/types"] = types
    lengths = server.ask("GET", "/api/queues/length").json
    responses["/api/queues/length"] = {
        "active_queues": [each for each in lengths["active_queues"] if each["name"] == "light"]
    }
    assert [set(each) for each in server.ask("POST", f"/api/task/revoke/{ids['RECEIVED']}").json.items()]
    wait_until(lambda: server.ask("GET", f"/api/task/result/{ids['RECEIVED']}").json["state"] == "REVOKED", 30)
    responses["/api/task/result REVOKED"] = server.ask("GET", f"/api/task/result/{ids['RECEIVED']}").json
    return responses


def differences(theirs: Any, ours: Any, path: str = "") -> set[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        inner = f"{path}." if path else ""
        both = theirs.keys() & ours.keys()
        return {f"{inner}{name}" for name in theirs.keys() ^ ours.keys()}.union(
            *(differences(theirs[name], ours[name], f"{inner}{name}") for name in both)
        )
    if isinstance(theirs, list) and isinstance(ours, list) and theirs and ours:
        return differences(theirs[0], ours[0], f"{path}[]")
    return set() if type(theirs) is type(ours) else {path}


def is_listed(path: str, different: str) -> bool:
    return path == different or path.startswith(f"{different}.")


# --- without Flower ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_celery_name_and_is_searchable(call_api: CallApi, state: State) -> None:
    run = create_run("get_cleanup_statistics", state, kwargs={"hours": 3}, error="ValueError: no", ended_at=now())
    body = call_api("GET", f"/api/task/info/{run.id}").json
    assert (body["state"], body["name"]) == (STATES[state], "tasks.get_cleanup_statistics")
    assert (body["args"], body["kwargs"]) == ("()", "{'hours': 3}")
    assert list(call_api("GET", f"/api/tasks?state={STATES[state]}").json) == [run.id]
    other_states = set(STATES.values()) - {STATES[state]}
    assert all(call_api("GET", f"/api/tasks?state={other}").json == {} for other in [*other_states, "REJECTED"])
    body = call_api("GET", f"/api/task/result/{run.id}").json
    assert body["state"] == ("PENDING" if state == "scheduled" else STATES[state])
    assert ("result" in body) == (STATES[state] in ("SUCCESS", "FAILURE", "REVOKED"))


def test_tasks_are_filtered_sorted_and_paged(call_api: CallApi) -> None:
    at = now()
    old = create_run(
        "close_abandoned_sessions",
        enqueued_at=at - timedelta(hours=2),
        started_at=at,
        worker="Worker-1 on app-1:77:abc",
    )
    new = create_run("get_cleanup_statistics", enqueued_at=at, started_at=at - timedelta(minutes=1))

    def search(query: str) -> list[str]:
        return list(call_api("GET", f"/api/tasks?{query}").json)

    assert search("") == [new.id, old.id]
    assert (search("limit=1"), search("offset=1"), search("limit=1&offset=-3")) == ([new.id], [old.id], [new.id])
    assert (search("sort_by=name"), search("sort_by=-name")) == ([old.id, new.id], [new.id, old.id])
    assert (search("sort_by=received&limit=1"), search("sort_by=-started&limit=1")) == ([old.id], [old.id])
    for name in ("close_abandoned_sessions", "tasks.close_abandoned_sessions", "app.tasks.close_abandoned_sessions"):
        assert search(f"taskname={name}") == [old.id]
    assert (search("workername=light@app-1:77"), search("workername=light@app-1:7"), len(search("workername=All"))) == (
        [old.id],
        [],
        2,
    )
    hour_ago = (at - timedelta(hours=1)).strftime("%Y-%m-%d+%H:%M")
    assert (search(f"received_start={hour_ago}"), search(f"received_end={hour_ago}")) == ([new.id], [old.id])


@pytest.mark.parametrize(
    "query", ["limit=x", "offset=x", "sort_by=size", "received_start=today", "search=state:FAILURE"]
)
def test_invalid_parameter_is_rejected_by_field(call_api: CallApi, query: str) -> None:
    create_run()
    answer = call_api("GET", f"/api/tasks?{query}")
    assert (answer.status_code, answer.json["field"]) == (422, query.partition("=")[0])


def test_failure_has_exception_traceback_and_retry_time(call_api: CallApi) -> None:
    run = create_run(state="failed", error="ValueError: it's no", attempts=2, ended_at=now())
    again = now() - timedelta(minutes=1)
    create_attempt(run, 1, "failed", traceback="first", ended_at=again, next_at=now())
    create_attempt(run, 2, "failed", traceback="last", ended_at=now())
    body = call_api("GET", f"/api/task/info/{run.id}").json
    assert (body["exception"], body["traceback"], body["retries"]) == ("""ValueError("it's no")""", "last", 1)
    assert body["retried"] == pytest.approx(again.timestamp())


def test_parent_and_children_are_linked(call_api: CallApi) -> None:
    parent = create_run()
    child = create_run(parent_id=parent.id)
    assert call_api("GET", f"/api/task/info/{parent.id}").json["children"] == [child.id]
    body = call_api("GET", f"/api/task/info/{child.id}").json
    assert (body["parent"], body["root_id"]) == (parent.id, parent.id)


@pytest.mark.parametrize("way", ["async-apply", "send-task"])
@pytest.mark.parametrize(
    "name", ["get_cleanup_statistics", "tasks.get_cleanup_statistics", "app.tasks.get_cleanup_statistics"]
)
def test_task_is_enqueued_by_any_of_its_names(call_api: CallApi, way: str, name: str) -> None:
    body = call_api("POST", f"/api/task/{way}/{name}", {"args": [3], "priority": 2}).json
    made = Run.get_by_id(body["task-id"])
    assert (body["state"], made.args, made.priority, made.asked_by_kind) == ("PENDING", [3], 2, "token")
    assert AuditEntry.get().action == "tasks.run"


def test_eta_and_countdown_are_accepted(call_api: CallApi) -> None:
    later = now() + timedelta(hours=2)
    path = "/api/task/async-apply/tasks.get_cleanup_statistics"
    for body in ({"eta": later.strftime("%Y-%m-%d %H:%M:%S.%f")}, {"countdown": 7200}):
        made = Run.get_by_id(call_api("POST", path, body).json["task-id"])
        assert abs(made.due_at - later) < timedelta(seconds=20)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"args": 3}, "args"),
        ({"kwargs": []}, "arguments"),
        ({"eta": "soon"}, "eta"),
        ({"countdown": "soon"}, "countdown"),
        ({"expires": 3}, "expires"),
        ({"queue": "heavy"}, "queue"),
        ({"args": ["x"]}, "hours"),
        ([1], "body"),
    ],
)  # fmt: skip
def test_invalid_enqueue_body_is_rejected_by_field(call_api: CallApi, body: Any, field: str) -> None:
    answer = call_api("POST", "/api/task/async-apply/get_cleanup_statistics", body)
    assert (answer.status_code, answer.json["field"]) == (422, field)
    assert call_api("POST", "/api/task/async-apply/nothing").status_code == 404
    assert Run.select().count() == 0


def test_body_is_read_with_any_content_type(call_api: CallApi) -> None:
    for kind in ("application/json", "text/plain", ""):
        answer = call_api("POST", "/api/task/async-apply/get_cleanup_statistics", {"args": [3]}, content_type=kind)
        assert Run.get_by_id(answer.json["task-id"]).args == [3]


def test_apply_waits_for_the_result(call_api: CallApi) -> None:
    with process_one_run():
        body = call_api("POST", "/api/task/apply/get_cleanup_statistics", {"kwargs": {"hours": 3}, "timeout": 20}).json
    assert (body["state"], body["result"]["period_hours"]) == ("SUCCESS", 3)
    body = call_api("POST", "/api/task/apply/get_cleanup_statistics", {"timeout": 0.1}).json
    assert (body["state"], "result" in body) == ("PENDING", False)
    assert call_api("GET", f"/api/task/result/{body['task-id']}?timeout=0.1").json["state"] == "PENDING"


def test_revoke_cancels_a_waiting_run_and_ignores_an_ended_one(call_api: CallApi) -> None:
    waiting = tasks.get_cleanup_statistics(hours=3).id
    response = call_api("POST", f"/api/task/revoke/{waiting}?terminate=true")
    assert response.json == {"message": f"Revoked '{waiting}'"}
    assert call_api("GET", f"/api/task/info/{waiting}").json["state"] == "REVOKED"
    ended = create_run().id
    assert call_api("POST", f"/api/task/abort/{ended}").json == {"message": f"Aborted '{ended}'"}
    assert call_api("POST", "/api/task/revoke/missing").status_code == 404
    assert [entry.action for entry in AuditEntry.select()] == ["runs.cancel"]


def test_workers_are_listed_and_shut_down(call_api: CallApi) -> None:
    consumer = create_consumer("light", host="app-1", pid=88)
    create_consumer("heavy", host="app-1", pid=89, stopped_at=now())
    assert list(call_api("GET", "/api/workers").json) == ["light@app-1:88"]
    assert call_api("GET", "/api/workers?status=1").json == {"light@app-1:88": True, "heavy@app-1:89": False}
    body = call_api("GET", "/api/workers?workername=light@app-1:88").json["light@app-1:88"]
    assert (body["stats"]["pool"]["max-concurrency"], body["active"]) == (consumer.worker_count, [])
    assert call_api("GET", "/api/workers?workername=x").status_code == 404
    assert call_api("POST", "/api/worker/shutdown/light@app-1:88").json == {"message": "Shutting down!"}
    assert AuditEntry.get().action == "workers.stop"
    assert call_api("POST", "/api/worker/shutdown/x").status_code == 404


def test_queues_are_listed_by_length(call_api: CallApi) -> None:
    tasks.get_cleanup_statistics(hours=3)
    body = call_api("GET", "/api/queues/length").json["active_queues"]
    assert body == [{"name": name, "messages": int(name == "light")} for name in ("heavy", "normal", "light")]
