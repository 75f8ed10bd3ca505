"""How many runs ever ended how, waited and ran how long: sums that only grow, as a monitoring system wants them.

They are kept beside the sums by minute, hour and day (`engine.history.run_counts`), and read in a few milliseconds: a
row for each task and bucket, however many runs there were.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

from engine.database import database
from engine.history.run_counts import ALL_TIME, OUTCOMES, RAN, WAITED


class MetricKey(NamedTuple):
    """The task and the queue of what is counted."""

    task: str
    queue: str


class LifetimeTotals(NamedTuple):
    """`counts` by state in which runs ended, and of attempts that were `retried`; durations by bucket."""

    counts: dict[MetricKey, Counter[str]]
    waited: dict[MetricKey, Counter[int]]  # from due to the first start
    ran: dict[MetricKey, Counter[int]]  # of the last attempt


def load_lifetime_totals() -> LifetimeTotals:
    """In one statement."""
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
