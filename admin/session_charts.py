"""How sessions end, in charts with a table beneath each: by run, by hour and device, how long, how far."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from flask import url_for
from flask_babel import gettext as _

from admin import charts, live
from admin.access import needs
from admin.charts import Chart, Value
from admin.console import blueprint
from admin.figures import number, percent
from admin.sessions import CLEANUP
from admin.words import counted
from engine.counts import HOUR
from engine.records import Run, now
from reading import session_charts as reading
from reading.session_charts import Hour

HOURS, RUNS = 24, 30
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
    return live.page(
        "session_charts.html",
        as_of=as_of,
        runs_chart=per_run(runs[-RUNS:]),
        hour_chart=by_hour,
        devices=devices,
        length_chart=lengths(hours, as_of),
        progress_chart=progress(hours, as_of),
    )


def cleanups() -> list[Run]:
    """The runs that closed sessions in the last day or so, oldest first."""
    columns = (Run.id, Run.instant_at, Run.enqueued_at, Run.result)
    asked = Run.select(*columns).where((Run.task == CLEANUP) & Run.instant_at.is_null(False))
    return list(reversed(asked.order_by(Run.enqueued_at.desc(), Run.id.desc()).limit(200)))


def closed_by(run: Run) -> int:
    count = run.result.get("closed_count") if isinstance(run.result, dict) else None
    return count if isinstance(count, int) else 0


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
    return charts.chart(_("Sessions closed by each run"), [_("Closed")], values, HOUR, NEVER)


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
    return devices, charts.chart(name, names, values, HOUR, NEVER - timedelta(days=1), UTC)


def lengths(hours: list[Hour], as_of: datetime) -> Chart:
    values = [
        Value(
            one.start,
            [("full", round(one.average or 0))],
            [round(one.average or 0), one.closed],
            _("%(average)s min on average, %(closed)s closed", average=number(one.average), closed=number(one.closed)),
            charts.sessions_of(one.start, one.closed),
        )
        for one in hours
    ]
    return charts.chart(_("Average length per hour"), [_("Minutes"), _("Closed")], values, HOUR, as_of)


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
        href = charts.sessions_of(one.start, one.no_progress, progress="none")
        values.append(Value(one.start, [("full", share)], [share, one.no_progress, one.closed], title, href))
    columns = [_("Percent"), _("Without progress"), _("Closed")]
    return charts.chart(_("Share without progress per hour"), columns, values, HOUR, as_of)
