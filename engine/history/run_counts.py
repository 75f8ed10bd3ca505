"""Outcomes and durations of runs: sums by minute, hour and day, fast for any number of runs.

A recorder adds to them in the transaction that writes the runs. Deletions are subtracted in the same way. So a window
that begins at a full minute gives the same result as counting rows. Sums of all time are kept too and never shrink:
see `engine.history.run_totals`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from engine.database import database, on_postgresql
from engine.models import ENDED, Attempt, Run, RunCount, State

MINUTE, HOUR, DAY = SPANS = (60, 3600, 86_400)
#: Span of the sums of all time. Their `start` is 0.
ALL_TIME = 0
ROWS_PER_INSERT = 500

#: Minutes and then hours are deleted after this time. Days are kept.
RETENTION = {MINUTE: timedelta(days=8), HOUR: timedelta(days=92)}

RETRIED, RETRIED_RUNS, WAITED, RAN = "retried", "again", "waited", "ran"
#: Prefix of the failed attempts of an error group.
ERROR_PREFIX = "error:"
OUTCOMES = (*ENDED, RETRIED)

#: Lower bound of the first bucket (ms), and buckets per doubling: each bucket is 19 % wide.
SHORTEST_MS, BUCKETS_PER_DOUBLING = 0.1, 4

#: (Unix second, task, queue, what, bucket) of a counter.
Key = tuple[int, str, str, str, int]


# --- durations -----------------------------------------------------------------------------------------------


def duration_bucket(ms: float) -> int:
    return math.floor(BUCKETS_PER_DOUBLING * math.log2(max(ms, SHORTEST_MS) / SHORTEST_MS))


def bucket_bounds(bucket: int) -> tuple[float, float]:
    """Return the lower and upper bound in ms. The first bucket also holds shorter durations."""
    low, high = (SHORTEST_MS * 2 ** (edge / BUCKETS_PER_DOUBLING) for edge in (bucket, bucket + 1))
    return low, high


class Percentiles(NamedTuple):
    """Milliseconds, accurate to the width of a bucket."""

    p50: float
    p95: float
    p99: float


def percentiles(buckets: Mapping[int, int]) -> Percentiles | None:
    total = sum(buckets.values())
    return Percentiles(*(quantile(buckets, share * total) for share in (0.50, 0.95, 0.99))) if total > 0 else None


def quantile(buckets: Mapping[int, int], rank: float) -> float:
    """Return the duration of this rank, assuming a log-uniform spread within each bucket."""
    below = 0
    for bucket, count in sorted(buckets.items()):
        if below + count >= rank:
            low, high = bucket_bounds(bucket)
            return low * (high / low) ** ((rank - below) / count)
        below += count
    raise ValueError(f"there is no rank {rank} among {below}")


# --- counting ------------------------------------------------------------------------------------------------


def counter_keys(run: Run) -> list[Key]:
    if run.ended_at is None:
        return []
    durations = ((WAITED, run.wait_ms), (RAN, run.run_ms))
    return [
        counter_key(run, run.ended_at, run.state),
        *([counter_key(run, run.ended_at, RETRIED_RUNS)] if run.attempts > 1 else []),
        *(counter_key(run, run.ended_at, what, duration_bucket(ms)) for what, ms in durations if ms is not None),
    ]


def counter_key(run: Run, at: datetime, what: str, bucket: int = 0) -> Key:
    return int(at.timestamp()), run.task, run.queue, str(what), bucket


def increment(deltas: Mapping[Key, int]) -> None:
    """Add to the counters. Rows are written in key order, so that concurrent writers never deadlock."""
    sums: Counter[tuple[int, int, str, str, str, int]] = Counter()
    for (second, task, queue, what, bucket), count in deltas.items():
        for span in SPANS:
            sums[span, second - second % span, task, queue, what, bucket] += count
        if not what.startswith(ERROR_PREFIX):
            # Lifetime counters never fall: Prometheus would take a falling counter for a restart.
            sums[ALL_TIME, 0, task, queue, what, bucket] += max(count, 0)
    rows = sorted((*key, count) for key, count in sums.items() if count)
    for start in range(0, len(rows), ROWS_PER_INSERT):
        upsert_counts(rows[start : start + ROWS_PER_INSERT])


def upsert_counts(rows: Sequence[Sequence[int | str]]) -> None:
    row = f"({', '.join([database.param] * len(rows[0]))})"
    database.execute_sql(
        "INSERT INTO dewey_run_counts (span, start, task, queue, what, bucket, count)"
        f" VALUES {', '.join([row] * len(rows))}"
        " ON CONFLICT (span, start, task, queue, what, bucket)"
        " DO UPDATE SET count = dewey_run_counts.count + excluded.count",
        [value for values in rows for value in values],
    )


def decrement(runs: Iterable[Run]) -> None:
    """Subtract runs that the caller deletes. Call it in the same transaction, before their attempts are deleted."""
    by_id = {run.id: run for run in runs}
    deltas = Counter(key for run in by_id.values() for key in counter_keys(run))
    retried = (Attempt.state == State.FAILED) & Attempt.next_at.is_null(False)
    counted = Attempt.run_id.in_(list(by_id)) & (retried | Attempt.error_group.is_null(False))
    columns = (Attempt.run_id, Attempt.ended_at, Attempt.state, Attempt.next_at, Attempt.error_group)
    for attempt in Attempt.select(*columns).where(counted):
        if attempt.state == State.FAILED and attempt.next_at:
            deltas[counter_key(by_id[attempt.run_id], attempt.ended_at, RETRIED)] += 1
        if attempt.error_group:
            deltas[counter_key(by_id[attempt.run_id], attempt.ended_at, ERROR_PREFIX + attempt.error_group)] += 1
    increment({key: -count for key, count in deltas.items()})


def delete_older(as_of: datetime) -> None:
    for span, kept in RETENTION.items():
        old = (RunCount.span == span) & (RunCount.start < int((as_of - kept).timestamp()))
        RunCount.delete().where(old).execute()


# --- reading -------------------------------------------------------------------------------------------------


class WindowTotals(NamedTuple):
    counts: Counter[str]  # by final state; `retried` counts attempts, `again` runs with several attempts
    waited: Counter[int]  # runs by the bucket of their time in the queue
    ran: Counter[int]  # runs by the bucket of their last attempt's duration

    @property
    def ended(self) -> int:
        return sum(self.counts[state] for state in ENDED)

    @property
    def failed(self) -> int:
        return self.counts[State.FAILED] + self.counts[State.DEAD]


class Bucket(NamedTuple):
    start: datetime
    counts: Counter[str]  # as in WindowTotals


class SpanRange(NamedTuple):
    """Rows of one span with `since` <= start < `until` (Unix seconds)."""

    span: int
    since: int
    until: int


#: A full day after every row.
FOREVER = DAY * 2**40


def full_minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def window_start(as_of: datetime, hours: int) -> datetime:
    return full_minute(as_of) - timedelta(hours=hours)


def load_totals(since: datetime, until: datetime | None = None) -> WindowTotals:
    """Return the totals from the minute of `since` up to, not including, the minute of `until`. None: no end."""
    return load_windows({"": (since, until)})[""]


def load_windows(bounds: Mapping[str, tuple[datetime, datetime | None]]) -> dict[str, WindowTotals]:
    sums = {name: WindowTotals(Counter(), Counter(), Counter()) for name in bounds}
    pieces = [(name, piece) for name, (since, until) in bounds.items() for piece in split_window(since, until)]
    if not pieces:
        return sums
    sql = union_all([SUMS.format(param=database.param)] * len(pieces))
    parameters = [value for number, (_, piece) in enumerate(pieces) for value in (number, *piece)]
    for number, what, bucket, count in database.execute_sql(sql, parameters).fetchall():
        counts, waited, ran = sums[pieces[number][0]]
        durations = {WAITED: waited, RAN: ran}.get(what)
        if durations is None:
            counts[what] += int(count)
        else:
            durations[bucket] += int(count)
    return sums


def union_all(queries: Sequence[str]) -> str:
    """Combine the queries. With a plain UNION ALL PostgreSQL starts parallel workers for a few rows and is slower."""
    if not on_postgresql():
        return " UNION ALL ".join(queries)
    parts = [f"part_{number} AS MATERIALIZED ({query})" for number, query in enumerate(queries)]
    rows = [f"SELECT * FROM part_{number}" for number in range(len(queries))]
    return f"WITH {', '.join(parts)} {' UNION ALL '.join(rows)}"


def sql_literals(whats: Iterable[str]) -> str:
    """Return SQL literals: the planner should see the values."""
    return "('{}')".format("', '".join(whats))


SUMS = (
    "SELECT CAST({param} AS integer), what, bucket, SUM(count) FROM dewey_run_counts"
    f" WHERE span = {{param}} AND what IN {sql_literals((*OUTCOMES, RETRIED_RUNS, WAITED, RAN))}"
    " AND start >= {param} AND start < {param} GROUP BY what, bucket"
)


def split_window(since: datetime, until: datetime | None) -> list[SpanRange]:
    """Split a window into minutes, hours and days, so that a week needs few rows."""
    first, last = (FOREVER if at is None else int(full_minute(at).timestamp()) for at in (since, until))
    return split_spans(first, last, SPANS)


def split_spans(first: int, last: int, spans: tuple[int, ...]) -> list[SpanRange]:
    if first >= last:
        return []
    *finer, span = spans
    inner_first, inner_last = -(-first // span) * span, last // span * span
    if inner_first >= inner_last:
        return split_spans(first, last, tuple(finer))
    inner = SpanRange(span, inner_first, inner_last)
    return [*split_spans(first, inner_first, tuple(finer)), inner, *split_spans(inner_last, last, tuple(finer))]


def load_series(since: datetime, until: datetime, step: int) -> list[Bucket]:
    """Return the outcomes per step of `step` seconds (whole minutes), both ends included."""
    first, last = (int(at.timestamp()) // step * step for at in (since, until))
    param = database.param
    rows = database.execute_sql(
        f"SELECT start / {param} * {param}, what, SUM(count) FROM dewey_run_counts"
        f" WHERE span = {param} AND what IN {sql_literals(OUTCOMES)} AND start >= {param} AND start < {param}"
        " GROUP BY 1, what",
        [step, step, max(span for span in SPANS if step % span == 0), first, last + step],
    )
    slots = {start: Bucket(datetime.fromtimestamp(start, UTC), Counter()) for start in range(first, last + step, step)}
    for start, what, count in rows.fetchall():
        slots[start].counts[what] += int(count)
    return list(slots.values())
