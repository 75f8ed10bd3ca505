"""Bars over time, as numbers that a template draws. Across in percent, so that text keeps its size at any width."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import NamedTuple

from flask import url_for
from flask_babel import format_datetime, ngettext
from flask_babel import gettext as _

from admin.display.numbers import number, zone_name
from admin.i18n import zone
from engine.history.run_counts import HOUR, MINUTE, Slot
from engine.models import State

HEIGHT, TOP, BOTTOM = 168, 14, 24  # pixels: the picture, and what labels take of it above and below
GAP = 0.22  # of a bar's share of the width
WIDEST = 12  # bars fill the width when there are so many; fewer leave room
LEAST = 2  # pixels: one among thousands is still seen

#: Labelled is each so many seconds; each so many are left out on a narrow page.
LABELS = {2 * MINUTE: (10 * MINUTE, 20 * MINUTE), HOUR: (3 * HOUR, 6 * HOUR), 4 * HOUR: (24 * HOUR, 48 * HOUR)}


class Value(NamedTuple):
    """What one bar is about: its parts from the floor upwards, its row in the table, its sentence, where it leads."""

    start: datetime
    parts: Sequence[tuple[str, int]]  # tone, count
    cells: Sequence[int]
    title: str
    href: str = ""


class Part(NamedTuple):
    tone: str
    y: float
    height: float


class Bar(NamedTuple):
    start: datetime
    when: str
    title: str
    href: str
    cells: Sequence[int]
    parts: list[Part]
    x: str
    middle: str
    width: str
    label: str  # empty under most bars
    spare: bool  # a label that a narrow page leaves out
    filling: bool


class Line(NamedTuple):
    y: float
    value: int


class Chart(NamedTuple):
    name: str
    zone: str  # of all bars; empty where the bars name theirs
    columns: Sequence[str]  # of the table, after the time
    bars: list[Bar]
    lines: list[Line]
    height: int
    floor: int  # where the bars stand
    margin: int  # what the numbers beside it take
    total: int


# --- charts --------------------------------------------------------------------------------------------------


def sessions(counts: Iterable[tuple[datetime, int]], as_of: datetime) -> Chart:
    """Sessions closed in each hour, oldest first."""
    values = [
        Value(start, [("full", count)], [count], closed(count), sessions_of(start, count)) for start, count in counts
    ]
    return chart(_("Sessions closed per hour"), [_("Closed")], values, HOUR, as_of)


def sessions_of(hour: datetime, count: int, **more: str) -> str:
    """Where the sessions closed in this hour are; empty where there are none."""
    return url_for("pages.sessions", state="closed", hour=iso(hour), **more) if count else ""


def closed(count: int) -> str:
    return ngettext("%(count)s session closed", "%(count)s sessions closed", count, count=number(count))


def runs(slots: Iterable[Slot], step: int, as_of: datetime) -> Chart:
    """Runs that ended in each step: what failed stands at the floor, where it can be compared."""
    names = {2 * MINUTE: _("Runs ended in each two minutes"), HOUR: _("Runs ended per hour")}
    name = names.get(step) or _("Runs ended in each %(hours)s hours", hours=step // HOUR)
    columns = [_("Succeeded"), _("Failed"), _("Dead"), _("Cancelled, expired")]
    words = _("%(good)s succeeded, %(bad)s failed")
    return chart(name, columns, [ended_in(slot, step, words) for slot in slots], step, as_of)


def ended_in(slot: Slot, step: int, words: str) -> Value:
    good, failed, dead = (slot.counts[state] for state in (State.SUCCEEDED, State.FAILED, State.DEAD))
    others = slot.counts[State.CANCELLED] + slot.counts[State.EXPIRED]
    title = words % {"good": number(good), "bad": number(failed + dead)}
    ended = f"ended:{iso(slot.start)}..{iso(slot.start + timedelta(seconds=step))}"
    href = url_for("pages.runs", q=ended) if good + failed + dead + others else ""
    return Value(slot.start, [("bad", failed + dead), ("full", good)], [good, failed, dead, others], title, href)


def iso(minute: datetime) -> str:
    """As short as may be: a page holds many."""
    return f"{minute:%Y-%m-%dT%H:%MZ}".replace(":00Z", "Z")


# --- drawing -------------------------------------------------------------------------------------------------


def chart(
    name: str, columns: Sequence[str], values: Sequence[Value], step: int, as_of: datetime, at: tzinfo | None = None
) -> Chart:
    """The bar that holds `as_of` is still filling. Times are those of the reader's zone, or `at`."""
    floor = HEIGHT - BOTTOM
    rise, top = scale(max((sum(count for _tone, count in one.parts) for one in values), default=0))
    pixels = (floor - TOP) / top
    share = 100 / max(len(values), WIDEST)
    labelled, wide_apart = LABELS[step]
    sentences = (_("%(time)s: %(what)s"), _("%(time)s, still filling: %(what)s"))
    starts = [one.start.astimezone(at or zone()) for one in values]
    zones = {zone_name(start) for start in starts}
    labels, on_narrow_pages = marked(starts, step, labelled, 1), marked(starts, step, wide_apart, 2)
    bars = []
    for place, (one, start) in enumerate(zip(values, starts, strict=True)):
        filling = one.start <= as_of < one.start + timedelta(seconds=step)
        when = hour_of(start) if step <= HOUR else f"{day_of(start)} {hour_of(start)}"
        in_zone = f"{when} {zone_name(start)}"
        bars.append(
            Bar(
                start=one.start,
                # When the clock is set back, an hour comes twice.
                when=when if len(zones) == 1 else in_zone,
                title=sentences[filling] % {"time": in_zone, "what": one.title},
                href=one.href,
                cells=one.cells,
                parts=stacked(one.parts, pixels, floor),
                x=f"{(place + GAP / 2) * share:.2f}%",
                middle=f"{(place + 0.5) * share:.2f}%",
                width=f"{(1 - GAP) * share:.2f}%",
                label=(day_of if step > HOUR else hour_of)(start) if labels[place] else "",
                spare=not on_narrow_pages[place],
                filling=filling,
            )
        )
    lines = [Line(round(floor - value * pixels, 1), value) for value in range(0, top + 1, rise)]
    total = sum(sum(one.cells) for one in values)
    shared_zone = zones.pop() if len(zones) == 1 else ""
    return Chart(name, shared_zone, columns, bars, lines, HEIGHT, floor, 10 + 7 * len(number(top)), total)


