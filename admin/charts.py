"""Bars over hours, as numbers that a template draws. Across in percent, so that text keeps its size at any width."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

HEIGHT, TOP, BOTTOM = 168, 14, 24  # pixels: the picture, and what labels take of it above and below
GAP = 0.22  # of a bar's share of the width


class Bar(NamedTuple):
    start: datetime
    count: int
    x: str
    middle: str
    width: str
    y: float
    height: float
    label: str  # empty under most bars
    spare: bool  # a label that a narrow page leaves out
    filling: bool


class Line(NamedTuple):
    y: float
    value: int


class Chart(NamedTuple):
    bars: list[Bar]
    lines: list[Line]
    height: int
    floor: int  # where the bars stand
    total: int


def hours(counts: Sequence[tuple[datetime, int]], as_of: datetime) -> Chart:
    """One bar per hour, oldest first. The hour that holds `as_of` is still filling."""
    floor = HEIGHT - BOTTOM
    step, top = scale(max((count for _start, count in counts), default=0))
    pixels = (floor - TOP) / top
    share = 100 / max(len(counts), 1)
    bars = []
    for place, (start, count) in enumerate(counts):
        height = round(max(count * pixels, 2 if count else 0), 1)
        bars.append(
            Bar(
                start=start,
                count=count,
                x=f"{(place + GAP / 2) * share:.2f}%",
                middle=f"{(place + 0.5) * share:.2f}%",
                width=f"{(1 - GAP) * share:.2f}%",
                y=round(floor - height, 1),
                height=height,
                label=f"{start:%H:%M}" if start.hour % 3 == 0 else "",
                spare=start.hour % 6 != 0,
                filling=start <= as_of < start + timedelta(hours=1),
            )
        )
    lines = [Line(round(floor - value * pixels, 1), value) for value in range(0, top + 1, step)]
    return Chart(bars, lines, HEIGHT, floor, sum(count for _start, count in counts))


def scale(highest: int) -> tuple[int, int]:
    """A round step, and the multiple of it that is not below `highest`: two to four steps."""
    step, factors = 1, (2, 2.5, 2)  # 1, 2, 5, 10, 20, 50 …
    turn = 0
    while step * 4 < highest:
        step = round(step * factors[turn % 3])
        turn += 1
    return step, step * max(2, -(-highest // step))
