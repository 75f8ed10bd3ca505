"""Keys of Redis that hold a wrong type of value do not stop a queue, and are reported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_entries import storage_factory, use_probe_queue
from sample_tasks import echo, probe

from engine.broker.redis.wrong_types import PREFIXES, TYPES
from engine.exceptions import BrokerUnavailable
from engine.history import writer
from engine.models import RejectedEvent, Run, State


@pytest.fixture(autouse=True)
def fresh_broker(request: pytest.FixtureRequest, tmp_path: Path, sqlite_database: None) -> Iterator[None]:
    with use_probe_queue(storage_factory("redis", request, tmp_path)):
        yield


def put_wrong_type(key: str) -> None:
    client = probe.storage.client
    client.command("DEL", key)
    wrong = ("SET", "x") if (TYPES.get(key) or PREFIXES[key.partition(":")[0]]) != "string" else ("RPUSH", "x")
    client.command(wrong[0], key, wrong[1])


def repeat(step: Any) -> Any:
    """Repeat a step as workers, pages and recorder do. A second error is allowed: two keys may be wrong in turn."""
    for _ in range(2):
        try:
            return step()
        except BrokerUnavailable:
            continue
    return step()


def use_everything() -> str:
    """Enqueue a run, execute it, record it and read what pages read. Returns its id."""
    storage = probe.storage
    run_id = str(repeat(lambda: echo(1)).id)
    for step in (
        lambda: storage.deliveries.reap(30, 5), storage.deliveries.held, probe.pauses, storage.heartbeats.all,
        storage.dead_letters.count, storage.messages.count_scheduled, storage.messages.oldest_waiting,
        storage.locks.all, storage.ticks.last, storage.events.stream, lambda: storage.probe_write(1),
    ):  # fmt: skip
        repeat(step)
    for _ in range(4):  # a message that cannot be executed is no task
        if task := repeat(probe.dequeue):
            probe.execute(task)
    repeat(lambda: writer.flush_events(probe))
    return run_id


@pytest.mark.parametrize("key", [*TYPES, "counter:events dropped"])
def test_wrong_type_does_not_stop_the_queue(key: str) -> None:
    use_everything()
    put_wrong_type(key)
    run_id = use_everything()
    assert Run.get_by_id(run_id).state == State.SUCCEEDED


def test_wrong_type_of_a_run_stops_no_other_and_is_reported() -> None:
    probe.storage.pauses.put("another", {"by": "vera", "at": "2026-01-01T00:00:00+00:00", "reason": None})
    first, second = echo(1).id, echo(2).id
    put_wrong_type(f"run:{first}")
    use_everything()
    assert Run.get_by_id(second).state == State.SUCCEEDED
    assert [event.reason for event in RejectedEvent.select()] == ["the key is malformed or forged: it is no hash"]
    assert probe.storage.client.command("GET", f"aside:run:{first}") == b"x"


def test_outcome_is_stored_although_the_stream_has_a_wrong_type() -> None:
    probe.set_worker_identity("here", "Worker-1", deferring=True)
    run_id = echo(1).id
    probe.execute(probe.dequeue())
    put_wrong_type("events")
    assert probe.dequeue() is None
    writer.flush_events(probe)
    assert Run.get_by_id(run_id).state == State.SUCCEEDED
