"""The reading sessions: lists, closing one, and the cleanup with its preview."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import abort, flash, redirect, request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext

import models
import tasks
from admin import live
from admin.access import needs
from admin.console import blueprint, page_of
from admin.figures import clock
from admin.filters import Asked, choice, text
from admin.perform import hindrance, perform, perform_at_once
from admin.problems import BadInput, Refused
from admin.who import current
from admin.words import short
from config import settings
from engine import inspect, paging
from engine.control import NoLiveWorker, Paused
from engine.queues import BrokerAway
from engine.records import Run, now
from models import ReadingSession
from reading import sessions as reading

SAMPLE = 10
CLEANUP = tasks.close_abandoned_sessions.task_class.__name__

TABS = {"active": lazy_gettext("Active"), "abandoned": lazy_gettext("Abandoned"), "closed": lazy_gettext("Closed")}


@blueprint.get("/sessions")
@needs("viewer")
def sessions() -> Any:
    as_of = now()
    asked, queries = lists_asked(as_of)
    page = page_of(queries[asked.state], newest_first(asked.state), ReadingSession.id)
    return live.page(
        "sessions.html",
        as_of=as_of,
        deadline=as_of - settings.abandoned_after,
        abandoned_after=settings.abandoned_after_hours * 3_600_000,
        asked=asked,
        tabs=TABS,
        counts=paging.counts(**queries),
        rows=page.rows,
        older=page.older,
        closers=models.closed_by(page.rows),
        next_cleanup=inspect.next_tick(tasks.queues, CLEANUP, as_of),
    )


def lists_asked(as_of: datetime) -> tuple[Asked, dict[str, Any]]:
    """What the address asks for, and the query of each list with its filters."""
    lists = ReadingSession.lists(as_of, settings.abandoned_after)
    asked = Asked(
        "pages.sessions",
        lists,
        reader=text("reader"),
        book=text("book"),
        progress=choice("progress", ["", "none"]),
        hours=choice("hours", ["", "24", "168"]),
        hour=text("hour"),
        run=text("run"),
    )
    lists["closed"] &= closed_filter(asked, as_of)
    about = ReadingSession.about(asked.reader, asked.book)
    return asked, {name: ReadingSession.browse(condition, *about) for name, condition in lists.items()}


def newest_first(state: str) -> Any:
    """The instant that this list is ordered by."""
    return ReadingSession.ended_at if state == "closed" else ReadingSession.started_at


def closed_filter(asked: Asked, as_of: datetime) -> Any:
    """Which of the closed sessions: without progress, of the last hours, of one hour, of one run."""
    condition: Any = ReadingSession.ended_at.is_null(False)
    if asked.progress:
        condition &= ReadingSession.end_position == ReadingSession.start_position
        asked.chip("progress", _("without progress"))
    if asked.hours:
        condition &= ReadingSession.ended_at.between(as_of - timedelta(hours=int(asked.hours)), as_of)
        days = asked.hours == "168"
        asked.chip(
            "hours", _("closed in the last 7 d") if days else _("closed in the last %(hours)s h", hours=asked.hours)
        )
    if asked.hour:
        start = hour_named(asked.hour)
        condition &= (ReadingSession.ended_at >= start) & (ReadingSession.ended_at < start + timedelta(hours=1))
        asked.chip("hour", _("closed in the hour from %(time)s", time=clock(start, as_of)))
    if asked.run:
        instant = Run.select(Run.instant_at).where(Run.id == asked.run)
        condition &= ReadingSession.ended_at == instant
        asked.chip("run", _("closed by run %(id)s", id=short(asked.run)))
    return condition


def hour_named(hour: str) -> datetime:
    """2026-11-23T10Z. Raises BadInput."""
    try:
        start = datetime.fromisoformat(hour)
    except ValueError:
        start = datetime.min
    if not datetime.min.year < start.year < datetime.max.year:
        raise BadInput("hour", _("a date or time such as 2026-11-23T10:00 is needed"))
    return start if start.tzinfo else start.replace(tzinfo=UTC)


@blueprint.get("/sessions/<uuid:session_id>/close")
@needs("operator")
def close_session(session_id: UUID) -> Any:
    session = ReadingSession.browse(ReadingSession.id == session_id).first() or abort(404, _("No session has this id."))
    back = request.args.get("back", "")
    return live.page("session_close.html", as_of=now(), session=session, back=back, back_url=sessions_url(back))


@blueprint.post("/sessions/<uuid:session_id>/close")
@needs("operator")
def close_session_now(session_id: UUID) -> Any:
    try:
        perform(current(), "sessions.close", session_id=session_id)
        flash(_("The session is closed."))
    except Refused as error:
        flash(error.description, "error")
    return redirect(sessions_url(request.form.get("back", "")), 303)


def sessions_url(query: str) -> str:
    """The list that a person came from."""
    return url_for("pages.sessions") + (f"?{query}" if query.isprintable() and query else "")


# --- cleanup -------------------------------------------------------------------------------------------------


@blueprint.get("/sessions/cleanup")
@needs("viewer")
def cleanup() -> Any:
    as_of = now()
    abandoned = ReadingSession.abandoned(as_of, settings.abandoned_after)
    oldest_first = (ReadingSession.started_at, ReadingSession.id)
    return live.page(
        "cleanup.html",
        as_of=as_of,
        abandoned=reading.count_abandoned(as_of, settings.abandoned_after),
        abandoned_after=settings.abandoned_after_hours * 3_600_000,
        deadline=as_of - settings.abandoned_after,
        sample=list(ReadingSession.browse(abandoned).order_by(*oldest_first).limit(SAMPLE)),
        next_cleanup=inspect.next_tick(tasks.queues, CLEANUP, as_of),
        hindrance=hindrance("tasks.run", name=CLEANUP),
    )


@blueprint.post("/sessions/cleanup")
@needs("operator")
def cleanup_now() -> Any:
    try:
        run = perform_at_once(current(), "tasks.run", name=CLEANUP)
    except (Paused, NoLiveWorker, BrokerAway):
        return redirect(url_for("pages.cleanup"), 303)  # which says so
    return redirect(url_for("pages.run", run_id=run.id), 303)