def marked(starts: Sequence[datetime], step: int, seconds: int, each: int) -> list[bool]:
    """Which bars have a label: the first of each `seconds` of the clock on the wall; of so few that there is room, each
    first, second …
    """
    if len(starts) < WIDEST:
        return [place % each == 0 for place in range(len(starts))]
    walls = [int(start.timestamp() + (start.utcoffset() or timedelta()).total_seconds()) for start in starts]
    first = walls[0] % seconds < step
    return [first, *(one // seconds != before // seconds for before, one in pairwise(walls))]


def stacked(parts: Iterable[tuple[str, int]], pixels: float, floor: int) -> list[Part]:
    found, y = [], float(floor)
    for tone, count in parts:
        if count:
            height = max(count * pixels, LEAST)
            y -= height
            found.append(Part(tone, round(y, 1), round(height, 1)))
    return found


def hour_of(start: datetime) -> str:
    return f"{start:%H:%M}"


def day_of(start: datetime) -> str:
    return str(format_datetime(start, "d MMM", rebase=False))


def scale(highest: int) -> tuple[int, int]:
    """A round step, and the multiple of it that is not below `highest`: two to four steps."""
    step, factors = 1, (2, 2.5, 2)  # 1, 2, 5, 10, 20, 50 …
    turn = 0
    while step * 4 < highest:
        step = round(step * factors[turn % 3])
        turn += 1
    return step, step * max(2, -(-highest // step))
