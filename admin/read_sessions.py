"""What programs ask about reading sessions, and the figures over time that the charts show."""

from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from flask import abort
from flask_babel import gettext as _

import models
from admin import overview, session_charts
from admin.problems import BadInput
from admin.reads import Cursor, Limit, read
from admin.sessions import lists_asked, newest_first
from config import settings
from engine import counts, paging
from engine.records import Run, now
from models import ReadingSession
from reading import session_charts as charts
from reading import sessions as reading
from reading.sessions import SessionFigures

FILTERS: dict[str, Any] = {
    "state": {"enum": ["active", "abandoned", "closed"]},
    "reader": {"description": "What the reader's address holds."},
    "book": {"description": "What the title or the author holds."},
    "progress": {"enum": ["", "none"], "description": "Of closed ones: those without progress."},
    "hours": {"enum": ["", "24", "168"], "description": "Of closed ones: those of the last hours."},
    "run": {"description": "Of closed ones: those that this run closed."},
}


class ClosedBy(NamedTuple):
    """A person or a run; a session that its reader ended has neither."""

    kind: str  # run, operator, token, cli
    name: str  # of a run: its id


class Session(NamedTuple):
    id: UUID
    user_id: UUID
    email: str | None
    book_id: UUID
    title: str | None
    author: str | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_minutes: int
    start_position: int
    end_position: int
    pages_read: int
    device_type: str | None
    is_active: bool
    closed_by: ClosedBy | None


class SessionPage(NamedTuple):
    sessions: list[Session]
    next: str | None


@read(
    "sessions.list",
    "/sessions",
    filters=FILTERS,
    columns=("id", "email", "title", "started_at", "ended_at", "duration_minutes", "end_position"),
)
def sessions(before: Cursor = "", limit: Limit = 30) -> SessionPage:
    """Reading sessions, newest first: active, abandoned or closed ones."""
    asked, queries = lists_asked(now())
    try:
        page = paging.page(queries[asked.state], newest_first(asked.state), ReadingSession.id, limit, before)
    except paging.BadPage as error:
        raise BadInput("before", str(error)) from error
    return SessionPage(rows_of(page.rows), page.older)


@read("sessions.show", "/sessions/{session_id}")
def session(session_id: UUID) -> Session:
    """One reading session."""
    found = ReadingSession.browse(ReadingSession.id == session_id).first() or abort(404, _("No session has this id."))
    return rows_of([found])[0]


def rows_of(found: list[Any]) -> list[Session]:
    closers = models.closed_by(found)
    names = [name for name in Session._fields if name not in ("user_id", "book_id", "closed_by")]
    return [
        Session(
            **{name: getattr(one, name, None) for name in names},
            user_id=one.__data__["user"],
            book_id=one.__data__["book"],
            closed_by=closer(closers.get(one.id)),
        )
        for one in found
    ]


def closer(found: Any) -> ClosedBy | None:
    if found is None:
        return None
    return ClosedBy("run", found.id) if isinstance(found, Run) else ClosedBy(found.actor_kind, found.actor)


# --- statistics over time ------------------------------------------------------------------------------------


class Step(NamedTuple):
    """How runs ended from then on, by state; `retried` counts attempts."""

    start: datetime
    counts: dict[str, int]


class RunStatistics(NamedTuple):
    """Durations in ms; each step is `step_seconds` long."""

    hours: int
    step_seconds: int
    steps: list[Step]
    counts: dict[str, int]
    waited: counts.Percentiles | None
    ran: counts.Percentiles | None


class HourOfSessions(NamedTuple):
    """Sessions that ended in the hour from `start` on."""

    start: datetime
    closed: int
    average_minutes: float | None
    no_progress: int


class Cleanup(NamedTuple):
    run_id: str
    instant_at: datetime
    closed_count: int


class Began(NamedTuple):
    """Abandoned sessions by the hour of day (UTC) in which they began, and device."""

    hour: int
    device: str | None
    count: int


class SessionStatistics(NamedTuple):
    """`now` counts those closed in the last 24 hours too."""

    now: SessionFigures
    by_hour: list[HourOfSessions]
    cleanups: list[Cleanup]
    abandoned: list[Began]


@read("statistics.runs", "/statistics/runs")
def run_statistics(hours: Literal[1, 24, 168] = 24) -> RunStatistics:
    """How runs ended, waited and ran over an hour, a day or a week, step by step: the chart of the overview."""
    as_of, window = now(), next(one for one in overview.WINDOWS if one.hours == hours)
    totals = counts.totals(counts.window_start(as_of, hours))
    return RunStatistics(
        hours,
        window.step,
        [Step(one.start, one.counts) for one in overview.slots_of(window, as_of)],
        totals.counts,
        counts.percentiles(totals.waited),
        counts.percentiles(totals.ran),
    )


@read("statistics.sessions", "/statistics/sessions")
def session_statistics() -> SessionStatistics:
    """How sessions ended in the last day: by hour, by cleanup, and when the abandoned ones began."""
    as_of, runs = now(), session_charts.cleanups()
    day = as_of - timedelta(hours=session_charts.HOURS)
    began = charts.abandoned([run.instant_at for run in runs if run.instant_at > day])
    return SessionStatistics(
        reading.overview(as_of, settings.abandoned_after),
        [HourOfSessions(*one) for one in charts.hourly(as_of, session_charts.HOURS)],
        [Cleanup(run.id, run.instant_at, session_charts.closed_by(run)) for run in runs],
        [Began(hour, device or None, count) for (hour, device), count in sorted(began.items())],
    )
