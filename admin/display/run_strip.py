"""Strip of bars for the last runs, as short paths because a page has hundreds of them."""

from datetime import datetime
from math import log10
from typing import NamedTuple

from admin.display.bars import bar_path
from engine.models import Run, State, Tick
from engine.monitor.schedule_history import MAX_RUNS, ScheduleHistory
from engine.queues.ticks import MISSED, PAUSED

#: Height of the field, width of a place and width of its bar.
HEIGHT, PLACE, BAR = 44, 5, 3
MIN_HEIGHT = 8
#: Bars grow with the logarithm of the duration, from the first value. The top is at least the second value.
SHORTEST, LEAST_HIGHEST = 1.0, 1000.0  # milliseconds


class StripBar(NamedTuple):
    """A run, or consecutive ticks without a run. `overlaps`: another run was in progress when this one started."""

    path: str
    state: str
    run: Run | None
    due: datetime | None  # of the first tick
    last: datetime | None
    ticks: int
    drift_ms: float | None
    overlaps: bool

    @property
    def ordinary(self) -> bool:
        """True if the run succeeded on time."""
        return self.state == State.SUCCEEDED and not self.overlaps


class Strip(NamedTuple):
    """Bars, oldest first. `overlap_path`: one path over all overlapping runs, or empty."""

    width: int
    marks: list[StripBar]
    overlap_path: str


def build_strip(past: ScheduleHistory, drifts: dict[str, float], overlapping: set[str], at: datetime) -> Strip:
    """Return the strip. `drifts` and `overlapping` are keyed by run id."""
    entries = merge_runs_and_ticks(past)
    places = max(len(entries), MAX_RUNS)
    highest = max([LEAST_HIGHEST, *(bar_duration(run, at) for run in past.runs)])
    marks, caps = [], ""
    for place, entry in enumerate(entries, places - len(entries)):
        left = place * PLACE + (PLACE - BAR) // 2
        if isinstance(entry, Run):
            height = round(bar_height(bar_duration(entry, at), highest))
            path, overlaps = bar_path(left, HEIGHT, BAR, height), entry.id in overlapping
            caps += f"M{left} 1h{BAR}" if overlaps else ""
            marks.append(StripBar(path, entry.state, entry, None, None, 0, drifts.get(entry.id), overlaps))
        else:
            first, last, path = entry[0], entry[-1], bar_path(left, HEIGHT, BAR, HEIGHT)
            marks.append(StripBar(path, first.state, None, first.due_at, last.due_at, len(entry), None, False))
    return Strip(places * PLACE, marks, caps)


def merge_runs_and_ticks(past: ScheduleHistory) -> list[Run | list[Tick]]:
    """Return runs in the order of enqueuing, and between them the ticks without a run, equal ones merged."""
    full = len(past.runs) == MAX_RUNS
    since = past.runs[-1].enqueued_at if full else None
    in_order: list[tuple[datetime, Run | Tick]] = [(run.enqueued_at, run) for run in past.runs]
    in_order += [
        (tick.due_at, tick)
        for tick in past.ticks
        if tick.state in (MISSED, PAUSED) and (since is None or tick.due_at >= since)
    ]
    in_order.sort(key=lambda entry: entry[0])
    entries: list[Run | list[Tick]] = []
    for _at, entry in in_order:
        if isinstance(entry, Run):
            entries.append(entry)
        elif entries and isinstance(entries[-1], list) and entries[-1][0].state == entry.state:
            entries[-1].append(entry)
        else:
            entries.append([entry])
    return entries


def bar_duration(run: Run, at: datetime) -> float:
    if run.ended_at is None and run.started_at:
        return (at - run.started_at).total_seconds() * 1000
    return run.run_ms or 0


def bar_height(ms: float, highest: float) -> float:
    share = log10(max(ms, SHORTEST) / SHORTEST) / log10(highest / SHORTEST)
    return MIN_HEIGHT + share * (HEIGHT - MIN_HEIGHT)
