"""How far the history lags behind is shown where people and programs look, and makes the service unready."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import Flasks, signed_in_browser
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

import tasks
from config import QUEUES
from engine.broker.effects import Effects, event_json
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.database import database
from engine.history import lag, writer
from engine.history.lag import Lag
from engine.models import RejectedEvent


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def fresh_brokers(
    app: Flask, served: None, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The three queues on a fresh broker, each with a live consumer on record."""
    for name in QUEUES:
        storage = (
            RedisStorage(name, request.getfixturevalue("redis_url"), 60)
            if request.param == "redis"
            else SqliteStorage(name, tmp_path / "queue.db", 60)
        )
        monkeypatch.setattr(tasks.queues[name], "storage", storage)
    yield


def report(*ages: float) -> None:
    """Events of `light` that happened so many seconds ago."""
    events = [event_json("due", "x", time.time() - age) for age in ages]
    for event in events:
        tasks.light.storage.messages.write(Effects().event(event))


def lag_of_light() -> Lag:
    return lag.lags(tasks.queues)["light"]


def test_the_lag_is_that_of_the_oldest_unread_event() -> None:
    assert lag.lags(tasks.queues) == dict.fromkeys(QUEUES, Lag(0, 0.0))
    report(100, 50, 1)
    assert lag_of_light().events == 3
    assert 99 < lag_of_light().seconds < 110
    writer.write_down(tasks.light)
    assert lag_of_light() == Lag(0, 0.0)


def test_a_run_that_was_just_enqueued_counts_as_an_event() -> None:
    tasks.get_cleanup_statistics(hours=1)
    assert lag_of_light().events == 1
    assert lag_of_light().seconds < 10


def test_a_malformed_event_at_the_head_hides_no_lag() -> None:
    storage = tasks.light.storage
    storage.messages.write(Effects().event("garbage").event("[]"))
    report(100)
    assert (lag_of_light().events, lag_of_light().seconds > 99) == (3, True)


def test_what_is_written_and_not_removed_yet_is_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    report(100)
    monkeypatch.setattr(tasks.light.storage.events, "trim", lambda upto: None)
    writer.write_down(tasks.light)
    assert lag_of_light() == Lag(0, 0.0)


def test_without_the_database_all_that_the_broker_keeps_is_unread() -> None:
    report(100, 1)
    database.execute_sql("ALTER TABLE dewey_history_cursors RENAME TO elsewhere")
    assert lag_of_light().events == 2


def history_reasons(app: Flask) -> list[str]:
    """What `/readyz` says of the history."""
    answer = app.test_client().get("/readyz")
    assert answer.status_code == (503 if answer.json.get("reasons") else 200)
    return [reason for reason in answer.json.get("reasons", ()) if "history" in reason]


def test_beyond_five_minutes_the_service_is_not_ready(app: Flask) -> None:
    report(290)
    assert history_reasons(app) == []
    writer.write_down(tasks.light)
    report(301, 1)
    [reason] = history_reasons(app)
    assert reason.startswith("the history of light lags behind by 30") and reason.endswith("s (2 events)")
    writer.write_down(tasks.light)
    assert history_reasons(app) == []


def test_pages_metrics_and_status_show_the_lag_and_the_rejected(app: Flask, flask: Flasks) -> None:
    tasks.light.storage.messages.write(Effects().event("garbage"))
    writer.write_down(tasks.light)
    report(400, 1, 1)
    page = signed_in_browser(app, "viewer").get("/workers").text
    row = page.partition('id="history-light"')[2].partition("</tr>")[0]
    assert 'data-state="late"' in row and ">3<" in row and "6 min 4" in row
    assert "1 event was rejected" in page
    samples = {
        (sample.name, sample.labels.get("queue")): sample.value
        for family in text_string_to_metric_families(app.test_client().get("/metrics").text)
        for sample in family.samples
    }
    assert samples["dewey_recorder_unread_events", "light"] == 3
    assert 399 < samples["dewey_recorder_lag_seconds", "light"] < 450
    assert samples["dewey_recorder_lag_seconds", "heavy"] == 0
    assert samples["dewey_recorder_rejected_events_total", "light"] == 1
    assert samples["dewey_recorder_rejected_events_total", "heavy"] == 0
    status, _ = json.JSONDecoder().raw_decode(flask("status", "--json"))  # warnings follow
    [light] = [one for one in status["queues"] if one["name"] == "light"]
    assert (light["unread_events"], light["history_lag_seconds"] > 399) == (3, True)
    assert "unread events" in flask("status")


def test_the_rejected_are_listed_newest_first_for_people_and_programs(app: Flask, flask: Flasks) -> None:
    for line in ("first", '{"kind": "due", "id": 5}'):
        tasks.light.storage.messages.write(Effects().event(line))
    writer.write_down(tasks.light)
    listed = json.loads(flask("history", "rejected", "--json"))
    assert [(one["kind"], one["line"]) for one in listed["rejected"]] == [
        ("due", '{"kind": "due", "id": 5}'), (None, "first"),
    ]  # fmt: skip
    assert listed["next"] is None
    assert "its id is no text" in flask("history", "rejected")
    assert json.loads(flask("history", "rejected", "--json", "--queue", "heavy"))["rejected"] == []
    first = json.loads(flask("history", "rejected", "--json", "--limit", "1"))
    rest = json.loads(flask("history", "rejected", "--json", "--before", first["next"]))
    assert [one["line"] for one in rest["rejected"]] == ["first"]
    RejectedEvent.delete().execute()
    answer = signed_in_browser(app, "viewer").get("/api/v1/admin/history/rejected")
    assert answer.json == {"rejected": [], "next": None}
