"""Bar charts over time, as numbers for a template. Widths are in percent, so text keeps its size."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any, NamedTuple

from flask import url_for
from flask_babel import format_datetime, ngettext
from flask_babel import gettext as _

from admin.display.bars import BarRow
from admin.display.numbers import format_number, zone_name
from admin.i18n import current_zone
from engine.history.run_counts import HOUR, MINUTE, Bucket
from engine.models import State

HEIGHT, TOP, BOTTOM = 168, 14, 24  # pixels: height of the picture, space for labels above and below
FLOOR = HEIGHT - BOTTOM  # bottom of the bars
GAP = 0.22  # share of a bar's width
MIN_PLACES = 12  # with fewer bars the width is not filled
MIN_BAR_HEIGHT = 2  # pixels, so that one among thousands is visible

#: Seconds between labels, and between labels on a narrow page.
LABEL_INTERVALS = {2 * MINUTE: (10 * MINUTE, 20 * MINUTE), HOUR: (3 * HOUR, 6 * HOUR), 4 * HOUR: (24 * HOUR, 48 * HOUR)}


class BarData(NamedTuple):
    """The data of one bar: parts from bottom to top, table row, title and link."""

    start: datetime
    parts: Sequence[tuple[str, int]]  # tone, count
    cells: Sequence[int]
    title: str
    href: str = ""


class Segment(NamedTuple):
    tone: str
    y: float
    height: float


class Bar(NamedTuple):
    start: datetime
    when: str
    title: str
    href: str
    cells: Sequence[int]
    parts: list[Segment]
    x: str
    middle: str
    width: str
    label: str
    spare: bool
    filling: bool


class Label(NamedTuple):
    """A label of the axis. `text` is empty for most bars. `spare` labels are hidden on narrow pages."""

    text: str
    spare: bool


class GridLine(NamedTuple):
    y: float
    value: int


class Chart(NamedTuple):
    name: str
    zone: str  # of all bars; empty if each bar names its own
    columns: Sequence[str]  # of the table, without the time
    bars: list[Bar]
    lines: list[GridLine]
    height: int
    floor: int  # bottom of the bars
    margin: int  # pixels for the numbers of the scale
    total: int


# --- charts --------------------------------------------------------------------------------------------------


def sessions_chart(counts: Iterable[tuple[datetime, int]], as_of: datetime) -> Chart:
    """Return the chart of sessions closed per hour, oldest first."""
    values = [
        BarData(start, [("full", count)], [count], closed_text(count), closed_sessions_url(start, count))
        for start, count in counts
    ]
    return build_chart(_("Sessions closed per hour"), [_("Closed")], values, HOUR, as_of)


def closed_sessions_url(hour: datetime, count: int, **filters: Any) -> str:
    """Return the URL of the sessions closed in this hour; empty if there are none."""
    return url_for("pages.sessions", state="closed", hour=short_utc_hour(hour), **filters) if count else ""


def closed_text(count: int) -> str:
    return ngettext("%(count)s session closed", "%(count)s sessions closed", count, count=format_number(count))


def runs_chart(slots: Iterable[Bucket], step: int, as_of: datetime) -> Chart:
    """Return the chart of runs ended per step. Failures are at the bottom, where bars are easy to compare."""
    names = {2 * MINUTE: _("Runs ended per two minutes"), HOUR: _("Runs ended per hour")}
    name = names.get(step) or _("Runs ended per %(hours)s hours", hours=step // HOUR)
    columns = [_("Succeeded"), _("Failed"), _("Dead"), _("Cancelled, expired")]
    sentence = _("%(good)s succeeded, %(bad)s failed")
    return build_chart(name, columns, [runs_value(slot, step, sentence) for slot in slots], step, as_of)


def runs_value(slot: Bucket, step: int, sentence: str) -> BarData:
    good, failed, dead = (slot.counts[state] for state in (State.SUCCEEDED, State.FAILED, State.DEAD))
    rest = slot.counts[State.CANCELLED] + slot.counts[State.EXPIRED]
    title = sentence % {"good": format_number(good), "bad": format_number(failed + dead)}
    ended = f"ended:{short_utc_hour(slot.start)}..{short_utc_hour(slot.start + timedelta(seconds=step))}"
    href = url_for("pages.runs", q=ended) if good + failed + dead + rest else ""
    return BarData(slot.start, [("bad", failed + dead), ("full", good)], [good, failed, dead, rest], title, href)


def short_utc_hour(minute: datetime) -> str:
    """Return a short ISO form: a page has many of them."""
    return f"{minute:%Y-%m-%dT%H:%MZ}".replace(":00Z", "Z")


# --- drawing -------------------------------------------------------------------------------------------------


class Scale(NamedTuple):
    """Scale of the value axis: a line for each `step` up to `top`."""

    step: int
    top: int

    @property
    def pixels(self) -> float:
        """Return the height of one unit in pixels."""
        return (FLOOR - TOP) / self.top

    def lines(self) -> list[GridLine]:
        return [GridLine(round(FLOOR - value * self.pixels, 1), value) for value in range(0, self.top + 1, self.step)]

    def stack(self, counts: Iterable[tuple[str, int]]) -> list[Segment]:
        """Return the parts of a bar, by tone and count, from the floor upwards."""
        parts, y = [], float(FLOOR)
        for tone, count in counts:
            if count:
                height = max(count * self.pixels, MIN_BAR_HEIGHT)
                y -= height
                parts.append(Segment(tone, round(y, 1), round(height, 1)))
        return parts


def build_chart(
    name: str, columns: Sequence[str], values: Sequence[BarData], step: int, as_of: datetime, at: tzinfo | None = None
) -> Chart:
    """Return the chart. The bar that contains `as_of` is incomplete. Times are in the reader's zone, or `at`."""
    scale = scale_up_to(max((sum(count for _tone, count in value.parts) for value in values), default=0))
    row = BarRow(max(len(values), MIN_PLACES), GAP)
    starts = [value.start.astimezone(at or current_zone()) for value in values]
    zones = {zone_name(start) for start in starts}
    sentences = (_("%(time)s: %(what)s"), _("%(time)s, so far: %(what)s"))
    bars = []
    for place, (value, start, label) in enumerate(zip(values, starts, axis_labels(starts, step), strict=True)):
        filling = value.start <= as_of < value.start + timedelta(seconds=step)
        when = hour_label(start) if step <= HOUR else f"{day_label(start)} {hour_label(start)}"
        in_zone = f"{when} {zone_name(start)}"
        bars.append(
            Bar(
                start=value.start,
                # When clocks go back, an hour occurs twice.
                when=when if len(zones) == 1 else in_zone,
                title=sentences[filling] % {"time": in_zone, "what": value.title},
                href=value.href,
                cells=value.cells,
                parts=scale.stack(value.parts),
                x=row.left(place),
                middle=row.middle(place),
                width=row.width,
                label=label.text,
                spare=label.spare,
                filling=filling,
            )
        )
    shared_zone = zones.pop() if len(zones) == 1 else ""
    margin, total = 10 + 7 * len(format_number(scale.top)), sum(sum(value.cells) for value in values)
    return Chart(name, shared_zone, columns, bars, scale.lines(), HEIGHT, FLOOR, margin, total)


