"""Charts of how sessions end, each with a table: by run, by hour and device, by length, by progress."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from flask import url_for
from flask_babel import gettext as _

from admin.auth.access import requires_role
from admin.display import bar_chart
from admin.display.bar_chart import BarData, Chart
from admin.display.labels import ngettext_capped
from admin.display.numbers import format_number, format_percent
from admin.operations.statistics import HOURS, RUNS, recent_cleanups, sessions_closed_by
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from engine.history.run_counts import HOUR
from engine.models import Run, now
from reading import session_stats as reading
from reading.session_stats import HourStats

#: Bars of finished runs and of hours of the day are always complete.
NEVER_READ = datetime(1970, 1, 1, tzinfo=UTC)
#: Number of devices with their own colour. The others share the last colour.
TONES = ("full", "second", "third", "rest")


class Device(NamedTuple):
    """A device and its colour in the chart."""

    name: str
    tone: str


@blueprint.get("/sessions/charts")
@requires_role("viewer")
def session_charts() -> Any:
    as_of = now()
    runs, hours = recent_cleanups(), reading.load_hourly(as_of, HOURS)
    instants = [run.instant_at for run in runs if run.instant_at and run.instant_at > as_of - timedelta(hours=HOURS)]
    devices, by_hour = device_chart(reading.count_abandoned_at(instants))
    return live_refresh.render_page(
        "library/session_charts.html",
        as_of=as_of,
        runs_chart=per_run_chart(runs[-RUNS:]),
        hour_chart=by_hour,
        devices=devices,
        length_chart=length_chart(hours, as_of),
        progress_chart=progress_chart(hours, as_of),
    )


def per_run_chart(runs: list[Run]) -> Chart:
    values = []
    for run in runs:
        closed = sessions_closed_by(run)
        values.append(
            BarData(
                run.instant_at.replace(second=0, microsecond=0),
                [("full", closed)],
                [closed],
                ngettext_capped("closed %(num)s session", "closed %(num)s sessions", closed),
                url_for("pages.run", run_id=run.id),
            )
        )
    return bar_chart.build_chart(_("Sessions closed by each run"), [_("Closed")], values, HOUR, NEVER_READ)


def device_chart(sessions: Counter[tuple[int, str]]) -> tuple[list[Device], Chart]:
    """Return the chart. `sessions`: count by (hour of start, device). Frequent devices have their own colour."""
    frequent = frequent_devices(sessions)
    has_rest = any(device not in frequent for _hour, device in sessions)
    names = [device or _("unknown") for device in frequent] + ([_("others")] if has_rest else [])
    values = []
    for hour in range(24):
        counts = [sessions[hour, device] for device in frequent]
        if has_rest:
            in_hour = sum(count for (began, _device), count in sessions.items() if began == hour)
            counts.append(in_hour - sum(counts))
        title = ", ".join(f"{name} {format_number(count)}" for name, count in zip(names, counts, strict=True) if count)
        values.append(
            BarData(NEVER_READ + timedelta(hours=hour), list(zip(TONES, counts, strict=False)), counts, title or "0")
        )
    chart_name = _("Abandoned sessions by start hour and device")
    devices = [Device(name, tone) for name, tone in zip(names, TONES, strict=False)]
    return devices, bar_chart.build_chart(chart_name, names, values, HOUR, NEVER_READ - timedelta(days=1), UTC)


def frequent_devices(sessions: Counter[tuple[int, str]]) -> list[str]:
    """Return the devices with a column of their own, the most frequent first: all, if there are tones for all."""
    totals: Counter[str] = Counter()
    for (_hour, device), count in sessions.items():
        totals[device] += count
    return [
        device for device, _count in totals.most_common(len(TONES) if len(totals) <= len(TONES) else len(TONES) - 1)
    ]


def length_chart(hours: list[HourStats], as_of: datetime) -> Chart:
    values = [
        BarData(
            hour.start,
            [("full", round(hour.average or 0))],
            [round(hour.average or 0), hour.closed],
            _(
                "%(average)s min on average, %(closed)s closed",
                average=format_number(hour.average),
                closed=format_number(hour.closed),
            ),
            bar_chart.closed_sessions_url(hour.start, hour.closed),
        )
        for hour in hours
    ]
    return bar_chart.build_chart(_("Average length per hour"), [_("Minutes"), _("Closed")], values, HOUR, as_of)


def progress_chart(hours: list[HourStats], as_of: datetime) -> Chart:
    values = []
    for hour in hours:
        share = round(100 * hour.no_progress / hour.closed) if hour.closed else 0
        title = _(
            "%(share)s without progress: %(none)s of %(closed)s",
            share=format_percent(hour.no_progress, hour.closed),
            none=format_number(hour.no_progress),
            closed=format_number(hour.closed),
        )
        href = bar_chart.closed_sessions_url(hour.start, hour.no_progress, progress="none")
        values.append(BarData(hour.start, [("full", share)], [share, hour.no_progress, hour.closed], title, href))
    columns = [_("Percent"), _("Without progress"), _("Closed")]
    return bar_chart.build_chart(_("Share without progress per hour"), columns, values, HOUR, as_of)
