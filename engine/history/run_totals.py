"""Outcomes and durations of all runs since the beginning: monotonic sums for Prometheus.

They share a table with the sums by minute, hour and day (`engine.history.run_counts`). Reading takes a few
milliseconds, as there is one row per task, queue and bucket.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

from engine.database import database
from engine.history.run_counts import ALL_TIME, OUTCOMES, RAN, WAITED


class MetricKey(NamedTuple):
    task: str
    queue: str


class LifetimeTotals(NamedTuple):
    counts: dict[MetricKey, Counter[str]]
    waited: dict[MetricKey, Counter[int]]  # from due to the first start
    ran: dict[MetricKey, Counter[int]]  # of the last attempt


def load_lifetime_totals() -> LifetimeTotals:
    totals = LifetimeTotals(defaultdict(Counter), defaultdict(Counter), defaultdict(Counter))
    rows = database.execute_sql(
        f"SELECT task, queue, what, bucket, count FROM dewey_run_counts WHERE span = {ALL_TIME}"
    ).fetchall()
    for task, queue, what, bucket, count in rows:
        key = MetricKey(task, queue)
        if what in (WAITED, RAN):
            (totals.waited if what == WAITED else totals.ran)[key][bucket] += int(count)
        elif what in OUTCOMES:
            totals.counts[key][what] += int(count)
    return totals
