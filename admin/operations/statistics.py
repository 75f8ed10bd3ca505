"""Figures over time for charts, API and terminal."""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString

from admin.operations.queries import register_query
from admin.operations.sessions import CLEANUP
from config import settings
from engine.history import run_counts
from engine.history.run_counts import HOUR, MINUTE
from engine.models import Run, now
from reading import session_stats as charts
from reading import sessions as reading
from reading.sessions import SessionOverview

HOURS, RUNS = 24, 30


class Step(NamedTuple):
    """Ended runs by state in one step. `retried` counts attempts."""

    start: datetime
    counts: dict[str, int]


class RunStatistics(NamedTuple):
    """Runs over a period. Durations are in ms, each step is `step_seconds` long."""

    hours: int
    step_seconds: int
    steps: list[Step]
    counts: dict[str, int]
    waited: run_counts.Percentiles | None
    ran: run_counts.Percentiles | None


class SessionHour(NamedTuple):
    """Sessions that ended in the hour from `start`."""

    start: datetime
    closed: int
    average_minutes: float | None
    no_progress: int


class Cleanup(NamedTuple):
    run_id: str
    instant_at: datetime
    closed_count: int


class SessionStart(NamedTuple):
    """Abandoned sessions by device and by the hour of day (UTC) in which they began."""

    hour: int
    device: str | None
    count: int  # type: ignore[assignment]  # the JSON key; a tuple has a method of this name


class SessionStatistics(NamedTuple):
    """Sessions over a day. `now` includes those closed in the last 24 hours."""

    now: SessionOverview
    by_hour: list[SessionHour]
    cleanups: list[Cleanup]
    abandoned: list[SessionStart]


@register_query("statistics.runs", "/statistics/runs")
def show_run_statistics(hours: Literal[1, 24, 168] = 24) -> RunStatistics:
    """Show how runs ended, waited and ran over an hour, a day or a week."""
    as_of, window = now(), next(choice for choice in WINDOWS if choice.hours == hours)
    totals = run_counts.load_totals(run_counts.window_start(as_of, hours))
    return RunStatistics(
        hours,
        window.step,
        [Step(bucket.start, bucket.counts) for bucket in window_buckets(window, as_of)],
        totals.counts,
        run_counts.percentiles(totals.waited),
        run_counts.percentiles(totals.ran),
    )


@register_query("statistics.sessions", "/statistics/sessions")
def show_session_statistics() -> SessionStatistics:
    """Show sessions of the last day by hour, by cleanup, and the start hours of abandoned ones."""
    as_of, runs = now(), recent_cleanups()
    day = as_of - timedelta(hours=HOURS)
    began = charts.count_abandoned_at([run.instant_at for run in runs if run.instant_at > day])
    return SessionStatistics(
        reading.load_overview(as_of, settings.abandoned_after),
        [SessionHour(*hour) for hour in charts.load_hourly(as_of, HOURS)],
        [Cleanup(run.id, run.instant_at, sessions_closed_by(run)) for run in runs],
        [SessionStart(hour, device or None, count) for (hour, device), count in sorted(began.items())],
    )


def recent_cleanups() -> list[Run]:
    """Return the last 200 cleanup runs, oldest first."""
    columns = (Run.id, Run.instant_at, Run.enqueued_at, Run.result)
    query = Run.select(*columns).where((Run.task == CLEANUP) & Run.instant_at.is_null(False))
    return list(reversed(query.order_by(Run.enqueued_at.desc(), Run.id.desc()).limit(200)))


def sessions_closed_by(run: Run) -> int:
    count = run.result.get("closed_count") if isinstance(run.result, dict) else None
    return count if isinstance(count, int) else 0


class Window(NamedTuple):
    """`ago`: its name in the search box of runs. `step`: seconds of one bar of its chart."""

    hours: int
    name: LazyString
    long_name: LazyString
    ago: str
    step: int
    bars: int


WINDOWS = (
    Window(1, lazy_gettext("1 h"), lazy_gettext("last hour"), "1h", 2 * MINUTE, 30),
    Window(24, lazy_gettext("24 h"), lazy_gettext("last 24 hours"), "24h", HOUR, 24),
    Window(168, lazy_gettext("7 d"), lazy_gettext("last 7 days"), "7d", 4 * HOUR, 42),
)


def window_buckets(window: Window, as_of: datetime) -> list[run_counts.Bucket]:
    """Return the buckets of a window. The last one contains `as_of`."""
    last = int(as_of.timestamp()) // window.step * window.step
    first = last - window.step * (window.bars - 1)
    return run_counts.load_series(from_timestamp(first), from_timestamp(last), window.step)


def from_timestamp(second: int) -> datetime:
    return datetime.fromtimestamp(second, now().tzinfo)
