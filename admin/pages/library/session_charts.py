"""How sessions end, in charts with a table beneath each: by run, by hour and device, how long, how far."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from flask import url_for
from flask_babel import gettext as _

from admin.auth.access import needs
from admin.display import bar_chart
from admin.display.bar_chart import Chart, Value
from admin.display.labels import counted
from admin.display.numbers import number, percent
from admin.operations.statistics import HOURS, RUNS, cleanups, closed_by
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from engine.history.run_counts import HOUR
from engine.models import Run, now
from reading import session_stats as reading
from reading.session_stats import Hour

#: No bar of a finished run or of an hour of day is still filling.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
#: Devices that have a colour of their own; the others share the last.
TONES = ("full", "second", "third", "rest")


class Device(NamedTuple):
    """One colour of a chart, and whose it is."""

    name: str
    tone: str


@blueprint.get("/sessions/charts")
@needs("viewer")
def session_charts() -> Any:
    as_of = now()
    runs, hours = cleanups(), reading.hourly(as_of, HOURS)
    instants = [run.instant_at for run in runs if run.instant_at and run.instant_at > as_of - timedelta(hours=HOURS)]
    devices, by_hour = by_hour_and_device(reading.abandoned(instants))
    return live_refresh.page(
        "library/session_charts.html",
        as_of=as_of,
        runs_chart=per_run(runs[-RUNS:]),
        hour_chart=by_hour,
        devices=devices,
        length_chart=lengths(hours, as_of),
        progress_chart=progress(hours, as_of),
    )


def per_run(runs: list[Run]) -> Chart:
    values = []
    for run in runs:
        closed = closed_by(run)
        values.append(
            Value(
                run.instant_at.replace(second=0, microsecond=0),
                [("full", closed)],
                [closed],
                counted("closed %(num)s session", "closed %(num)s sessions", closed),
                url_for("pages.run", run_id=run.id),
            )
        )
    return bar_chart.chart(_("Sessions closed by each run"), [_("Closed")], values, HOUR, NEVER)


def by_hour_and_device(found: Counter[tuple[int, str]]) -> tuple[list[Device], Chart]:
    """The devices with a colour of their own are the most frequent."""
    totals: Counter[str] = Counter()
    for (_began, device), count in found.items():
        totals[device] += count
    frequent = [name for name, _count in totals.most_common(len(TONES) if len(totals) <= len(TONES) else 3)]
    names = [name or _("unknown") for name in frequent] + ([_("others")] if len(totals) > len(frequent) else [])
    values = []
    for began in range(24):
        counts = [found[began, name] for name in frequent]
        if len(names) > len(frequent):
            counts.append(sum(count for (hour, name), count in found.items() if hour == began and name not in frequent))
        values.append(
            Value(
                NEVER + timedelta(hours=began),
                list(zip(TONES, counts, strict=False)),
                counts,
                ", ".join(f"{name} {number(count)}" for name, count in zip(names, counts, strict=True) if count) or "0",
            )
        )
    devices = [Device(name, tone) for name, tone in zip(names, TONES, strict=False)]
    name = _("Abandoned sessions by the hour in which they began, and by device")
    return devices, bar_chart.chart(name, names, values, HOUR, NEVER - timedelta(days=1), UTC)


def lengths(hours: list[Hour], as_of: datetime) -> Chart:
    values = [
        Value(
            one.start,
            [("full", round(one.average or 0))],
            [round(one.average or 0), one.closed],
            _("%(average)s min on average, %(closed)s closed", average=number(one.average), closed=number(one.closed)),
            bar_chart.sessions_of(one.start, one.closed),
        )
        for one in hours
    ]
    return bar_chart.chart(_("Average length per hour"), [_("Minutes"), _("Closed")], values, HOUR, as_of)


def progress(hours: list[Hour], as_of: datetime) -> Chart:
    values = []
    for one in hours:
        share = round(100 * one.no_progress / one.closed) if one.closed else 0
        title = _(
            "%(share)s without progress: %(none)s of %(closed)s",
            share=percent(one.no_progress, one.closed),
            none=number(one.no_progress),
            closed=number(one.closed),
        )
        href = bar_chart.sessions_of(one.start, one.no_progress, progress="none")
        values.append(Value(one.start, [("full", share)], [share, one.no_progress, one.closed], title, href))
    columns = [_("Percent"), _("Without progress"), _("Closed")]
    return bar_chart.chart(_("Share without progress per hour"), columns, values, HOUR, as_of)
