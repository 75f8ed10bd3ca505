"""`inspect scheduled` lists all scheduled runs. Flower's API gives the number that it omits."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from browsers import RunFlask, bearer_headers
from factories import create_consumer
from flask import Flask

import tasks
from engine.broker.effects import Effects
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.models import now
from engine.monitor.consumers import full_worker_name

MANY, SHOWN = 1502, 1000
AT = now().replace(microsecond=0) + timedelta(hours=1)


@pytest.fixture(params=["sqlite", "redis"])
def broker(request: pytest.FixtureRequest, app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Return a broker with very many scheduled runs on `light`, preceded by an unreadable message."""
    if request.param == "redis":
        storage = RedisStorage("light", request.getfixturevalue("redis_url"), 60)
    else:
        storage = SqliteStorage("light", tmp_path / "queue.db", 60)
    monkeypatch.setattr(tasks.light, "storage", storage)
    storage.messages.write(Effects().enqueue("odd", b"1 run tasks.get_cleanup_statistics 1 odd - {}", None, AT))
    made = tasks.get_cleanup_statistics
    etas = [AT + timedelta(seconds=number) for number in range(1, MANY + 1)]
    tasks.light.enqueue_many(made.s(hours=1, eta=eta) for eta in etas)


@pytest.mark.usefixtures("broker")
def test_inspect_scheduled_lists_every_message(flask: RunFlask) -> None:
    names = [full_worker_name(create_consumer("light")) for _ in range(2)]
    data = json.loads(flask("inspect", "scheduled", "--json"))
    assert sorted(data) == sorted([*names, "heavy@none", "normal@none"])
    for name in names:
        unreadable, *rest = data[name]
        assert (unreadable["request"]["id"], unreadable["request"]["name"], unreadable["eta"]) == (
            "odd", "tasks.get_cleanup_statistics", None,
        )  # fmt: skip
        etas = [datetime.fromisoformat(entry["eta"]) for entry in rest]
        assert etas == [AT + timedelta(seconds=number) for number in range(1, MANY + 1)]
    assert len(flask("inspect", "scheduled").splitlines()) == 1 + 1 + MANY


@pytest.mark.usefixtures("broker")
def test_flower_api_reports_how_many_scheduled_it_leaves_out(app: Flask) -> None:
    name = full_worker_name(create_consumer("light"))
    idle, headers = full_worker_name(create_consumer("heavy")), bearer_headers("viewer")

    def of(worker: str) -> dict[str, Any]:
        answer = app.test_client().get(f"/api/workers?workername={worker}", headers=headers)
        return dict(answer.json[worker])

    assert (len(of(name)["scheduled"]), of(name)["scheduled_left_out"]) == (SHOWN, MANY + 1 - SHOWN)
    assert of(idle)["scheduled"] == [] and "scheduled_left_out" not in of(idle)
