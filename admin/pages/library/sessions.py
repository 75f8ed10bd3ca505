"""The reading sessions: lists, closing one, and the cleanup with its preview."""

from uuid import UUID

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext

import models
import tasks
from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.operations.registry import hindrance, perform, perform_at_once
from admin.operations.sessions import CLEANUP, lists_asked, newest_first
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint, page_of
from admin.problems import Refused
from config import settings
from engine.exceptions import BrokerAway, NoLiveWorker, Paused
from engine.models import now
from engine.monitor import registered_tasks
from engine.search import pagination
from models import ReadingSession
from reading import sessions as reading

SAMPLE = 10

TABS = {"active": lazy_gettext("Active"), "abandoned": lazy_gettext("Abandoned"), "closed": lazy_gettext("Closed")}


@blueprint.get("/sessions")
@needs("viewer")
def sessions() -> ResponseReturnValue:
    as_of = now()
    filters, queries = lists_asked(as_of)
    page = page_of(queries[filters.state], newest_first(filters.state), ReadingSession.id)
    return live_refresh.page(
        "library/sessions.html",
        as_of=as_of,
        deadline=as_of - settings.abandoned_after,
        abandoned_after=settings.abandoned_after_hours * 3_600_000,
        asked=filters,
        tabs=TABS,
        counts=pagination.counts(**queries),
        rows=page.rows,
        older=page.older,
        closers=models.closed_by(page.rows),
        next_cleanup=registered_tasks.next_tick(tasks.queues, CLEANUP, as_of),
    )


@blueprint.get("/sessions/<uuid:session_id>/close")
@needs("operator")
def close_session(session_id: UUID) -> ResponseReturnValue:
    session = ReadingSession.browse(ReadingSession.id == session_id).first() or abort(404, _("No session has this id."))
    back = request.args.get("back", "")
    return live_refresh.page(
        "library/session_close.html", as_of=now(), session=session, back=back, back_url=sessions_url(back)
    )


@blueprint.post("/sessions/<uuid:session_id>/close")
@needs("operator")
def close_session_now(session_id: UUID) -> ResponseReturnValue:
    try:
        perform(current_actor(), "sessions.close", session_id=session_id)
        flash(_("The session is closed."))
    except Refused as error:
        flash(error.description, "error")
    return redirect(sessions_url(request.form.get("back", "")), 303)


def sessions_url(query: str) -> str:
    """The list that a person came from."""
    return url_for("pages.sessions") + (f"?{query}" if query.isprintable() and query else "")


@blueprint.get("/sessions/cleanup")
@needs("viewer")
def cleanup() -> ResponseReturnValue:
    as_of = now()
    abandoned = ReadingSession.abandoned(as_of, settings.abandoned_after)
    oldest_first = (ReadingSession.started_at, ReadingSession.id)
    return live_refresh.page(
        "library/cleanup.html",
        as_of=as_of,
        abandoned=reading.count_abandoned(as_of, settings.abandoned_after),
        abandoned_after=settings.abandoned_after_hours * 3_600_000,
        deadline=as_of - settings.abandoned_after,
        sample=list(ReadingSession.browse(abandoned).order_by(*oldest_first).limit(SAMPLE)),
        next_cleanup=registered_tasks.next_tick(tasks.queues, CLEANUP, as_of),
        hindrance=hindrance("tasks.run", name=CLEANUP),
    )


@blueprint.post("/sessions/cleanup")
@needs("operator")
def cleanup_now() -> ResponseReturnValue:
    try:
        run = perform_at_once(current_actor(), "tasks.run", name=CLEANUP)
    except (Paused, NoLiveWorker, BrokerAway):
        return redirect(url_for("pages.cleanup"), 303)  # which says so
    return redirect(url_for("pages.run", run_id=run.id), 303)
