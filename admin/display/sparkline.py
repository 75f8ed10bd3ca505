"""The last seven days of a task as bars of six hours, in numbers that a template draws."""

from datetime import datetime, timedelta
from typing import NamedTuple

from engine.history.run_counts import RETRIED, Slot
from engine.history.task_stats import DAYS, STEP, Week, failed

BARS = DAYS * 86_400 // STEP
GAP = 0.24  # of a bar's share of the width


class Bar(NamedTuple):
    """Six hours. Heights in parts of the whole: of the runs that ended, and of those among them that failed."""

    start: datetime
    end: datetime
    x: str
    width: str
    ended: int
    failed: int
    height: float
    failed_height: float
    filling: bool


def bars(week: Week, at: datetime) -> list[Bar]:
    """Oldest first, up to now; there is room for those of today that are still to come."""
    most = max((ended_in(slot) for slot in week.slots), default=0)
    return [bar(place, slot, most, at) for place, slot in enumerate(week.slots)]


def bar(place: int, slot: Slot, most: int, at: datetime) -> Bar:
    share, ended, bad = 100 / BARS, ended_in(slot), failed(slot.counts)
    end = slot.start + timedelta(seconds=STEP)
    return Bar(
        start=slot.start,
        end=end,
        x=f"{(place + GAP / 2) * share:.2f}%",
        width=f"{(1 - GAP) * share:.2f}%",
        ended=ended,
        failed=bad,
        height=scaled(ended, most),
        failed_height=scaled(bad, most),
        filling=end > at,
    )


def ended_in(slot: Slot) -> int:
    return sum(count for what, count in slot.counts.items() if what != RETRIED)


def scaled(count: int, most: int) -> float:
    """At least a line where there is anything."""
    return round(max(count / most, 0.08), 3) if count > 0 else 0


class Sparkline(NamedTuple):
    """The same as two paths, for a list of many: in a field of `BARS` by 20."""

    ended: str
    failed: str


def sparkline(drawn: list[Bar]) -> Sparkline:
    return Sparkline(path([one.height for one in drawn]), path([one.failed_height for one in drawn]))


def path(heights: list[float]) -> str:
    return "".join(
        f"M{place + GAP / 2:g} 20v-{20 * height:.3g}h{1 - GAP:g}v{20 * height:.3g}z"
        for place, height in enumerate(heights)
        if height
    )
