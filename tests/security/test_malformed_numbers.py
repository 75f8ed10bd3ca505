"""Numbers that a writer to the broker changes: no run is repeated, and neither history nor reaper stops."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw_entries import process_all, storage_factory, use_probe_queue
from sample_tasks import echo, probe, read_lines, work

from engine.broker.redis.storage import RedisStorage
from engine.broker.storage import DROPPED_COUNTER
from engine.history import writer
from engine.models import Run, State


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def fresh_broker(request: pytest.FixtureRequest, tmp_path: Path, sqlite_database: None) -> Iterator[None]:
    with use_probe_queue(storage_factory(request.param, request, tmp_path)):
        yield


def put_field(run_id: str, field: str, value: str) -> None:
    if isinstance(probe.storage, RedisStorage):
        probe.storage.client.command("HSET", f"run:{run_id}", field, value)
    else:
        probe.storage.database.execute(f"UPDATE message SET {field} = ? WHERE id = ?", value, run_id)


def put_number(key: str, value: str) -> None:
    if isinstance(probe.storage, RedisStorage):
        probe.storage.client.command("SET", f"counter:{key}" if " " in key else key, value)
    else:
        probe.storage.database.execute("INSERT OR REPLACE INTO counter VALUES ('probe', ?, ?)", key, value)


NUMBERS = ("9" * 30, "1e300", "inf", "nan", "-7", "1.5", "x", "", "2147483648")


@pytest.mark.parametrize("number", NUMBERS)
def test_number_of_deliveries_does_not_repeat_a_run(tmp_path: Path, number: str) -> None:
    ledger = tmp_path / "ledger"
    run_id = work(str(ledger)).id
    put_field(run_id, "deliveries", number)
    for _ in range(3):
        process_all()
        probe.storage.deliveries.reap(0, 5)
        probe.storage.deliveries.reap(0, 5)
    assert len(read_lines(ledger)) == 2
    assert probe.storage.messages.locate(run_id) is None


@pytest.mark.parametrize("number", NUMBERS)
def test_holder_with_a_malformed_number_does_not_stop_the_reaper(number: str) -> None:
    run_id, other = echo(1).id, echo(2).id
    assert probe.dequeue() and probe.dequeue()
    if isinstance(probe.storage, RedisStorage):
        entry = probe.storage.client.command("HGET", "held", run_id).split(b" ")
        entry[3] = number.encode() or b"-"
        probe.storage.client.command("HSET", "held", run_id, b" ".join(entry))
    else:
        put_field(run_id, "attempt", number)
    writer.flush_events(probe)
    writer.sync_consumers(probe)
    for _ in range(2):
        probe.storage.deliveries.reap(0, 5)
    process_all()
    writer.flush_events(probe)
    assert Run.get_by_id(other).state == State.SUCCEEDED


@pytest.mark.parametrize("number", NUMBERS)
def test_malformed_counter_does_not_stop_history(number: str) -> None:
    put_number(DROPPED_COUNTER, number)
    run_id = echo(1).id
    process_all()
    writer.flush_events(probe)
    probe.storage.results.increment(DROPPED_COUNTER)
    assert Run.get_by_id(run_id).state == State.SUCCEEDED


@pytest.mark.parametrize("number", ["32000000000", "inf", "x"])
def test_malformed_patience_does_not_stop_the_reaper(number: str) -> None:
    assert echo(1) and probe.dequeue()
    time.sleep(0.3)
    put_number("reaped", str(time.time()))
    put_number("patience", number)
    assert probe.storage.deliveries.reap(0.2, 5) == ["here"]


def test_time_of_death_out_of_range_is_listed() -> None:
    storage = probe.storage
    if isinstance(storage, RedisStorage):
        storage.client.command("ZADD", "dead", "inf", "a", "-inf", "b", "1e300", "c")
    else:
        for run_id, at in (("a", "9e999"), ("b", "-9e999"), ("c", "1e300")):
            columns = "queue, id, task, attempt, data, state, score, since, held_at"
            values = f"'probe', ?, 'echo', 1, '', 'dead', 1, 1, {at}"
            storage.database.execute(f"INSERT INTO message ({columns}) VALUES ({values})", run_id)
    assert {run_id for run_id, at in storage.dead_letters.ids(10) if 0 <= at < 4e10} == {"a", "b", "c"}


@pytest.mark.parametrize("name", ["\0", "x" * 300, ""])
def test_malformed_name_of_the_stream_does_not_stop_history(name: str) -> None:
    if isinstance(probe.storage, RedisStorage):
        probe.storage.client.command("SET", "stream", name)
    else:
        probe.storage.database.execute("INSERT OR REPLACE INTO kv VALUES ('', 'stream', ?, NULL)", name)
    run_id = echo(1).id
    process_all()
    writer.flush_events(probe)
    assert Run.get_by_id(run_id).state == State.SUCCEEDED
    assert len(probe.storage.events.stream()) == len("probe:") + 32
