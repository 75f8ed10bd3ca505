"""A malformed heartbeat, pause, order, stack dump, holder, lock or tick in the broker is skipped. No page, command or
consumer fails because of it.
"""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from browsers import sign_in_browser
from flask import Flask
from raw_entries import (
    CreateStorage,
    process_all,
    put_heartbeat,
    put_last_tick,
    put_pause,
    storage_factory,
    use_probe_queue,
)
from sample_tasks import echo, probe

import tasks
from config import QUEUES
from engine.broker import parsing
from engine.broker.effects import Effects
from engine.broker.redis.storage import RedisStorage
from engine.control import queues, schedules
from engine.history import writer
from engine.models import Consumer, Run, State, now
from engine.queues import remote_control, ticks
from engine.queues.remote_control import Command, CommandInbox
from engine.version import host_name
from engine.worker.healthcheck import consumer_is_alive

MALFORMED = [b"", b"garbage", b"[]", b"5", b"null", b"caf\xe9", b"{}", b'{"host": 5, "by": 5, "at": "never"}']

HEARTBEAT: dict[str, Any] = {
    "host": "h", "pid": 1, "code_version": "v", "worker_type": "process", "worker_count": 1, "periodic": True,
    "started_at": 1.0,
}  # fmt: skip


@pytest.fixture(params=["sqlite", "redis"])
def storages(request: pytest.FixtureRequest, tmp_path: Path) -> CreateStorage:
    return storage_factory(request.param, request, tmp_path)


@pytest.fixture(autouse=True)
def fresh_broker(storages: CreateStorage) -> Iterator[None]:
    parsing.log_malformed.cache_clear()
    with use_probe_queue(storages):
        yield


