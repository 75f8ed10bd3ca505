"""A run that is missing from the broker does not stay waiting or running in the database. It is found, ended with the
reason, and can be retried.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from raw_entries import process_all, storage_factory, use_probe_queue
from sample_tasks import echo, fail, probe

from engine.broker.messages import Requester
from engine.broker.redis.storage import RedisStorage
from engine.control import runs
from engine.history import lost_runs, run_counts, writer
from engine.history.lost_runs import LostRunCheck
from engine.models import ENDED, Attempt, Run, State, now
from engine.monitor.diagnosis import diagnose

VERA = Requester("operator", "vera")


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def fresh_broker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use a fresh broker and check runs at once, however young they are."""
    monkeypatch.setattr(lost_runs, "MINIMUM_AGE", timedelta(0))
    with use_probe_queue(storage_factory(request.param, request, tmp_path)):
        yield


def record_history() -> None:
    writer.flush_events(probe)
    writer.sync_consumers(probe)


def sweep() -> None:
    record_history()
    LostRunCheck(probe).check()
    record_history()


def empty_broker() -> None:
    storage = probe.storage
    if isinstance(storage, RedisStorage):
        storage.client.redis.flushall()
    else:
        for table in ("message", "kv", "event", "consumer", "spent"):
            storage.database.execute(f"DELETE FROM {table}")


def test_runs_lost_with_the_broker_are_failed_and_can_be_retried(
    each_database: str,
) -> None:
    in_hand = echo(1).id
    assert probe.dequeue()
    waiting, scheduled = echo(2).id, echo.schedule(args=(3,), eta=datetime.now(UTC) + timedelta(hours=1)).id
    record_history()
    assert [Run.get_by_id(run_id).state for run_id in (in_hand, waiting, scheduled)] == [
        State.RUNNING, State.WAITING, State.SCHEDULED,
    ]  # fmt: skip
    empty_broker()
    sweep()
    for run_id in (in_hand, waiting, scheduled):
        run = Run.get_by_id(run_id)
        assert (run.state, run.error) == (
            State.FAILED, "lost: the broker no longer has this run, so its outcome is unknown",
        )  # fmt: skip
        assert run.ended_at
        assert [cause.kind for cause in diagnose({"probe": probe}, run)] == ["ended"]
    [attempt] = Attempt.select()
    assert (attempt.run_id, attempt.state) == (in_hand, State.FAILED)
    assert run_counts.load_totals(now() - timedelta(minutes=2)).counts[State.FAILED] == 3
    runs.retry_run({"probe": probe}, in_hand, VERA)
    process_all()
    sweep()
    assert (Run.get_by_id(in_hand).state, Run.get_by_id(in_hand).attempts) == (State.SUCCEEDED, 2)
    assert run_counts.load_totals(now() - timedelta(minutes=2)).counts[State.FAILED] == 2


def test_runs_in_the_broker_are_never_lost(each_database: str) -> None:
    held = echo(1).id
    assert probe.dequeue()
    dying = echo(2).id
    probe.set_worker_identity("another", "Worker-1")
    probe.dequeue()
    probe.storage.deliveries.release("another", "Worker-1", "died", 1)
    failing = fail("/dev/null").id
    probe.execute(probe.dequeue())
    waiting, scheduled = echo(3).id, echo.schedule(args=(4,), delay=1000).id
    sweep()
    assert {run.id: run.state for run in Run.select()} == {
        held: State.RUNNING, dying: State.DEAD, failing: State.RETRYING, waiting: State.WAITING,
        scheduled: State.SCHEDULED,
    }  # fmt: skip


def test_ended_run_not_yet_in_the_database_is_not_lost(each_database: str) -> None:
    """A check between the end of a run and its write to the database leaves it alone."""
    run_id = echo(1).id
    record_history()
    process_all()
    LostRunCheck(probe).check()
    record_history()
    assert (Run.get_by_id(run_id).state, Run.get_by_id(run_id).error) == (State.SUCCEEDED, None)


def test_run_reported_by_two_recorders_is_lost_once(each_database: str) -> None:
    run_id = echo(1).id
    record_history()
    empty_broker()
    assert [probe.storage.messages.report_lost([run_id]) for _ in range(2)] == [1, 1]
    record_history()
    assert run_counts.load_totals(now() - timedelta(minutes=2)).counts[State.FAILED] == 1
    runs.retry_run({"probe": probe}, run_id, VERA)
    assert probe.storage.messages.report_lost([run_id]) == 0
    process_all()
    record_history()
    assert Run.get_by_id(run_id).state == State.SUCCEEDED


def test_missing_runs_are_checked_in_batches(each_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_runs, "BATCH_SIZE", 3)
    monkeypatch.setattr(lost_runs, "CHECK_SECONDS", 0)
    echo.map([(number,) for number in range(10)])
    record_history()
    empty_broker()
    lost, looks = LostRunCheck(probe), []
    for _ in range(4):
        lost.check()
        record_history()
        looks.append(Run.select().where(Run.state == State.FAILED).count())
    assert looks == [3, 6, 9, 10]


def test_young_runs_are_skipped_and_checks_wait_for_their_time(
    sqlite_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo(1)
    record_history()
    empty_broker()
    lost = LostRunCheck(probe)
    monkeypatch.setattr(lost_runs, "MINIMUM_AGE", timedelta(seconds=30))
    assert lost.next_runs(State.WAITING) == []
    lost.check()
    monkeypatch.setattr(lost_runs, "MINIMUM_AGE", timedelta(0))
    assert lost.next_look > time.monotonic()
    lost.check()
    record_history()
    assert Run.select().where(Run.state.in_(ENDED)).count() == 0
