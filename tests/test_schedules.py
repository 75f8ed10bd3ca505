"""Paused schedules, the outcome of ticks, and catching up."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing import Value
from pathlib import Path
from typing import Any

import pytest
from browsers import empty_queues
from factories import create_run
from huey.consumer import ForkSafeFlag

import tasks
from engine.broker.messages import Requester
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.control import retention, schedules
from engine.exceptions import InvalidState
from engine.history import writer
from engine.models import Run, Tick, now
from engine.monitor import schedule_history
from engine.queues import ticks
from engine.queues.queue import Queue
from engine.worker.scheduler import Scheduler

ANN = Requester("operator", "ann@example.org")
CLEANUP = "close_abandoned_sessions"
NOON = datetime(2035, 5, 7, 12, 0, tzinfo=UTC)
to_minute = lambda at: int(at.timestamp()) // 60  # noqa: E731
FIRST = to_minute(NOON)


@pytest.fixture(params=["sqlite", "redis"])
def light(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queue]:
    """Return the queue `light` on a fresh broker."""
    before = tasks.light.storage
    if request.param == "redis":
        tasks.light.storage = RedisStorage("light", request.getfixturevalue("redis_url"), 60, read_timeout=0.05)
    else:
        tasks.light.storage = SqliteStorage("light", tmp_path / "queue.db", 60, read_timeout=0.05)
    yield tasks.light
    tasks.light.storage = before


def create_tick(minutes_ago: float, state: str, task: str = CLEANUP, **values: Any) -> Tick:
    due_at = now().replace(microsecond=0) - timedelta(minutes=minutes_ago)
    return Tick.create(task=task, due_at=due_at, queue="light", state=state, seen_at=now(), **values)


# --- pauses --------------------------------------------------------------------------------------------------


def test_pause_ends_at_its_end(light: Queue) -> None:
    until = now() + timedelta(hours=1)
    schedules.pause_schedule(light, CLEANUP, by=ANN, reason="migration", until=until)
    info = ticks.find_pause(light.pauses(), CLEANUP, now())
    assert info and (info["by"], info["reason"], info["until"]) == ("ann@example.org", "migration", until.isoformat())
    assert ticks.find_pause(light.pauses(), CLEANUP, until - timedelta(seconds=1))
    assert ticks.find_pause(light.pauses(), CLEANUP, until) is None
    assert ticks.find_pause(light.pauses(), "another_task", now()) is None


def test_pause_without_an_end_lasts_until_resumed(light: Queue) -> None:
    schedules.pause_schedule(light, CLEANUP, by=ANN)
    assert ticks.find_pause(light.pauses(), CLEANUP, now() + timedelta(days=4000))
    assert schedules.resume_schedule(light, CLEANUP)
    assert ticks.find_pause(light.pauses(), CLEANUP, now()) is None
    assert not schedules.resume_schedule(light, CLEANUP)


def test_ended_pause_cannot_be_resumed(light: Queue) -> None:
    light.storage.pauses.put(ticks.pause_key(CLEANUP), pause_info(began=NOON, until=now() - timedelta(minutes=1)))
    assert not schedules.resume_schedule(light, CLEANUP)


def test_pause_end_must_be_in_the_future(light: Queue) -> None:
    with pytest.raises(InvalidState, match="future"):
        schedules.pause_schedule(light, CLEANUP, by=ANN, until=now() - timedelta(seconds=1))


@pytest.mark.usefixtures("sqlite_database")
def test_paused_schedule_does_not_hold_manual_runs(light: Queue) -> None:
    schedules.pause_schedule(light, "get_cleanup_statistics", by=ANN)
    tasks.get_cleanup_statistics(24)
    light.set_worker_identity("here", "Worker-1")
    task = light.dequeue()
    assert task and task.name == "get_cleanup_statistics"


# --- outcome of ticks ----------------------------------------------------------------------------------------


def pause_info(began: datetime, until: datetime | None = None) -> dict[str, Any]:
    return {"by": "ann", "kind": "operator", "at": began.isoformat(), "until": until and until.isoformat()}


def tick_states(due: list[int], minute: int, catch_up: bool = False, pause: dict[str, Any] | None = None) -> list[str]:
    fates = ticks.classify_ticks([FIRST + offset for offset in due], FIRST + minute, catch_up, pause)
    assert [fate.minute - FIRST for fate in fates] == due
    return [fate.state for fate in fates]


def test_tick_seen_in_its_minute_is_enqueued() -> None:
    assert tick_states([30], 30) == ["enqueued"]


def test_last_missed_tick_is_caught_up_if_the_task_asks() -> None:
    assert tick_states([0, 30, 60], 65) == ["missed", "missed", "missed"]
    assert tick_states([0, 30, 60], 65, catch_up=True) == ["missed", "missed", "late"]
    assert tick_states([0, 30, 60], 60) == ["missed", "missed", "enqueued"]


def test_paused_schedule_enqueues_nothing_and_misses_only_earlier_ticks() -> None:
    pause = pause_info(NOON + timedelta(minutes=15))
    assert tick_states([0, 30, 60], 60, catch_up=True, pause=pause) == ["missed", "paused", "paused"]
    assert tick_states([0], 20, catch_up=True, pause=pause) == ["missed"]


def test_minute_in_which_a_pause_begins_is_held_back() -> None:
    assert tick_states([30], 30, pause=pause_info(NOON + timedelta(minutes=30, seconds=40))) == ["paused"]


def test_ticks_held_back_by_an_ended_pause_are_not_caught_up() -> None:
    pause = pause_info(NOON - timedelta(minutes=1), until=NOON + timedelta(minutes=45))
    assert tick_states([0, 30, 60], 60, pause=pause) == ["paused", "paused", "enqueued"]
    assert tick_states([0, 30], 50, catch_up=True, pause=pause) == ["paused", "paused"]
    assert tick_states([0, 30, 60], 70, catch_up=True, pause=pause) == ["paused", "paused", "late"]


def test_only_the_newest_of_many_missed_ticks_are_classified() -> None:
    fates = ticks.classify_ticks(range(FIRST, FIRST + 525_600), FIRST + 525_600, True, None)
    assert len(fates) == ticks.MAX_TICKS
    assert (fates[-1].state, fates[-2].state) == ("late", "missed")


def create_scheduler(queue: Queue) -> Scheduler:
    """Return a scheduler as a consumer creates it, with a clock that the test drives."""
    clock = Scheduler(queue, ForkSafeFlag(), 1, True)
    clock.seen_at = Value("d", 0.0)
    return clock


def tick_rows(queue: Queue) -> list[tuple[int, str, bool]]:
    """Return the cleanup's stored ticks: minutes after noon, state, whether a run exists."""
    writer.flush_events(queue)
    rows = Tick.select().where(Tick.task == CLEANUP).order_by(Tick.due_at)
    return [(to_minute(tick.due_at) - FIRST, tick.state, tick.run_id is not None) for tick in rows]


