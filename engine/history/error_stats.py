"""Exact failure counts per error group, from the recorder's counters. One statement for a page."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from engine.database import database
from engine.history.run_counts import (
    DAY,
    ERROR_PREFIX,
    HOUR,
    SpanRange,
    split_window,
    sql_literals,
    union_all,
    window_start,
)
from engine.history.task_stats import STEP, week_start

#: Windows of the counts, in hours back from a full minute.
WINDOWS = {"hour": 1, "day": 24, "week": 168}


class ErrorCounts(NamedTuple):
    """Failed attempts in the last hour, day, week and in all. `slots`: six hours each, since `week_start`."""

    hour: int
    day: int
    week: int
    total: int
    slots: list[int]


def load_error_counts(groups: Iterable[str], as_of: datetime) -> dict[str, ErrorCounts]:
    ids = list(groups)
    if not ids:
        return {}
    first = int(week_start(as_of).timestamp())
    pieces = [
        *((name, piece) for name, hours in WINDOWS.items() for piece in split_window(window_start(as_of, hours), None)),
        ("total", SpanRange(DAY, 0, 2**60)),
    ]
    whats = sql_literals(ERROR_PREFIX + group for group in ids)
    param = database.param
    sums = (
        f"SELECT CAST({param} AS integer), what, SUM(count) FROM dewey_run_counts WHERE span = {param}"
        f" AND what IN {whats} AND start >= {param} AND start < {param} GROUP BY what"
    )
    steps = (
        f"SELECT -1 - (start - {first}) / {STEP}, what, SUM(count) FROM dewey_run_counts WHERE span = {HOUR}"
        f" AND what IN {whats} AND start >= {first} GROUP BY 1, what"
    )
    parameters = [value for number, (_, piece) in enumerate(pieces) for value in (number, *piece)]
    rows = database.execute_sql(union_all([*[sums] * len(pieces), steps]), parameters).fetchall()
    return collected(ids, pieces, rows, (int(as_of.timestamp()) - first) // STEP + 1)


def collected(
    ids: Sequence[str], pieces: Sequence[tuple[str, SpanRange]], rows: Iterable[tuple[int, str, int]], steps: int
) -> dict[str, ErrorCounts]:
    """Build the counts by group. Slots come numbered -1, -2, …. Failures dated in the future count in the last slot."""
    sums = {group: dict.fromkeys([*WINDOWS, "total"], 0) for group in ids}
    slots = {group: [0] * steps for group in ids}
    for number, what, count in rows:
        group = what.removeprefix(ERROR_PREFIX)
        if number < 0:
            slots[group][min(-1 - number, steps - 1)] += int(count)
        else:
            sums[group][pieces[number][0]] += int(count)
    return {group: ErrorCounts(**sums[group], slots=slots[group]) for group in ids}


def slot_starts(as_of: datetime, slots: Sequence[int]) -> list[datetime]:
    first = week_start(as_of)
    return [first + timedelta(seconds=STEP * number) for number in range(len(slots))]
