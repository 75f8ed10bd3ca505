"""The sums by minute, hour and day equal a count of the rows."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from factories import create_attempt, create_run
from hypothesis import given
from hypothesis import strategies as st

from engine.database import database, release_connection
from engine.history import run_counts
from engine.history.run_counts import ALL_TIME, DAY, HOUR, MINUTE
from engine.models import Attempt, Run, RunCount

AS_OF = datetime(2026, 11, 23, 18, 7, 30, tzinfo=UTC)


def create_ended_run(ended_at: datetime, state: str = "succeeded", task: str = "process_book", **values: object) -> Run:
    """Store an ended run and count it as a recorder does."""
    values = {"enqueued_at": ended_at, "ended_at": ended_at, "wait_ms": 40.0, "run_ms": 1500.0, **values}
    run = create_run(task, state, **values)
    run_counts.increment(Counter(run_counts.counter_keys(run)))
    return run


def count_rows(since: datetime, until: datetime | None) -> dict[str, int]:
    inside = (Run.ended_at >= since) & (Run.ended_at < until) if until else Run.ended_at >= since
    return dict(Counter(run.state for run in Run.select(Run.state).where(inside)))


# --- durations -----------------------------------------------------------------------------------------------


@given(st.floats(0, 1e11))
def test_duration_lies_within_its_bucket_bounds(ms: float) -> None:
    low, high = run_counts.bucket_bounds(run_counts.duration_bucket(ms))
    assert low * 0.999_999 <= max(ms, run_counts.SHORTEST_MS) <= high * 1.000_001


def test_buckets_are_four_to_a_doubling() -> None:
    assert [run_counts.duration_bucket(ms) for ms in (0, 0.1, 0.2, 0.4, 0.8, 102.4)] == [0, 0, 4, 8, 12, 40]
    assert run_counts.bucket_bounds(4) == pytest.approx((0.2, 0.2 * 2**0.25))


def test_percentiles_are_exact_to_a_bucket_width() -> None:
    chance = random.Random(4)
    durations = sorted(chance.lognormvariate(5, 1.3) for _ in range(5000))
    percentiles = run_counts.percentiles(Counter(map(run_counts.duration_bucket, durations)))
    exact = (durations[2499], durations[4749], durations[4949])
    assert percentiles == pytest.approx(exact, rel=0.19)


def test_percentiles_are_none_without_runs() -> None:
    assert run_counts.percentiles({}) is None
    assert run_counts.percentiles({3: 0}) is None


# --- totals --------------------------------------------------------------------------------------------------


def test_totals_of_any_window_equal_a_count_of_its_rows(each_database: str) -> None:
    chance = random.Random(7)
    minutes = 9 * 24 * 60
    with database.atomic():
        for _ in range(300):
            # Half of them are at a full minute, where one window ends and the next begins.
            back = timedelta(minutes=chance.randrange(minutes), seconds=chance.choice((0, 30 + chance.random())))
            create_ended_run(AS_OF - back, chance.choice(("succeeded", "failed", "dead")), chance.choice(("a", "b")))
    for _ in range(60):
        first, last = sorted(chance.sample(range(minutes), 2), reverse=True)
        since, until = (run_counts.full_minute(AS_OF) - timedelta(minutes=back) for back in (first, last))
        for end in (until, None):
            totals = run_counts.load_totals(since, end)
            assert totals.counts == count_rows(since, end)
            assert totals.ended == sum(totals.waited.values()) == sum(totals.ran.values())


def test_several_windows_take_one_statement(sqlite_database: None) -> None:
    create_ended_run(AS_OF - timedelta(minutes=30))
    create_ended_run(AS_OF - timedelta(hours=5), "failed")
    create_ended_run(AS_OF - timedelta(days=6), "dead")
    sent: list[str] = []
    hook = lambda event: sent.append(event.sql)  # noqa: E731
    database.query_hooks.append(hook)
    windows = run_counts.load_windows(
        {str(hours): (run_counts.window_start(AS_OF, hours), None) for hours in (1, 24, 168)}
    )
    database.query_hooks.remove(hook)
    assert len(sent) == 1
    assert {name: (totals.ended, totals.failed) for name, totals in windows.items()} == {
        "1": (1, 0),
        "24": (2, 1),
        "168": (3, 2),
    }


def test_week_is_read_from_few_spans() -> None:
    pieces = run_counts.split_window(run_counts.window_start(AS_OF, 168), None)
    assert [piece.span for piece in pieces] == [MINUTE, HOUR, DAY]
    lengths = [(piece.until - piece.since) // piece.span for piece in pieces]
    assert lengths[:2] == [53, 5]


def test_window_that_ends_before_it_begins_is_empty(sqlite_database: None) -> None:
    create_ended_run(AS_OF)
    assert run_counts.load_totals(AS_OF, AS_OF - timedelta(hours=2)).ended == 0


def test_run_cancelled_before_it_ran_has_no_durations(sqlite_database: None) -> None:
    create_ended_run(AS_OF, "cancelled", wait_ms=None, run_ms=None)
    totals = run_counts.load_totals(AS_OF)
    assert (totals.counts, totals.waited, totals.ran) == ({"cancelled": 1}, {}, {})


def test_run_of_several_attempts_counts_as_one_retried_run(sqlite_database: None) -> None:
    for attempts in (0, 1, 2, 5):
        create_ended_run(AS_OF, attempts=attempts)
    totals = run_counts.load_totals(AS_OF)
    assert (totals.ended, totals.counts[run_counts.RETRIED_RUNS]) == (4, 2)


def test_unfinished_run_has_no_counters(sqlite_database: None) -> None:
    assert run_counts.counter_keys(create_run(state="running", started_at=AS_OF)) == []


# --- series --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [MINUTE, HOUR, 3 * HOUR, DAY])
def test_series_has_every_step_with_its_rows(each_database: str, step: int) -> None:
    chance = random.Random(step)
    since = AS_OF - timedelta(seconds=step * 23)
    with database.atomic():
        for _ in range(40):
            create_ended_run(
                since + timedelta(seconds=chance.random() * step * 22), chance.choice(("succeeded", "failed"))
            )
    slots = run_counts.load_series(since, AS_OF, step)
    starts = [slot.start for slot in slots]
    assert len(slots) == 24
    assert starts == [starts[0] + timedelta(seconds=step * number) for number in range(24)]
    assert starts[-1] <= AS_OF < starts[-1] + timedelta(seconds=step)
    for slot in slots:
        assert slot.counts == count_rows(slot.start, slot.start + timedelta(seconds=step))


# --- pruning -------------------------------------------------------------------------------------------------


def test_deleted_runs_are_subtracted(each_database: str) -> None:
    kept, gone = create_ended_run(AS_OF, "failed"), create_ended_run(AS_OF, "failed", run_ms=90_000.0)
    tried_again = AS_OF - timedelta(minutes=4)
    for run in (kept, gone):
        create_attempt(run, 1, "failed", ended_at=tried_again, next_at=AS_OF - timedelta(minutes=1))
        create_attempt(run, 2, "failed", ended_at=AS_OF)
        run_counts.increment({run_counts.counter_key(run, tried_again, run_counts.RETRIED): 1})
    with database.atomic():
        run_counts.decrement([gone])
        Attempt.delete().where(Attempt.run_id == gone.id).execute()
        gone.delete_instance()
    totals = run_counts.load_totals(AS_OF - timedelta(hours=1))
    assert {what: count for what, count in totals.counts.items() if count} == {"failed": 1, "retried": 1}
    assert run_counts.percentiles(totals.ran).p99 < 2000


def test_retried_run_leaves_the_minute_of_its_first_end(each_database: str) -> None:
    run = create_ended_run(AS_OF - timedelta(hours=30), "failed")
    before = Counter(run_counts.counter_keys(run))
    run.state, run.ended_at = "succeeded", AS_OF
    after = Counter(run_counts.counter_keys(run))
    after.subtract(before)
    run_counts.increment(after)
    totals = run_counts.load_totals(AS_OF - timedelta(days=7))
    assert (totals.counts["failed"], totals.counts["succeeded"]) == (0, 1)
    assert sum(totals.ran.values()) == 1


def test_old_minutes_are_deleted_and_days_kept(each_database: str) -> None:
    for days in (1, 7, 9, 200):
        create_ended_run(AS_OF - timedelta(days=days))
    run_counts.delete_older(AS_OF)
    left = RunCount.select().where(RunCount.what == "succeeded")
    assert Counter(row.span for row in left) == {MINUTE: 2, HOUR: 3, DAY: 4, ALL_TIME: 1}
    assert run_counts.load_totals(run_counts.window_start(AS_OF, 168)).ended == 2


def test_concurrent_counting_loses_nothing(each_database: str) -> None:
    keys = [(int(AS_OF.timestamp()), f"task_{number}", "light", "succeeded", 0) for number in range(40)]

    def count_all(seed: int) -> None:
        for _ in range(5):
            shuffled = random.Random(seed).sample(keys, len(keys))
            with database.atomic():
                run_counts.increment(dict.fromkeys(shuffled, 1))
        release_connection()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_all, range(4)))
    assert run_counts.load_totals(AS_OF).counts == {"succeeded": 40 * 5 * 4}
