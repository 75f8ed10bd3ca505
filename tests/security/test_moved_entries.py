"""A writer to the broker moves events and messages: the history continues, and a run that is nowhere is lost."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from raw_entries import process_all, put_line, storage_factory, use_probe_queue
from sample_tasks import echo, probe

from engine.broker.redis.storage import RedisStorage
from engine.database import database
from engine.history import lost_runs, writer
from engine.history.forged_entries import ForgedEntryCheck
from engine.history.recorder import Recorder
from engine.models import LOST_ERROR, RejectedEvent, Run, State


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def fresh_broker(request: pytest.FixtureRequest, tmp_path: Path, sqlite_database: None) -> Iterator[None]:
    with use_probe_queue(storage_factory(request.param, request, tmp_path)):
        probe.forged.reported.clear()
        yield


def send(*redis: tuple[object, ...], sqlite: tuple[str, ...]) -> None:
    """Send raw commands to the broker that the test uses."""
    if isinstance(probe.storage, RedisStorage):
        for command, key, *args in redis:
            probe.storage.client.command(str(command), str(key), *args)
    else:
        for statement in sqlite:
            probe.storage.database.execute(statement)


def record() -> None:
    process_all()
    writer.flush_events(probe)


def renew() -> None:
    """Check as the recorder does before each batch of checks."""
    ForgedEntryCheck(probe).check()
    writer.flush_events(probe)


def test_positions_that_are_set_back_do_not_stop_history() -> None:
    echo(0)
    record()
    send(
        ("XADD", "events", "5000000000000-1", "e", "x"),
        sqlite=("INSERT INTO event VALUES (1000, 'probe', 'x')",),
    )
    writer.flush_events(probe)
    send(
        ("DEL", "events"),
        sqlite=("DELETE FROM event", "UPDATE sqlite_sequence SET seq = 0 WHERE name = 'event'"),
    )
    run_id = echo(1).id
    record()
    assert Run.get_or_none(Run.id == run_id) is None  # else the attack had no effect
    renew()
    assert Run.get_by_id(run_id).state == State.SUCCEEDED
    assert "the event stream is malformed or forged: its positions were moved" in reasons()
    later = echo(2).id
    record()
    assert Run.get_by_id(later).state == State.SUCCEEDED


def test_last_possible_position_does_not_stop_the_queue() -> None:
    first = echo(0).id
    process_all()
    top = (1 << 64) - 1
    send(
        ("XADD", "events", f"{top}-{top}", "e", "x"),
        sqlite=(f"INSERT INTO event VALUES ({(1 << 63) - 1}, 'probe', 'x')",),
    )
    with pytest.raises(Exception, match=r"full|last possible|equal or smaller"):
        echo(1)
    renew()
    run_id = echo(2).id
    record()
    assert {Run.get_by_id(name).state for name in (first, run_id)} == {State.SUCCEEDED}


def test_stream_in_order_keeps_its_name() -> None:
    echo(0)
    record()
    stream = probe.storage.events.stream()
    put_line(b"forged")
    renew()
    echo(1)
    renew()
    assert probe.storage.events.stream() == stream
    assert not probe.storage.events.renew("probe:another", 1 << 62)


def reasons() -> list[str]:
    return [event.reason for event in RejectedEvent.select()]


def test_run_without_a_place_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_runs, "MINIMUM_AGE", timedelta())
    run_id, other = echo(0).id, echo(1).id
    writer.flush_events(probe)
    send(
        ("ZREM", "queue", run_id),
        sqlite=(f"UPDATE message SET state = 'nowhere' WHERE id = '{run_id}'",),
    )
    lost_runs.LostRunCheck(probe).check()
    writer.flush_events(probe)
    assert (Run.get_by_id(run_id).state, Run.get_by_id(run_id).error) == (State.FAILED, LOST_ERROR)
    assert Run.get_by_id(other).state == State.WAITING


def test_flood_of_forged_events_does_not_delay_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH", 10)
    for _ in range(120):
        put_line(b"forged")
    info = {"host": "h", "pid": 1, "code_version": "v", "worker_type": "process", "worker_count": 1, "periodic": True}
    probe.storage.heartbeats.record("here", {**info, "started_at": 1.0})
    database.execute_sql("CREATE TABLE seen AS SELECT rejected FROM dewey_history_cursors WHERE false")
    note = "INSERT INTO seen SELECT sum(rejected) FROM dewey_history_cursors"
    database.execute_sql(f"CREATE TRIGGER beat AFTER INSERT ON dewey_workers BEGIN {note}; END")
    Recorder(probe, Event()).record()
    ((rejected,),) = database.execute_sql("SELECT min(rejected) FROM seen").fetchall()
    assert rejected == 100
    assert len(reasons()) == 120
