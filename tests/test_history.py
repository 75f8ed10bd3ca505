"""The history counts each event once, with any number of recorders and through crashes."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sample_tasks import echo, fail_with_result, probe

from engine.broker.effects import Effects, event_json
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.control.retention import prune
from engine.database import release_connection
from engine.history import event_handlers, writer
from engine.models import Attempt, Consumer, HistoryCursor, Run, State, now


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def fresh_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Return the probe queue on a fresh broker, with this thread as its only worker."""
    before = probe.storage
    if request.param == "redis":
        probe.storage = RedisStorage("probe", request.getfixturevalue("redis_url"), 60, read_timeout=0.05)
    else:
        probe.storage = SqliteStorage("probe", tmp_path / "queue.db", 60, read_timeout=0.05)
    probe.set_worker_identity("here", "Worker-1")
    yield
    probe.storage = before


def process_all() -> None:
    while (task := probe.dequeue()) is not None:
        probe.execute(task)


def test_run_is_recorded_when_enqueued_and_when_ended(each_database: str) -> None:
    run_id = echo(1).id
    writer.flush_events(probe)
    assert Run.get_by_id(run_id).state == State.WAITING
    process_all()
    writer.flush_events(probe)
    run = Run.get_by_id(run_id)
    assert (run.state, run.result, run.attempts) == (State.SUCCEEDED, 1, 1)


def test_running_attempt_has_no_duration_of_the_previous_one(each_database: str) -> None:
    run_id = fail_with_result("").id
    probe.execute(probe.dequeue())
    writer.flush_events(probe)
    assert Run.get_by_id(run_id).run_ms is not None
    assert probe.dequeue()
    writer.sync_consumers(probe)
    run = Run.get_by_id(run_id)
    assert (run.state, run.attempts, run.run_ms) == (State.RUNNING, 2, None)


def test_dead_worker_attempt_is_recorded_with_its_error_group(each_database: str) -> None:
    run_id = echo(1).id
    assert probe.dequeue()
    probe.storage.deliveries.release("here", "Worker-1", "Worker-1 died (signal 9)", 5)
    writer.flush_events(probe)
    [attempt] = Attempt.select().where(Attempt.run_id == run_id)
    assert (attempt.state, attempt.error) == ("died", "Worker-1 died (signal 9)")
    assert attempt.error_group


def test_malformed_event_does_not_stop_the_others(each_database: str, caplog: pytest.LogCaptureFixture) -> None:
    for line in ("garbage", "[]", '{"kind": "unheard of", "id": "x"}', event_json("ended", "x", time.time())):
        probe.storage.messages.write(Effects().event(line))
    run_id = echo(1).id
    process_all()
    assert writer.flush_events(probe) > 4
    assert Run.get_by_id(run_id).state == State.SUCCEEDED
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 4


def test_concurrent_recorders_write_each_run_once(each_database: str) -> None:
    for number in range(300):
        echo(number)
    process_all()

    def record() -> None:
        while Run.select().where(Run.state == State.SUCCEEDED).count() < 300:
            writer.flush_events(probe)
        release_connection()

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Run.select().where(Run.state == State.SUCCEEDED).count() == 300
    assert sorted(run.result for run in Run.select()) == list(range(300))
    assert Attempt.select().count() == 300


def test_recorder_that_dies_before_the_trim_writes_nothing_twice(
    each_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo(1)

    def die(upto: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(probe.storage.events, "trim", die)
        writer.flush_events(probe)
    Run.update(task="written once").execute()
    assert writer.flush_events(probe) == 0
    assert [run.task for run in Run.select()] == ["written once"]


def test_failed_batch_is_written_completely_on_retry(each_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        echo(number)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(event_handlers, "write_rows", lambda *_: 1 / 0)
        writer.flush_events(probe)
    assert Run.select().count() == 0
    assert writer.flush_events(probe) == 5
    assert Run.select().count() == 5


def test_run_without_its_enqueued_event_is_recorded_from_its_end(each_database: str) -> None:
    run_id = echo(7).id
    probe.storage.events.drop_oldest(0)
    process_all()
    writer.flush_events(probe)
    run = Run.get_by_id(run_id)
    assert (run.task, run.state, run.result) == ("echo", State.SUCCEEDED, 7)
    assert writer.dropped_events() == 1


def test_text_a_database_cannot_store_does_not_stop_the_history(each_database: str) -> None:
    run_id = echo("nul \0 here").id
    process_all()
    writer.flush_events(probe)
    assert Run.get_by_id(run_id).result == "nul \0 here"
    facts = {"state": "failed", "delivery": 2, "attempt": 1, "task": "echo", "worker": "w", "version": "v", "run_ms": 1}
    unstorable = {"started": 1, "wait_ms": 1, "result": None, "error": "bad \0", "traceback": "bad \0", "next_at": None}
    event = event_json("ended", run_id, time.time(), **facts, **unstorable)
    probe.storage.messages.write(Effects().event(event))
    writer.flush_events(probe)
    assert Run.get_by_id(run_id).error.startswith("bad ")


def test_restarted_broker_is_read_from_its_beginning(each_database: str, tmp_path: Path) -> None:
    echo(1)
    writer.flush_events(probe)
    if isinstance(probe.storage, RedisStorage):
        probe.storage.client.redis.flushall()
    else:
        probe.storage = SqliteStorage("probe", tmp_path / "another.db", 60)
    echo(2)
    writer.flush_events(probe)
    assert Run.select().count() == 2
    assert HistoryCursor.select().count() == 2


def test_pruning_removes_only_expired_rows(each_database: str) -> None:
    at = now()
    for name, state, days in (
        ("young", State.SUCCEEDED, 29), ("old", State.SUCCEEDED, 31), ("cancelled", State.CANCELLED, 31),
        ("failed", State.FAILED, 89), ("long failed", State.FAILED, 91), ("running", State.RUNNING, 400),
    ):  # fmt: skip
        ended = None if state == State.RUNNING else at - timedelta(days=days)
        Run.create(
            id=name, task="echo", queue="probe", state=state, enqueued_at=at - timedelta(days=days), ended_at=ended
        )
        Attempt.create(run_id=name, number=1, attempt=1, state=state)
    for name, beat_at in (("gone", at - timedelta(days=2)), ("here", at)):
        Consumer.create(id=name, queue="probe", host="h", pid=1, code_version="v", worker_type="process",
                             worker_count=1, periodic=True, started_at=beat_at, beat_at=beat_at)  # fmt: skip
    assert prune([probe], at, 30, 90) == {"results": 0, "runs": 3, "workers": 1}
    assert {run.id for run in Run.select()} == {"young", "failed", "running"}
    assert {consumer.run_id for consumer in Attempt.select()} == {"young", "failed", "running"}
    assert [consumer.id for consumer in Consumer.select()] == ["here"]