@pytest.mark.usefixtures("each_database")
def test_scheduler_respects_a_pause_and_records_its_ticks(light: Queue) -> None:
    clock = create_scheduler(light)
    clock.poll(NOON)
    light.storage.pauses.put(
        ticks.pause_key(CLEANUP), pause_info(NOON + timedelta(minutes=5), until=NOON + timedelta(minutes=70))
    )
    for minute in range(1, 91):
        clock.poll(NOON + timedelta(minutes=minute))
    assert tick_rows(light) == [
        (0, "enqueued", True),
        (30, "paused", False),
        (60, "paused", False),
        (90, "enqueued", True),
    ]
    later = create_scheduler(light)
    later.poll(NOON + timedelta(minutes=155))
    assert tick_rows(light)[4:] == [(120, "missed", False), (150, "late", True)]
    runs = {tick.run_id for tick in Tick.select().where((Tick.task == CLEANUP) & Tick.run_id.is_null(False))}
    assert {run.id for run in Run.select().where(Run.task == CLEANUP)} == runs


@pytest.mark.usefixtures("sqlite_database")
def test_resumed_schedule_continues_with_its_next_tick(light: Queue) -> None:
    clock = create_scheduler(light)
    light.storage.pauses.put(ticks.pause_key(CLEANUP), pause_info(NOON - timedelta(minutes=1)))
    clock.poll(NOON)
    of_others = light.pending_count()
    schedules.resume_schedule(light, CLEANUP)
    clock.poll(NOON + timedelta(minutes=1))
    assert light.pending_count() == of_others
    clock.poll(NOON + timedelta(minutes=30))
    assert tick_rows(light) == [(0, "paused", False), (30, "enqueued", True)]


