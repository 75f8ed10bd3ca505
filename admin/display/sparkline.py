"""Sparklines of the last seven days of a task in bars of six hours, as numbers for a template."""

from datetime import datetime, timedelta
from typing import NamedTuple

from admin.display.bars import BarRow, bar_path, bar_share
from engine.history.run_counts import RETRIED, Bucket
from engine.history.task_stats import DAYS, STEP, TaskWeek, count_failed

BARS = DAYS * 86_400 // STEP
ROW = BarRow(BARS, gap=0.24)
HEIGHT = 20  # width of a bar; its place is 1 wide


class Bar(NamedTuple):
    """A bar of six hours. Heights are shares of the highest bar: ended runs, and failed ones among them."""

    start: datetime
    end: datetime
    x: str
    width: str
    ended: int
    failed: int
    height: float
    failed_height: float
    filling: bool


def week_bars(week: TaskWeek, at: datetime) -> list[Bar]:
    """Return the bars, oldest first, up to now. The rest of today has space left."""
    highest = max((count_ended(slot) for slot in week.slots), default=0)
    return [week_bar(place, slot, highest, at) for place, slot in enumerate(week.slots)]


def week_bar(place: int, slot: Bucket, highest: int, at: datetime) -> Bar:
    ended, failures = count_ended(slot), count_failed(slot.counts)
    end = slot.start + timedelta(seconds=STEP)
    return Bar(
        start=slot.start,
        end=end,
        x=ROW.left(place),
        width=ROW.width,
        ended=ended,
        failed=failures,
        height=bar_share(ended, highest),
        failed_height=bar_share(failures, highest),
        filling=end > at,
    )


def count_ended(slot: Bucket) -> int:
    return sum(count for state, count in slot.counts.items() if state != RETRIED)


class Sparkline(NamedTuple):
    """The bars as two paths in a field of `BARS` by 20, for long lists."""

    ended: str
    failed: str


def build_sparkline(bars: list[Bar]) -> Sparkline:
    return Sparkline(area_path([bar.height for bar in bars]), area_path([bar.failed_height for bar in bars]))


def area_path(heights: list[float]) -> str:
    """Return one path over all bars, whose heights are shares."""
    return "".join(
        bar_path(place + ROW.gap / 2, HEIGHT, 1 - ROW.gap, HEIGHT * height) + "z"
        for place, height in enumerate(heights)
        if height
    )