@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_heartbeat_does_not_hide_other_consumers(
    sqlite_database: None, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    probe.storage.heartbeats.record("sound", HEARTBEAT)
    put_heartbeat(probe, "malformed", value)
    for _ in range(3):
        writer.sync_consumers(probe)
    assert [consumer.id for consumer in Consumer.select()] == ["sound"]
    assert [consumer.message for consumer in caplog.records].count(
        "The heartbeat of malformed in queue probe is malformed and left out"
    ) == 1


@pytest.mark.parametrize(
    "facts",
    [
        {"host": None}, {"pid": "one"}, {"worker_count": None}, {"started_at": "yesterday"}, {"started_at": 1e300},
        {"slots": 5}, {"slots": [{"worker": "Worker-1"}]}, {"quiet_at": {}}, {"rss_bytes": "much"},
    ],
)  # fmt: skip
def test_heartbeat_with_a_value_of_wrong_type_is_skipped(sqlite_database: None, facts: dict[str, Any]) -> None:
    probe.storage.heartbeats.record("sound", HEARTBEAT)
    probe.storage.heartbeats.record("odd", HEARTBEAT | facts)
    writer.sync_consumers(probe)
    assert [consumer.id for consumer in Consumer.select()] == ["sound"]


def test_heartbeat_of_newer_code_stores_its_known_fields(sqlite_database: None) -> None:
    probe.storage.heartbeats.record("newer", HEARTBEAT | {"mood": "fine", "processed": 7})
    writer.sync_consumers(probe)
    assert Consumer.get_by_id("newer").processed == 7


def test_health_check_ignores_a_malformed_heartbeat() -> None:
    for number, value in enumerate(MALFORMED):
        put_heartbeat(probe, f"malformed {number}", value)
    assert not consumer_is_alive(probe)
    probe.storage.heartbeats.record("sound", HEARTBEAT | {"host": host_name()})
    assert consumer_is_alive(probe)


@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_pause_still_holds_until_resumed(value: bytes) -> None:
    put_pause(probe, "", value)
    put_pause(probe, "schedule:echo", value)
    run_id = echo(1).id
    info = probe.pauses()[""]
    assert (info["by"], info["reason"]) == ("?", "this pause is malformed")
    assert datetime.fromisoformat(info["at"]).tzinfo
    assert ticks.find_pause(probe.pauses(), "echo", now())
    process_all()
    assert [message.run_id for message in probe.storage.deliveries.held()] == []
    assert queues.resume_queue(probe) and schedules.resume_schedule(probe, "echo")
    process_all()
    assert probe.storage.results.get(run_id)


@pytest.mark.parametrize("value", [value for value in MALFORMED if value != b"5"])
def test_tick_is_accepted_after_a_malformed_last_tick(value: bytes) -> None:
    put_last_tick(probe, "echo", value)
    assert probe.storage.ticks.last() == {}
    assert probe.storage.ticks.record("echo", 100, Effects())
    assert probe.storage.ticks.last() == {"echo": 100}


@pytest.mark.parametrize(
    "value",
    [
        [], "stop", {}, {"what": "stop", "by": "x"}, {"by": "x", "number": 5, "sent_at": 5.0},
        {"by": "x", "number": "n", "sent_at": "never"}, {"by": "x", "number": "n", "sent_at": 5.0},
    ],
)  # fmt: skip
def test_malformed_command_is_removed_and_not_executed(value: Any) -> None:
    remote_control.send_command(probe, "c", Command.QUIET, "vera")
    remote_control.store_signed(probe, remote_control.command_key("c", Command.STOP), value)
    assert [order.what for order in CommandInbox(probe, "c").take()] == [Command.QUIET]
    assert probe.storage.results.get_many([remote_control.command_key("c", what) for what in Command]) == {}


@pytest.mark.parametrize(
    "value",
    [
        [1], "x", {"at": "never", "stacks": []}, {"at": 5, "stacks": []}, {"stacks": []},
        {"at": "2026-11-28T12:00:00+00:00"}, {"at": "2026-11-28T12:00:00+00:00", "stacks": [[1]]},
        {"at": "2026-11-28T12:00:00+00:00", "stacks": 5},
    ],
)  # fmt: skip
def test_malformed_stack_dump_is_ignored(value: Any) -> None:
    remote_control.store_signed(probe, remote_control.dump_key("c"), value)
    assert remote_control.latest_dump(probe, "c") is None


def hold_with_unreadable_holder(entry: bytes) -> str:
    """Hold a run under an unreadable holder."""
    run_id = echo(1).id
    assert probe.dequeue()
    probe.storage.client.command("HSET", "held", run_id, entry)
    return run_id


HOLDERS = [b"", b"garbage", b"a b c d e f g h i", b"here 1 - 1 Worker-1 never 1 1 echo", b"caf\xe9"]


@pytest.mark.parametrize("storages", ["redis"], indirect=True)
@pytest.mark.parametrize("entry", HOLDERS)
def test_run_with_an_unreadable_holder_is_requeued(sqlite_database: None, entry: bytes) -> None:
    run_id = hold_with_unreadable_holder(entry)
    assert probe.storage.deliveries.held() == []
    assert probe.storage.deliveries.release("here", "Worker-1", "died", 5) == 0
    probe.storage.client.command("SET", "reaped", str(time.time()))
    assert probe.storage.deliveries.reap(60, 5) == []
    process_all()
    assert probe.storage.results.get(run_id)
    writer.flush_events(probe)
    assert [(run.id, run.state, run.deliveries) for run in Run.select()] == [(run_id, State.SUCCEEDED, 2)]


@pytest.mark.parametrize("storages", ["redis"], indirect=True)
def test_unreadable_holder_does_not_stop_reaping_a_dead_consumer() -> None:
    hold_with_unreadable_holder(b"garbage")
    probe.set_worker_identity("silent", "Worker-1")
    run_id = echo(2).id
    probe.dequeue()
    storage = probe.storage
    storage.client.command("SET", "reaped", str(time.time()))
    storage.client.command("HSET", "held", run_id, "silent 1 - 1 Worker-1 1.0 1 1 echo")
    assert storage.deliveries.reap(60, 5) == ["silent"]
    assert storage.messages.count_waiting() == 2


@pytest.mark.parametrize("storages", ["redis"], indirect=True)
@pytest.mark.parametrize("entry", [b"garbage", b"5", b"[]", b'["a", "b"]', b'["a", "b", "c", null]', b"caf\xe9"])
def test_malformed_lock_has_no_owner_and_can_be_acquired(entry: bytes) -> None:
    storage = probe.storage
    storage.client.command("HSET", "locks", "door", entry)
    echo(1)
    assert probe.dequeue()
    assert storage.locks.all() == {}
    assert not storage.locks.release("door", "other")
    assert storage.deliveries.release("here", "Worker-1", "died", 5) == 1
    assert storage.locks.acquire("door", "me", "", "", 60.0, 60)
    assert not storage.locks.acquire("door", "you", "", "", 60.0, 60)
    storage.client.command("HSET", "locks", "door", entry)
    assert storage.locks.release("door")


def test_pages_and_commands_show_sound_entries_beside_malformed_ones(
    app: Flask, storages: CreateStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in QUEUES:
        monkeypatch.setattr(tasks.queues[name], "storage", storages(name))
    light = tasks.light
    light.storage.heartbeats.record("sound", HEARTBEAT)
    for number, value in enumerate(MALFORMED):
        put_heartbeat(light, f"malformed {number}", value)
        put_pause(light, ("", "close_abandoned_sessions", "schedule:close_abandoned_sessions")[number % 3], value)
        put_last_tick(light, "close_abandoned_sessions", value)
    for key in (remote_control.command_key("sound", Command.STOP), remote_control.dump_key("sound")):
        light.storage.results.put(key, light.sign_value("another", [1]))
    if isinstance(light.storage, RedisStorage):
        light.storage.client.command("HSET", "held", "lost", b"garbage")
        light.storage.client.command("HSET", "locks", "odd", b"garbage")
    writer.sync_consumers(light)
    browser = sign_in_browser(app, "admin")
    for address in (
        "/", "/workers", "/workers/sound", "/queues", "/queues/light", "/tasks", "/schedule", "/metrics",
        "/api/v1/admin/workers", "/api/v1/admin/workers/sound", "/api/v1/admin/queues", "/api/v1/admin/schedule",
        "/api/workers", "/api/queues/length",
    ):  # fmt: skip
        answer = browser.get(address)
        assert answer.status_code == 200, (address, answer.text)
    for words in (("inspect", "active"), ("inspect", "stats"), ("workers", "list"), ("queues", "list")):
        ended = app.test_cli_runner().invoke(args=[*words, "--json"])
        assert ended.exit_code == 0, ended.output
        assert json.loads(ended.stdout)
