"""An event that cannot be written is set aside with its reason. All others become history."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from string import ascii_letters
from typing import Any

import pytest
from databases import bound_to_library, execute_autocommit
from peewee import OperationalError, ProgrammingError
from raw_entries import process_all, put_event, storage_factory, use_probe_queue
from rejecting_rows import REASON, refuse_rows
from sample_tasks import echo, probe

from engine.broker.effects import event_json
from engine.control.retention import prune
from engine.database import database, on_postgresql, release_connection
from engine.history import rejected, writer
from engine.models import Attempt, Consumer, HistoryCursor, RejectedEvent, Run, State, now


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def fresh_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    with use_probe_queue(storage_factory(request.param, request, tmp_path)):
        yield


AT = 1_795_900_000.0


def ended_event(run_id: str, **options: Any) -> bytes:
    facts = {
        "state": "succeeded", "task": "echo", "delivery": 1, "attempt": 1, "worker": "w", "version": "v",
        "started": AT, "run_ms": 1.0, "wait_ms": 1.0, "result": None, "error": None, "traceback": None,
        "next_at": None, **options,
    }  # fmt: skip
    return event_json("ended", run_id, facts.pop("at", AT), **facts).encode()


def without_field(line: bytes, field: str) -> bytes:
    return json.dumps({name: value for name, value in json.loads(line).items() if name != field}).encode()


#: Events that no code can interpret: line, run, kind, and the reason.
UNPARSEABLE = [
    (b"garbage", None, None, "no JSON"),
    (b"", None, None, "no JSON"),
    (b"[1]", None, None, ""),
    (b'{"kind": "ended", "id": "caf\xe9"}', None, None, "UTF-8"),
    (b'{"kind": "unheard of", "id": "x"}', "x", "unheard of", "no event has the kind 'unheard of'"),
    (b'{"kind": ["ended"], "id": "x"}', "x", None, "unhashable"),
    (b'{"kind": "ended", "id": 5}', None, "ended", "its id is no text"),
    (without_field(ended_event("x"), "run_ms"), "x", "ended", "the field 'run_ms' is missing"),
    (ended_event("x", state="asleep"), "x", "ended", "'asleep' is not a state of a run"),
    (ended_event("x", at=1e18), "x", "ended", "out of range"),
    (ended_event("x", at=1e300), "x", "ended", "out of range"),
    (ended_event("x", error={"no": "text"}, state="failed"), "x", "ended", ""),
    (ended_event("x", wait_ms="long"), "x", "ended", ""),
    (event_json("noted", "x", AT, lines=[[1]]).encode(), "x", "noted", "unpack"),
]


def test_unparseable_events_are_rejected(each_database: str) -> None:
    ids = []
    for line, *_ in UNPARSEABLE:
        ids.append(echo(len(ids)).id)
        put_event(line)
    process_all()
    writer.flush_events(probe)
    assert {run.id: (run.state, run.attempts) for run in Run.select()} == dict.fromkeys(ids, (State.SUCCEEDED, 1))
    events = list(RejectedEvent.select().order_by(RejectedEvent.id))
    for event, (line, run_id, kind, reason) in zip(events, UNPARSEABLE, strict=True):
        assert (event.queue, event.run_id, event.kind) == ("probe", run_id, kind), event.reason
        assert reason in event.reason
        assert event.line.endswith(line.decode("utf-8", "backslashreplace"))
    assert HistoryCursor.get().rejected == len(events)


def refuse_on_sqlite(condition: str) -> None:
    """Add triggers for the values that PostgreSQL refuses natively."""
    if not on_postgresql():
        database.execute_sql(
            f"CREATE TRIGGER refuse BEFORE INSERT ON dewey_runs WHEN {condition}"
            " BEGIN SELECT RAISE(ABORT, 'refused here'); END"
        )


LONG_ID = "".join(Random(1).choices(ascii_letters, k=9000))  # more than a PostgreSQL index can store

#: Values that a database refuses: the enqueued arguments, and the trigger that SQLite needs.
REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: echo.s(1, retries=2**31), "new.retries > 2147483647", "out of range"),
    (lambda: echo.s(1, id="a\0b"), "length(new.id) = 1", "NUL"),
    (lambda: echo.s(1, id=LONG_ID), "length(new.id) > 8000", "index row"),
]


@pytest.mark.parametrize(("task", "condition", "reason"), REFUSED, ids=["number", "nul", "long"])
def test_row_refused_by_the_database_does_not_stop_the_others(
    each_database: str, task: Callable[[], Any], condition: str, reason: str
) -> None:
    refuse_on_sqlite(condition)
    before = echo(1).id
    refused_task = task()
    line = event_json(
        "enqueued",
        refused_task.id,
        time.time(),
        task="echo",
        args=[],
        kwargs={},
        priority=None,
        retries=refused_task.retries,
        asked_by=["code", ""],
        parent=None,
        version="v",
        due=None,
    )
    put_event(line.encode())
    after = echo(2).id
    process_all()
    writer.flush_events(probe)
    assert {run.id for run in Run.select()} == {before, after}
    [event] = RejectedEvent.select()
    assert event.kind == "enqueued"
    assert reason in event.reason or not on_postgresql()
    assert len(event.run_id) < 300


def test_batch_is_written_except_for_its_refused_rows(each_database: str) -> None:
    """Two events of one refused run are both rejected."""
    ids = [echo(number).id for number in range(250)]
    process_all()
    refused = set(ids[::7])
    refuse_rows(refused)
    assert writer.flush_events(probe) == 500
    assert {run.id for run in Run.select().where(Run.state == State.SUCCEEDED)} == set(ids) - refused
    assert {(event.run_id, event.kind) for event in RejectedEvent.select()} == {
        (run_id, kind) for run_id in refused for kind in ("enqueued", "ended")
    }
    assert all(REASON in event.reason for event in RejectedEvent.select())
    assert rejected.count_rejected(["probe", "light"]) == {"probe": 2 * len(refused), "light": 0}
    positions = [event.position for event in RejectedEvent.select().order_by(RejectedEvent.id)]
    assert positions == sorted(positions)
    assert Attempt.select().count() == len(ids) - len(refused)


def test_concurrent_recorders_reject_an_event_once(each_database: str) -> None:
    for number in range(120):
        echo(number)
        put_event(b"garbage %d" % number)

    def record() -> None:
        while writer.flush_events(probe) or Run.select().count() < 120:
            pass
        release_connection()

    threads = [threading.Thread(target=record) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (Run.select().count(), RejectedEvent.select().count(), rejected.count_rejected(["probe"])) == (
        120,
        120,
        {"probe": 120},
    )


def test_database_that_lacks_a_table_rejects_no_event(each_database: str) -> None:
    run_id = echo(1).id
    database.execute_sql("ALTER TABLE dewey_attempts RENAME TO elsewhere")
    process_all()
    with pytest.raises((OperationalError, ProgrammingError)):
        writer.flush_events(probe)
    database.execute_sql("ALTER TABLE elsewhere RENAME TO dewey_attempts")
    assert (Run.select().count(), RejectedEvent.select().count()) == (0, 0)
    writer.flush_events(probe)
    assert Run.get_by_id(run_id).state == State.SUCCEEDED


def test_read_only_database_rejects_no_event(fresh_postgresql: str) -> None:
    with bound_to_library(fresh_postgresql):
        run_id = echo(1).id
        put_event(b"garbage")
        writer.read_cursor(probe.storage.events.stream())
        name = database.execute_sql("SELECT current_database()").fetchone()[0]
        execute_autocommit(fresh_postgresql, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        release_connection()
        database.close_all()
        with pytest.raises(Exception, match="read-only"):
            writer.flush_events(probe)
        execute_autocommit(
            fresh_postgresql, "SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET ALL"
        )
        release_connection()
        database.close_all()
        assert RejectedEvent.select().count() == 0
        writer.flush_events(probe)
        assert (Run.get_by_id(run_id).state, RejectedEvent.select().count()) == (State.WAITING, 1)


def test_history_continues_when_a_rejected_event_cannot_be_stored(
    each_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    if on_postgresql():
        database.execute_sql("ALTER TABLE dewey_rejected_events ADD CHECK (right(line, 10) <> ' 1 garbage')")
    else:
        database.execute_sql(
            "CREATE TRIGGER r BEFORE INSERT ON dewey_rejected_events WHEN substr(new.line, -10) = ' 1 garbage'"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    put_event(b"1 garbage")
    put_event(b"other garbage")
    run_id = echo(1).id
    writer.flush_events(probe)
    assert Run.get_by_id(run_id).state == State.WAITING
    [event] = RejectedEvent.select()
    assert event.line.endswith(" other garbage")
    assert "could not be stored either" in caplog.text


def test_rejected_line_is_truncated_and_nul_replaced(each_database: str) -> None:
    put_event(b"\0" + b"x" * 9999)
    writer.flush_events(probe)
    [event] = RejectedEvent.select()
    assert " \N{REPLACEMENT CHARACTER}xxx" in event.line
    assert "cut: 10,081 bytes in all" in event.line
    assert len(event.line) < 4200


def test_refused_consumer_row_does_not_stop_the_others(each_database: str) -> None:
    info = {"host": "h", "pid": 1, "code_version": "v", "worker_type": "process", "worker_count": 1, "periodic": True}
    refused = {**info, "pid": 2**31 if on_postgresql() else 2**63}
    for name, facts in (("a", info), ("bad", refused), ("z", info)):
        probe.storage.heartbeats.record(name, {**facts, "started_at": 1.0})
    writer.sync_consumers(probe)
    assert {consumer.id for consumer in Consumer.select()} == {"a", "z"}


def test_rejected_events_are_kept_as_long_as_failed_runs(each_database: str) -> None:
    at = now()
    for name, days in (("young", 89), ("old", 91)):
        RejectedEvent.create(
            queue="probe", stream="probe:x", position=1, reason="r", line=name, rejected_at=at - timedelta(days=days)
        )
    prune([probe], at, 30, 90)
    assert [event.line for event in RejectedEvent.select()] == ["young"]