def axis_labels(starts: Sequence[datetime], step: int) -> list[Label]:
    """Return the label of each bar. Few bars have a label each, on narrow pages every second one."""
    seconds, seconds_on_narrow_pages = LABEL_INTERVALS[step]
    if len(starts) < MIN_PLACES:
        wide, narrow = [True] * len(starts), [place % 2 == 0 for place in range(len(starts))]
    else:
        wide, narrow = first_of_each(seconds, starts, step), first_of_each(seconds_on_narrow_pages, starts, step)
    words = day_label if step > HOUR else hour_label
    return [
        Label(words(start) if is_labelled else "", not stays)
        for start, is_labelled, stays in zip(starts, wide, narrow, strict=True)
    ]


def first_of_each(seconds: int, starts: Sequence[datetime], step: int) -> list[bool]:
    """Return the indexes of bars that are the first in each period of this many seconds, in local time."""
    walls = [int(start.timestamp() + (start.utcoffset() or timedelta()).total_seconds()) for start in starts]
    first = walls[0] % seconds < step
    return [first, *(later // seconds != earlier // seconds for earlier, later in pairwise(walls))]


def hour_label(start: datetime) -> str:
    return f"{start:%H:%M}"


def day_label(start: datetime) -> str:
    return str(format_datetime(start, "d MMM", rebase=False))


def scale_up_to(highest: int) -> Scale:
    """Return a round step and the lowest multiple of it that is not below `highest` (two to four steps)."""
    step, factors = 1, (2, 2.5, 2)  # 1, 2, 5, 10, 20, 50 …
    turn = 0
    while step * 4 < highest:
        step = round(step * factors[turn % 3])
        turn += 1
    return Scale(step, step * max(2, -(-highest // step)))
