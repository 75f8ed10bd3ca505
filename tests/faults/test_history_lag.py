"""The history lag is shown on pages and in the API, and makes the service unready."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import RunFlask, sign_in_browser
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
    app: Flask, live_consumers: None, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Yield the three queues on a fresh broker, each with a live consumer."""
    for name in QUEUES:
        storage = (
            RedisStorage(name, request.getfixturevalue("redis_url"), 60)
            if request.param == "redis"
            else SqliteStorage(name, tmp_path / "queue.db", 60)
        )
        monkeypatch.setattr(tasks.queues[name], "storage", storage)
    yield


def add_events(*ages: float) -> None:
    """Add events of `light` that happened this many seconds ago."""
    events = [event_json("due", "x", time.time() - age) for age in ages]
    for event in events:
        tasks.light.storage.messages.write(Effects().event(event))


def light_lag() -> Lag:
    return lag.load_lags(tasks.queues)["light"]


def test_lag_is_the_age_of_the_oldest_unread_event() -> None:
    assert lag.load_lags(tasks.queues) == dict.fromkeys(QUEUES, Lag(0, 0.0))
    add_events(100, 50, 1)
    assert light_lag().events == 3
    assert 99 < light_lag().seconds < 110
    writer.flush_events(tasks.light)
    assert light_lag() == Lag(0, 0.0)


def test_new_run_counts_as_an_unread_event() -> None:
    tasks.get_cleanup_statistics(hours=1)
    assert light_lag().events == 1
    assert light_lag().seconds < 10


def test_malformed_event_at_the_head_does_not_hide_the_lag() -> None:
    storage = tasks.light.storage
    storage.messages.write(Effects().event("garbage").event("[]"))
    add_events(100)
    assert (light_lag().events, light_lag().seconds > 99) == (3, True)


def test_written_but_untrimmed_events_are_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    add_events(100)
    monkeypatch.setattr(tasks.light.storage.events, "trim", lambda upto: None)
    writer.flush_events(tasks.light)
    assert light_lag() == Lag(0, 0.0)


def test_all_events_count_as_unread_while_the_cursor_table_is_missing() -> None:
    add_events(100, 1)
    database.execute_sql("ALTER TABLE dewey_history_cursors RENAME TO elsewhere")
    assert light_lag().events == 2


def history_reasons(app: Flask) -> list[str]:
    """Return the reasons of `/readyz` that concern the history."""
    answer = app.test_client().get("/readyz")
    assert answer.status_code == (503 if answer.json.get("reasons") else 200)
    return [reason for reason in answer.json.get("reasons", ()) if "history" in reason]


def test_service_is_unready_beyond_five_minutes_of_lag(app: Flask) -> None:
    add_events(290)
    assert history_reasons(app) == []
    writer.flush_events(tasks.light)
    add_events(301, 1)
    [reason] = history_reasons(app)
    assert reason.startswith("the history of light lags behind by 30") and reason.endswith("s (2 events)")
    writer.flush_events(tasks.light)
    assert history_reasons(app) == []


def test_pages_metrics_and_status_show_lag_and_rejected_events(app: Flask, flask: RunFlask) -> None:
    tasks.light.storage.messages.write(Effects().event("garbage"))
    writer.flush_events(tasks.light)
    add_events(400, 1, 1)
    page = sign_in_browser(app, "viewer").get("/workers").text
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
    [light] = [queue for queue in status["queues"] if queue["name"] == "light"]
    assert (light["unread_events"], light["history_lag_seconds"] > 399) == (3, True)
    assert "unread events" in flask("status")


def test_rejected_events_are_listed_newest_first_by_command_and_api(app: Flask, flask: RunFlask) -> None:
    for line in ("first", '{"kind": "due", "id": 5}'):
        tasks.light.storage.messages.write(Effects().event(line))
    lines = [line.decode() for _, line in tasks.light.storage.events.read(0, 2)]
    writer.flush_events(tasks.light)
    listed = json.loads(flask("history", "rejected", "--json"))
    assert [(event["kind"], event["line"]) for event in listed["rejected"]] == [
        ("due", lines[1]), (None, lines[0]),
    ]  # fmt: skip
    assert listed["next"] is None
    assert "its id is no text" in flask("history", "rejected")
    assert json.loads(flask("history", "rejected", "--json", "--queue", "heavy"))["rejected"] == []
    first = json.loads(flask("history", "rejected", "--json", "--limit", "1"))
    rest = json.loads(flask("history", "rejected", "--json", "--before", first["next"]))
    assert [event["line"] for event in rest["rejected"]] == [lines[0]]
    RejectedEvent.delete().execute()
    answer = sign_in_browser(app, "viewer").get("/api/v1/admin/history/rejected")
    assert answer.json == {"rejected": [], "next": None}
