"""Reading sessions: lists, closing one, and the cleanup with its preview."""

from uuid import UUID

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext

import tasks
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.operations.registry import blocking_reason, execute, execute_if_ready
from admin.operations.sessions import CLEANUP, read_session_filters, sort_field
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint, paginate
from admin.problems import ConflictError
from config import settings
from engine.exceptions import BrokerUnavailable, NoLiveWorker, Paused
from engine.models import now
from engine.monitor import registered_tasks
from engine.search import pagination
from models import ReadingSession
from reading import sessions as reading
from reading.session_closers import find_closers

SAMPLE_SIZE = 10

TABS = {"active": lazy_gettext("Active"), "abandoned": lazy_gettext("Abandoned"), "closed": lazy_gettext("Closed")}


@blueprint.get("/sessions")
@requires_role("viewer")
def sessions() -> ResponseReturnValue:
    as_of = now()
    filters, queries = read_session_filters(as_of)
    page = paginate(queries[filters.state], sort_field(filters.state), ReadingSession.id)
    return live_refresh.render_page(
        "library/sessions.html",
        as_of=as_of,
        deadline=as_of - settings.abandoned_after,
        abandoned_after=settings.abandoned_after_hours * 3_600_000,
        filters=filters,
        tabs=TABS,
        counts=pagination.count_rows(**queries),
        rows=page.rows,
        older=page.older,
        closers=find_closers(page.rows),
        next_cleanup=registered_tasks.next_tick(tasks.queues, CLEANUP, as_of),
    )


@blueprint.get("/sessions/<uuid:session_id>/close")
@requires_role("operator")
def close_session(session_id: UUID) -> ResponseReturnValue:
    session = ReadingSession.with_reader_and_book(ReadingSession.id == session_id).first() or abort(
        404, _("There is no session with this ID.")
    )
    back = request.args.get("back", "")
    return live_refresh.render_page(
        "library/session_close.html", as_of=now(), session=session, back=back, back_url=sessions_url(back)
    )


@blueprint.post("/sessions/<uuid:session_id>/close")
@requires_role("operator")
def close_session_now(session_id: UUID) -> ResponseReturnValue:
    try:
        execute(current_actor(), "sessions.close", session_id=session_id)
        flash(_("Session closed."))
    except ConflictError as error:
        flash(error.description, "error")
    return redirect(sessions_url(request.form.get("back", "")), 303)


def sessions_url(query: str) -> str:
    """Return the URL of the list with the filters that the user came from."""
    return url_for("pages.sessions") + (f"?{query}" if query.isprintable() and query else "")


@blueprint.get("/sessions/cleanup")
@requires_role("viewer")
def cleanup() -> ResponseReturnValue:
    as_of = now()
    abandoned = ReadingSession.abandoned(as_of, settings.abandoned_after)
    oldest_first = (ReadingSession.started_at, ReadingSession.id)
    return live_refresh.render_page(
        "library/cleanup.html",
        as_of=as_of,
        abandoned=reading.count_abandoned(as_of, settings.abandoned_after),
        abandoned_after=settings.abandoned_after_hours * 3_600_000,
        deadline=as_of - settings.abandoned_after,
        sample=list(ReadingSession.with_reader_and_book(abandoned).order_by(*oldest_first).limit(SAMPLE_SIZE)),
        next_cleanup=registered_tasks.next_tick(tasks.queues, CLEANUP, as_of),
        hindrance=blocking_reason("tasks.run", name=CLEANUP),
    )


@blueprint.post("/sessions/cleanup")
@requires_role("operator")
def cleanup_now() -> ResponseReturnValue:
    try:
        run = execute_if_ready(current_actor(), "tasks.run", name=CLEANUP)
    except (Paused, NoLiveWorker, BrokerUnavailable):
        return redirect(url_for("pages.cleanup"), 303)  # that page shows the cause
    return redirect(url_for("pages.run", run_id=run.id), 303)
