"""Outcomes, waits and durations of each task over the last seven days, in one statement."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from engine.database import database
from engine.history.run_counts import DAY, HOUR, OUTCOMES, RAN, RETRIED, WAITED, Bucket, sql_literals
from engine.models import State

DAYS = 7
STEP = 6 * HOUR


class TaskWeek(NamedTuple):
    """`counts` by final state, and of `retried` attempts. `slots` are six hours each."""

    since: datetime
    counts: Counter[str]
    waited: Counter[int]  # runs by the bucket of their time in the queue
    ran: Counter[int]  # runs by the bucket of their last attempt's duration
    slots: list[Bucket]

    @property
    def ended(self) -> int:
        return sum(count for what, count in self.counts.items() if what != RETRIED)

    @property
    def failed(self) -> int:
        return count_failed(self.counts)

    @property
    def finished(self) -> int:
        """Succeeded, failed and dead runs. Cancelled and expired ones are left out."""
        return self.counts[State.SUCCEEDED] + self.failed

    @property
    def failed_attempts(self) -> int:
        return self.failed + self.counts[RETRIED]

    @property
    def attempts(self) -> int:
        return self.finished + self.counts[RETRIED]


def count_failed(counts: Counter[str]) -> int:
    return counts[State.FAILED] + counts[State.DEAD]


def week_start(as_of: datetime) -> datetime:
    """Return midnight (UTC) six days ago, where both a day and an hour of the sums begin."""
    return as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)


def load_task_weeks(tasks: Iterable[str], as_of: datetime) -> dict[str, TaskWeek]:
    since, names = week_start(as_of), list(tasks)
    first = int(since.timestamp())
    starts = range(first, int(as_of.timestamp()) + 1, STEP)
    task_weeks = {task: TaskWeek(since, Counter(), Counter(), Counter(), empty_week(starts)) for task in names}
    if not names:
        return task_weeks
    rows = database.execute_sql(build_sql(len(names)), [first, *names, STEP, STEP, first, *names]).fetchall()
    for task, what, bucket, start, count in rows:
        week = task_weeks[task]
        if what in (WAITED, RAN):
            (week.waited if what == WAITED else week.ran)[bucket] += int(count)
        else:
            week.counts[what] += int(count)
            # Outcomes dated after `as_of`, by a clock that is ahead, count in the last slot.
            week.slots[min((start - first) // STEP, len(week.slots) - 1)].counts[what] += int(count)
    return task_weeks


def empty_week(starts: Iterable[int]) -> list[Bucket]:
    return [Bucket(datetime.fromtimestamp(start, UTC), Counter()) for start in starts]


def build_sql(count: int) -> str:
    param = database.param
    tasks = ", ".join([param] * count)
    table = "FROM dewey_run_counts WHERE span ="
    since = f"AND start >= {param} AND task IN ({tasks})"
    return (
        f"SELECT task, what, bucket, 0, SUM(count) {table} {DAY} AND what IN {sql_literals((WAITED, RAN))} {since}"
        " GROUP BY task, what, bucket"
        f" UNION ALL SELECT task, what, 0, start / {param} * {param}, SUM(count)"
        f" {table} {HOUR} AND what IN {sql_literals(OUTCOMES)} {since} GROUP BY 1, 2, 4"
    )
