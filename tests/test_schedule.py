"""The scheduler: a due tick starts one run, however many schedulers run. Missed ticks are caught up if declared."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing import Value
from pathlib import Path

import pytest
from huey.consumer import ForkSafeFlag
from sample_tasks import each_ten_minutes, half_hourly, probe

from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.queues.crontab import crontab
from engine.worker.scheduler import Scheduler

NOON = datetime(2035, 5, 7, 12, 0, tzinfo=UTC)
at = lambda minutes, seconds=0.0: NOON + timedelta(minutes=minutes, seconds=seconds)  # noqa: E731


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def clock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Return the probe queue on a fresh broker, with two schedules: half-hourly (catches up) and ten-minute."""
    before = probe.storage
    if request.param == "redis":
        probe.storage = RedisStorage("probe", request.getfixturevalue("redis_url"), 60)
    else:
        probe.storage = SqliteStorage("probe", tmp_path / "queue.db", 60)
    yield
    probe.storage = before


def create_scheduler() -> Scheduler:
    """Return a scheduler as a consumer creates it, with a clock that the test drives."""
    clock = Scheduler(probe, ForkSafeFlag(), 1, True)
    clock.seen_at = Value("d", 0.0)
    return clock


def waiting_names() -> list[str]:
    return sorted(task.name for task in probe.pending())


def test_task_is_enqueued_at_its_minute_and_not_before(sqlite_database: None) -> None:
    clock = create_scheduler()
    clock.poll(at(-1, 59.9))
    assert waiting_names() == []
    clock.poll(at(0))
    assert waiting_names() == ["each_ten_minutes", "half_hourly"]
    for second in range(1, 120):
        clock.poll(at(0, second))
    assert len(waiting_names()) == 2


def test_day_has_forty_eight_half_hour_runs_with_several_schedulers(sqlite_database: None) -> None:
    schedulers = [create_scheduler() for _ in range(3)]
    for minute in range(24 * 60):
        for number, scheduler in enumerate(schedulers):
            scheduler.poll(at(minute, number * 7))
    assert waiting_names().count("half_hourly") == 48
    assert waiting_names().count("each_ten_minutes") == 144


def test_restart_within_the_minute_enqueues_nothing_again(sqlite_database: None) -> None:
    create_scheduler().poll(at(0, 1))
    create_scheduler().poll(at(0, 30))
    assert waiting_names() == ["each_ten_minutes", "half_hourly"]


def test_new_schedule_has_missed_nothing(sqlite_database: None) -> None:
    create_scheduler().poll(at(7))
    assert waiting_names() == []


def test_missed_ticks_are_caught_up_once_if_the_task_asks(sqlite_database: None) -> None:
    create_scheduler().poll(at(0))
    probe.storage.messages.delete_waiting()
    late = create_scheduler()
    late.poll(at(95))  # 12:30, 13:00 and 13:30 were missed, and nine ticks of the other
    assert waiting_names() == ["half_hourly"]
    late.poll(at(100))
    assert waiting_names() == ["each_ten_minutes", "half_hourly"]


def test_stalled_scheduler_catches_up(sqlite_database: None) -> None:
    clock = create_scheduler()
    clock.poll(at(1))
    clock.poll(at(31))
    assert waiting_names() == ["half_hourly"]


def test_scheduled_run_names_its_schedule(sqlite_database: None) -> None:
    create_scheduler().poll(at(0))
    requesters = {task.name: task.envelope.asked_by for task in probe.pending() if task.envelope}
    assert requesters["half_hourly"] == ("schedule", "*/30 * * * *")


def test_manual_run_in_the_same_minute_is_kept(sqlite_database: None) -> None:
    create_scheduler().poll(at(0))
    half_hourly()
    each_ten_minutes()
    assert len(waiting_names()) == 4


def test_scheduled_runs_are_enqueued_when_due(sqlite_database: None) -> None:
    half_hourly.schedule(eta=at(5))
    clock = create_scheduler()
    clock.poll(at(4))
    assert (waiting_names(), probe.scheduled_count()) == ([], 1)
    clock.poll(at(5))
    assert (waiting_names(), probe.scheduled_count()) == (["half_hourly"], 0)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ({"minute": "*/30"}, NOON, at(30)),
        ({"minute": "*/30"}, at(-1, 59), NOON),
        ({"minute": "0", "hour": "3"}, NOON, NOON + timedelta(hours=15)),
        ({"minute": "0", "hour": "0", "day": "29", "month": "2"}, NOON, datetime(2036, 2, 29, tzinfo=UTC)),
        ({"day": "31", "month": "2"}, NOON, None),
    ],
)
def test_next_tick_is_the_first_matching_minute(
    expression: dict[str, str], after: datetime, expected: datetime | None
) -> None:
    assert crontab(**expression).next(after) == expected


def test_invalid_expression_is_rejected_at_declaration() -> None:
    with pytest.raises(ValueError, match="61"):
        crontab(minute="61")
    with pytest.raises(ValueError, match="often"):
        crontab(minute="often")