# --- catching up ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_database")
def test_catch_up_starts_one_run_for_the_newest_missed_tick() -> None:
    empty_queues()
    for minutes_ago in (180, 150):
        create_tick(minutes_ago, "missed")
    create_tick(120, "enqueued", run_id="an-id")
    made = schedules.catch_up(tasks.queues, CLEANUP, ANN)
    assert [(tick.state, tick.run_id) for tick in Tick.select().order_by(Tick.due_at)] == [
        ("missed", None),
        ("late", made.id),
        ("enqueued", "an-id"),
    ]
    assert (Run.get_by_id(made.id).asked_by, Run.select().count()) == ("ann@example.org", 1)
    with pytest.raises(InvalidState, match="no missed tick"):
        schedules.catch_up(tasks.queues, CLEANUP, ANN)
    assert tasks.light.pending_count() == 1


@pytest.mark.usefixtures("sqlite_database")
def test_late_tick_is_not_caught_up_again() -> None:
    create_tick(90, "missed")
    create_tick(60, "late", run_id="an-id")
    assert schedules.newest_missed_tick(CLEANUP) is None
    assert schedule_history.load_histories([CLEANUP])[CLEANUP].to_catch_up is None


@pytest.mark.usefixtures("sqlite_database")
def test_run_that_cannot_be_enqueued_leaves_its_tick_missed(tmp_path: Path) -> None:
    tick = create_tick(60, "missed")
    before = tasks.light.storage
    tasks.light.storage = RedisStorage("light", f"unix://{tmp_path}/missing.sock", 60)
    try:
        with pytest.raises(ConnectionError):
            schedules.catch_up(tasks.queues, CLEANUP, ANN)
    finally:
        tasks.light.storage = before
    assert schedules.newest_missed_tick(CLEANUP) == tick


# --- past ticks ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_database")
def test_histories_contain_the_newest_of_each_schedule() -> None:
    for number in range(schedule_history.MAX_RUNS + 5):
        create_run(CLEANUP, id=f"run-{number:02}", enqueued_at=NOON + timedelta(minutes=number))
    create_run("cleanup_old_task_results")
    create_tick(50, "missed")
    create_tick(40, "late")
    create_tick(30, "missed")
    create_tick(20, "missed", "cleanup_old_task_results")
    histories = schedule_history.load_histories([CLEANUP, "cleanup_old_task_results", "never_run"])
    past = histories[CLEANUP]
    assert [item.id for item in past.runs] == [f"run-{number:02}" for number in range(34, 4, -1)]
    assert [item.state for item in past.ticks] == ["missed", "late", "missed"]
    assert (past.counts, past.to_catch_up) == ({"missed": 2, "late": 1}, past.ticks[0].due_at)
    assert len(histories["cleanup_old_task_results"].runs) == 1
    assert (histories["never_run"].runs, histories["never_run"].to_catch_up) == ([], None)


@pytest.mark.usefixtures("sqlite_database")
def test_ticks_are_kept_as_long_as_runs() -> None:
    create_tick(29 * 1440, "missed")
    create_tick(31 * 1440, "missed")
    retention.prune([], now(), days=30, failed_days=90)
    assert [tick.due_at > now() - timedelta(days=30) for tick in Tick.select()] == [True]
