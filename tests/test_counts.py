"""The sums by minute, hour and day say what a count of the rows would say."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from library import attempt, run

from engine.database import database, release
from engine.history import run_counts
from engine.history.run_counts import DAY, EVER, HOUR, MINUTE
from engine.models import Attempt, Run, RunCount

AS_OF = datetime(2026, 11, 23, 18, 7, 30, tzinfo=UTC)


def ended_run(ended_at: datetime, state: str = "succeeded", task: str = "process_book", **values: object) -> Run:
    """On record, and counted as a recorder would."""
    values = {"enqueued_at": ended_at, "ended_at": ended_at, "wait_ms": 40.0, "run_ms": 1500.0, **values}
    one = run(task, state, **values)
    run_counts.add(Counter(run_counts.keys_of(one)))
    return one


def rows_between(since: datetime, until: datetime | None) -> dict[str, int]:
    """A count of the rows."""
    inside = (Run.ended_at >= since) & (Run.ended_at < until) if until else Run.ended_at >= since
    return dict(Counter(one.state for one in Run.select(Run.state).where(inside)))


# --- durations -----------------------------------------------------------------------------------------------


@given(st.floats(0, 1e11))
def test_a_duration_lies_within_the_bounds_of_its_bucket(ms: float) -> None:
    low, high = run_counts.bucket_bounds(run_counts.bucket_of(ms))
    assert low * 0.999_999 <= max(ms, run_counts.SHORTEST) <= high * 1.000_001


def test_buckets_are_four_to_a_doubling() -> None:
    assert [run_counts.bucket_of(ms) for ms in (0, 0.1, 0.2, 0.4, 0.8, 102.4)] == [0, 0, 4, 8, 12, 40]
    assert run_counts.bucket_bounds(4) == pytest.approx((0.2, 0.2 * 2**0.25))


def test_percentiles_are_as_exact_as_a_bucket_is_wide() -> None:
    chance = random.Random(4)
    durations = sorted(chance.lognormvariate(5, 1.3) for _ in range(5000))
    found = run_counts.percentiles(Counter(map(run_counts.bucket_of, durations)))
    exact = (durations[2499], durations[4749], durations[4949])
    assert found == pytest.approx(exact, rel=0.19)


def test_where_nothing_ran_there_are_no_percentiles() -> None:
    assert run_counts.percentiles({}) is None
    assert run_counts.percentiles({3: 0}) is None


# --- totals --------------------------------------------------------------------------------------------------


def test_the_totals_of_any_window_are_a_count_of_its_rows(each_database: str) -> None:
    chance = random.Random(7)
    minutes = 9 * 24 * 60
    with database.atomic():
        for _ in range(300):
            # Half of them at a full minute, where one window ends and the next begins.
            back = timedelta(minutes=chance.randrange(minutes), seconds=chance.choice((0, 30 + chance.random())))
            ended_run(AS_OF - back, chance.choice(("succeeded", "failed", "dead")), chance.choice(("a", "b")))
    for _ in range(60):
        first, last = sorted(chance.sample(range(minutes), 2), reverse=True)
        since, until = (run_counts.full_minute(AS_OF) - timedelta(minutes=back) for back in (first, last))
        for end in (until, None):
            found = run_counts.totals(since, end)
            assert found.counts == rows_between(since, end)
            assert found.ended == sum(found.waited.values()) == sum(found.ran.values())


def test_several_windows_are_one_statement(library: None) -> None:
    ended_run(AS_OF - timedelta(minutes=30))
    ended_run(AS_OF - timedelta(hours=5), "failed")
    ended_run(AS_OF - timedelta(days=6), "dead")
    sent: list[str] = []
    hook = lambda event: sent.append(event.sql)  # noqa: E731
    database.query_hooks.append(hook)
    found = run_counts.windows({str(hours): (run_counts.window_start(AS_OF, hours), None) for hours in (1, 24, 168)})
    database.query_hooks.remove(hook)
    assert len(sent) == 1
    assert {name: (totals.ended, totals.failed) for name, totals in found.items()} == {
        "1": (1, 0),
        "24": (2, 1),
        "168": (3, 2),
    }


def test_a_week_is_read_from_few_spans() -> None:
    pieces = run_counts.pieces_of(run_counts.window_start(AS_OF, 168), None)
    assert [piece.span for piece in pieces] == [MINUTE, HOUR, DAY]
    lengths = [(piece.until - piece.since) // piece.span for piece in pieces]
    assert lengths[:2] == [53, 5]


def test_a_window_that_ends_before_it_begins_is_empty(library: None) -> None:
    ended_run(AS_OF)
    assert run_counts.totals(AS_OF, AS_OF - timedelta(hours=2)).ended == 0


def test_cancelled_before_it_ran_is_counted_without_durations(library: None) -> None:
    ended_run(AS_OF, "cancelled", wait_ms=None, run_ms=None)
    found = run_counts.totals(AS_OF)
    assert (found.counts, found.waited, found.ran) == ({"cancelled": 1}, {}, {})


def test_a_run_of_several_attempts_is_one_run_and_counted_among_those_too(library: None) -> None:
    for attempts in (0, 1, 2, 5):
        ended_run(AS_OF, attempts=attempts)
    found = run_counts.totals(AS_OF)
    assert (found.ended, found.counts[run_counts.AGAIN]) == (4, 2)


def test_what_has_not_ended_counts_nowhere(library: None) -> None:
    assert run_counts.keys_of(run(state="running", started_at=AS_OF)) == []


# --- series --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [MINUTE, HOUR, 3 * HOUR, DAY])
def test_a_series_has_every_step_and_each_row_in_its_own(each_database: str, step: int) -> None:
    chance = random.Random(step)
    since = AS_OF - timedelta(seconds=step * 23)
    with database.atomic():
        for _ in range(40):
            ended_run(since + timedelta(seconds=chance.random() * step * 22), chance.choice(("succeeded", "failed")))
    slots = run_counts.series(since, AS_OF, step)
    starts = [slot.start for slot in slots]
    assert len(slots) == 24
    assert starts == [starts[0] + timedelta(seconds=step * place) for place in range(24)]
    assert starts[-1] <= AS_OF < starts[-1] + timedelta(seconds=step)
    for slot in slots:
        assert slot.counts == rows_between(slot.start, slot.start + timedelta(seconds=step))


# --- what goes -----------------------------------------------------------------------------------------------


def test_what_is_deleted_is_counted_no_more(each_database: str) -> None:
    kept, gone = ended_run(AS_OF, "failed"), ended_run(AS_OF, "failed", run_ms=90_000.0)
    tried_again = AS_OF - timedelta(minutes=4)
    for one in (kept, gone):
        attempt(one, 1, "failed", ended_at=tried_again, next_at=AS_OF - timedelta(minutes=1))
        attempt(one, 2, "failed", ended_at=AS_OF)
        run_counts.add({run_counts.key_of(one, tried_again, run_counts.RETRIED): 1})
    with database.atomic():
        run_counts.uncount([gone])
        Attempt.delete().where(Attempt.run_id == gone.id).execute()
        gone.delete_instance()
    found = run_counts.totals(AS_OF - timedelta(hours=1))
    assert {what: count for what, count in found.counts.items() if count} == {"failed": 1, "retried": 1}
    assert run_counts.percentiles(found.ran).p99 < 2000


def test_a_run_that_begins_anew_leaves_the_minute_of_its_end(each_database: str) -> None:
    one = ended_run(AS_OF - timedelta(hours=30), "failed")
    before = Counter(run_counts.keys_of(one))
    one.state, one.ended_at = "succeeded", AS_OF
    after = Counter(run_counts.keys_of(one))
    after.subtract(before)
    run_counts.add(after)
    found = run_counts.totals(AS_OF - timedelta(days=7))
    assert (found.counts["failed"], found.counts["succeeded"]) == (0, 1)
    assert sum(found.ran.values()) == 1


def test_minutes_go_when_no_window_begins_there_and_the_days_stay(each_database: str) -> None:
    for days in (1, 7, 9, 200):
        ended_run(AS_OF - timedelta(days=days))
    run_counts.forget(AS_OF)
    left = RunCount.select().where(RunCount.what == "succeeded")
    assert Counter(row.span for row in left) == {MINUTE: 2, HOUR: 3, DAY: 4, EVER: 1}
    assert run_counts.totals(run_counts.window_start(AS_OF, 168)).ended == 2


def test_who_counts_at_once_loses_nothing_and_locks_nobody_out(each_database: str) -> None:
    keys = [(int(AS_OF.timestamp()), f"task_{number}", "light", "succeeded", 0) for number in range(40)]

    def count_all(seed: int) -> None:
        for _ in range(5):
            shuffled = random.Random(seed).sample(keys, len(keys))
            with database.atomic():
                run_counts.add(dict.fromkeys(shuffled, 1))
        release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_all, range(4)))
    assert run_counts.totals(AS_OF).counts == {"succeeded": 40 * 5 * 4}
