"""Flower's API here: the same paths, keys, types and states as real Flower's, beside which it is asked."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from browsers import bearer_headers
from conftest import cannot_run
from flask import Flask
from flower_there import CannotInstall, There, flower, install
from inline_worker import one_run_worked_off
from installation import Answer, Installation, answer_of
from library import attempt, consumer_of, run
from waiting import wait_until
from werkzeug.test import TestResponse

import tasks
from admin.flower.serializers import STATES
from config import ROOT
from engine.models import Run, State, now
from models import AuditEntry

DOCUMENT = ROOT / "docs" / "from-celery.md"

#: What differs from Flower, by its place in the answers: all of it stands in the document, with the reason.
DIFFERENT = {"stats.total", "stats.pool.writes", "stats.rusage", "stats.broker", "conf", "worker"}

Ask = Callable[..., TestResponse]


@pytest.fixture
def ask(app: Flask) -> Ask:
    headers = bearer_headers("admin")

    def send(method: str, path: str, body: Any = None, **more: Any) -> TestResponse:
        # As curl and most scripts send it: JSON, called a form.
        data = None if body is None else json.dumps(body)
        kind = {} if body is None else {"content_type": "application/x-www-form-urlencoded"}
        return app.test_client().open(path, method=method, data=data, headers=headers, **{**kind, **more})

    return send


# --- beside real Flower --------------------------------------------------------------------------------------


class Here:
    """Ours, asked as Flower is."""

    def __init__(self, place: Installation) -> None:
        self.place, self.headers = place, place.bearer("operator")

    def ask(self, method: str, path: str, body: str | None = None) -> Answer:
        url = f"http://127.0.0.1:{self.place.port}{path}"
        request = urllib.request.Request(url, body and body.encode(), self.headers, method=method)
        return answer_of(urllib.request.build_opener(), request)


@pytest.fixture
def both(redis_url: str, tmp_path: Path) -> Iterator[tuple[There, Here]]:
    try:
        install()
    except CannotInstall as error:
        cannot_run(f"no Flower: {error}")
    (tmp_path / "there").mkdir()
    place = Installation(tmp_path)
    assert place.flask("migrate").returncode == 0
    with flower(redis_url, tmp_path / "there") as there, place.consumer("light"), place.web():
        yield there, Here(place)


CALLS = {
    "SUCCESS": ("cleanup_old_task_results", None),
    "FAILURE": ("get_cleanup_statistics", '{"kwargs": {"hours": 500}}'),
    "RECEIVED": ("close_abandoned_sessions", '{"countdown": 3600}'),
}


def test_the_same_tasks_are_told_with_the_same_keys_and_types(both: tuple[There, Here]) -> None:
    told = [told_by(one) for one in both]
    document = DOCUMENT.read_text()
    found: set[str] = set()
    for name, answers in zip(told[0], zip(*(one.values() for one in told), strict=True), strict=True):
        found |= {f"{name}: {place}" for place in differences(*answers)}
    places = {one.partition(": ")[2] for one in found}
    assert {one for one in found if not any(listed(one.partition(": ")[2], place) for place in DIFFERENT)} == set()
    assert {place for place in DIFFERENT if not any(listed(one, place) for one in places)} == set()
    assert [place for place in DIFFERENT if f"`{place}`" not in document] == []


def told_by(one: There | Here) -> dict[str, Any]:
    """What it tells of the three tasks, once each has come to its state."""
    ids = {}
    for state, (name, body) in CALLS.items():
        answer = one.ask("POST", f"/api/task/async-apply/tasks.{name}", body)
        assert answer.status == 200, answer.text
        assert answer.json["state"] in ("PENDING", "STARTED", "SUCCESS", "FAILURE")
        assert set(answer.json) == {"task-id", "state"}
        ids[state] = answer.json["task-id"]

    def states() -> dict[str, str]:
        found = one.ask("GET", "/api/tasks").json
        return {run_id: found.get(run_id, {}).get("state") for run_id in ids.values()}

    wait_until(lambda: states() == {run_id: state for state, run_id in ids.items()}, 30)
    wait_until(lambda: len(one.ask("GET", "/api/workers?refresh=1").json) == 1, 30)
    asked: dict[str, Any] = {}
    listed_tasks = one.ask("GET", "/api/tasks?limit=3").json
    for state, run_id in ids.items():
        asked[f"/api/tasks {state}"] = listed_tasks[run_id]
        asked[f"/api/task/info {state}"] = one.ask("GET", f"/api/task/info/{run_id}").json
        if state != "RECEIVED":
            asked[f"/api/task/result {state}"] = one.ask("GET", f"/api/task/result/{run_id}").json
    (worker,) = one.ask("GET", "/api/workers").json.values()
    asked["/api/workers"] = worker
    asked["/api/workers?status"] = sorted(one.ask("GET", "/api/workers?status=1").json.values())
    types = one.ask("GET", "/api/task/types").json
    assert {f"tasks.{name}" for name, _ in CALLS.values()} <= set(types["task-types"])
    asked["/api/task/types"] = types
    lengths = one.ask("GET", "/api/queues/length").json
    asked["/api/queues/length"] = {
        "active_queues": [each for each in lengths["active_queues"] if each["name"] == "light"]
    }
    assert [set(each) for each in one.ask("POST", f"/api/task/revoke/{ids['RECEIVED']}").json.items()]
    wait_until(lambda: one.ask("GET", f"/api/task/result/{ids['RECEIVED']}").json["state"] == "REVOKED", 30)
    asked["/api/task/result REVOKED"] = one.ask("GET", f"/api/task/result/{ids['RECEIVED']}").json
    return asked


def differences(there: Any, here: Any, place: str = "") -> set[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        inner = f"{place}." if place else ""
        both = there.keys() & here.keys()
        return {f"{inner}{name}" for name in there.keys() ^ here.keys()}.union(
            *(differences(there[name], here[name], f"{inner}{name}") for name in both)
        )
    if isinstance(there, list) and isinstance(here, list) and there and here:
        return differences(there[0], here[0], f"{place}[]")
    return set() if type(there) is type(here) else {place}


def listed(place: str, different: str) -> bool:
    return place == different or place.startswith(f"{different}.")


# --- by itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_name_and_is_found_by_it(ask: Ask, state: State) -> None:
    one = run("get_cleanup_statistics", state, kwargs={"hours": 3}, error="ValueError: no", ended_at=now())
    told = ask("GET", f"/api/task/info/{one.id}").json
    assert (told["state"], told["name"]) == (STATES[state], "tasks.get_cleanup_statistics")
    assert (told["args"], told["kwargs"]) == ("()", "{'hours': 3}")
    assert list(ask("GET", f"/api/tasks?state={STATES[state]}").json) == [one.id]
    others = set(STATES.values()) - {STATES[state]}
    assert all(ask("GET", f"/api/tasks?state={other}").json == {} for other in [*others, "REJECTED"])
    told = ask("GET", f"/api/task/result/{one.id}").json
    assert told["state"] == ("PENDING" if state == "scheduled" else STATES[state])
    assert ("result" in told) == (STATES[state] in ("SUCCESS", "FAILURE", "REVOKED"))


def test_tasks_are_filtered_sorted_and_paged(ask: Ask) -> None:
    at = now()
    old = run(
        "close_abandoned_sessions",
        enqueued_at=at - timedelta(hours=2),
        started_at=at,
        worker="Worker-1 on app-1:77:abc",
    )
    new = run("get_cleanup_statistics", enqueued_at=at, started_at=at - timedelta(minutes=1))

    def found(query: str) -> list[str]:
        return list(ask("GET", f"/api/tasks?{query}").json)

    assert found("") == [new.id, old.id]
    assert (found("limit=1"), found("offset=1"), found("limit=1&offset=-3")) == ([new.id], [old.id], [new.id])
    assert (found("sort_by=name"), found("sort_by=-name")) == ([old.id, new.id], [new.id, old.id])
    assert (found("sort_by=received&limit=1"), found("sort_by=-started&limit=1")) == ([old.id], [old.id])
    for name in ("close_abandoned_sessions", "tasks.close_abandoned_sessions", "app.tasks.close_abandoned_sessions"):
        assert found(f"taskname={name}") == [old.id]
    assert (found("workername=light@app-1:77"), found("workername=light@app-1:7"), len(found("workername=All"))) == (
        [old.id],
        [],
        2,
    )
    hour_ago = (at - timedelta(hours=1)).strftime("%Y-%m-%d+%H:%M")
    assert (found(f"received_start={hour_ago}"), found(f"received_end={hour_ago}")) == ([new.id], [old.id])


@pytest.mark.parametrize(
    "query", ["limit=x", "offset=x", "sort_by=size", "received_start=today", "search=state:FAILURE"]
)
def test_a_parameter_that_cannot_be_is_refused_by_name(ask: Ask, query: str) -> None:
    run()
    answer = ask("GET", f"/api/tasks?{query}")
    assert (answer.status_code, answer.json["field"]) == (422, query.partition("=")[0])


def test_a_failure_has_its_exception_its_traceback_and_when_it_was_tried_again(ask: Ask) -> None:
    one = run(state="failed", error="ValueError: it's no", attempts=2, ended_at=now())
    again = now() - timedelta(minutes=1)
    attempt(one, 1, "failed", traceback="first", ended_at=again, next_at=now())
    attempt(one, 2, "failed", traceback="last", ended_at=now())
    told = ask("GET", f"/api/task/info/{one.id}").json
    assert (told["exception"], told["traceback"], told["retries"]) == ("""ValueError("it's no")""", "last", 1)
    assert told["retried"] == pytest.approx(again.timestamp())


def test_a_child_knows_its_parent_and_a_parent_its_children(ask: Ask) -> None:
    parent = run()
    child = run(parent_id=parent.id)
    assert ask("GET", f"/api/task/info/{parent.id}").json["children"] == [child.id]
    told = ask("GET", f"/api/task/info/{child.id}").json
    assert (told["parent"], told["root_id"]) == (parent.id, parent.id)


@pytest.mark.parametrize("way", ["async-apply", "send-task"])
@pytest.mark.parametrize(
    "name", ["get_cleanup_statistics", "tasks.get_cleanup_statistics", "app.tasks.get_cleanup_statistics"]
)
def test_a_task_is_enqueued_under_any_of_its_names(ask: Ask, way: str, name: str) -> None:
    told = ask("POST", f"/api/task/{way}/{name}", {"args": [3], "priority": 2}).json
    made = Run.get_by_id(told["task-id"])
    assert (told["state"], made.args, made.priority, made.asked_by_kind) == ("PENDING", [3], 2, "token")
    assert AuditEntry.get().action == "tasks.run"


def test_an_eta_and_a_countdown_are_taken(ask: Ask) -> None:
    later = now() + timedelta(hours=2)
    path = "/api/task/async-apply/tasks.get_cleanup_statistics"
    for body in ({"eta": later.strftime("%Y-%m-%d %H:%M:%S.%f")}, {"countdown": 7200}):
        made = Run.get_by_id(ask("POST", path, body).json["task-id"])
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
def test_what_cannot_be_enqueued_is_refused_by_name(ask: Ask, body: Any, field: str) -> None:
    answer = ask("POST", "/api/task/async-apply/get_cleanup_statistics", body)
    assert (answer.status_code, answer.json["field"]) == (422, field)
    assert ask("POST", "/api/task/async-apply/nothing").status_code == 404
    assert Run.select().count() == 0


def test_a_body_is_read_whatever_it_is_called(ask: Ask) -> None:
    for kind in ("application/json", "text/plain", ""):
        answer = ask("POST", "/api/task/async-apply/get_cleanup_statistics", {"args": [3]}, content_type=kind)
        assert Run.get_by_id(answer.json["task-id"]).args == [3]


def test_a_task_is_waited_for(ask: Ask) -> None:
    with one_run_worked_off():
        told = ask("POST", "/api/task/apply/get_cleanup_statistics", {"kwargs": {"hours": 3}, "timeout": 20}).json
    assert (told["state"], told["result"]["period_hours"]) == ("SUCCESS", 3)
    told = ask("POST", "/api/task/apply/get_cleanup_statistics", {"timeout": 0.1}).json
    assert (told["state"], "result" in told) == ("PENDING", False)
    assert ask("GET", f"/api/task/result/{told['task-id']}?timeout=0.1").json["state"] == "PENDING"


def test_what_waits_is_revoked_and_what_has_ended_is_none_the_worse(ask: Ask) -> None:
    waiting = tasks.get_cleanup_statistics(hours=3).id
    told = ask("POST", f"/api/task/revoke/{waiting}?terminate=true")
    assert told.json == {"message": f"Revoked '{waiting}'"}
    assert ask("GET", f"/api/task/info/{waiting}").json["state"] == "REVOKED"
    ended = run().id
    assert ask("POST", f"/api/task/abort/{ended}").json == {"message": f"Aborted '{ended}'"}
    assert ask("POST", "/api/task/revoke/nobody").status_code == 404
    assert [entry.action for entry in AuditEntry.select()] == ["runs.cancel"]


def test_workers_are_told_and_shut_down(ask: Ask) -> None:
    one = consumer_of("light", host="app-1", pid=88)
    consumer_of("heavy", host="app-1", pid=89, stopped_at=now())
    assert list(ask("GET", "/api/workers").json) == ["light@app-1:88"]
    assert ask("GET", "/api/workers?status=1").json == {"light@app-1:88": True, "heavy@app-1:89": False}
    told = ask("GET", "/api/workers?workername=light@app-1:88").json["light@app-1:88"]
    assert (told["stats"]["pool"]["max-concurrency"], told["active"]) == (one.worker_count, [])
    assert ask("GET", "/api/workers?workername=x").status_code == 404
    assert ask("POST", "/api/worker/shutdown/light@app-1:88").json == {"message": "Shutting down!"}
    assert AuditEntry.get().action == "workers.stop"
    assert ask("POST", "/api/worker/shutdown/x").status_code == 404


def test_queues_are_told_by_length(ask: Ask) -> None:
    tasks.get_cleanup_statistics(hours=3)
    told = ask("GET", "/api/queues/length").json["active_queues"]
    assert told == [{"name": name, "messages": int(name == "light")} for name in ("heavy", "normal", "light")]
