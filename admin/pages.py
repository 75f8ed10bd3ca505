"""The pages: each asks its questions, and hands the answers to its template."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Blueprint, abort, flash, redirect, request, url_for

import models
import tasks
from admin import attention, charts, live, words
from admin.access import needs
from admin.actions import perform
from admin.filters import Asked, choice, text
from admin.problems import BadInput, Refused, trouble_in_words
from admin.story import kind_of, story
from admin.who import current
from config import QUEUES, settings
from engine import control, inspect, paging
from engine.queues import BrokerAway
from engine.records import Run, State, now
from models import ReadingSession
from reading import sessions as reading

ROWS = 30
SAMPLE = 10
LATEST = 8
CLEANUP = "close_abandoned_sessions"

blueprint = Blueprint("pages", __name__)
blueprint.record_once(lambda setup: words.add_to(setup.app))


# --- overview ------------------------------------------------------------------------------------------------


@blueprint.get("/")
@needs("viewer")
def overview() -> Any:
    as_of = now()
    engine = attention.look(as_of)
    return live.page(
        "overview.html",
        as_of=as_of,
        figures=reading.overview(as_of, settings.abandoned_after),
        chart=charts.hours(reading.closed_per_hour(as_of), as_of),
        runs=Run.recent(LATEST),
        next_cleanup=inspect.next_tick(tasks.queues, CLEANUP, as_of),
        workers=engine.workers,
        queues=engine.queues,
        attention=engine.attention,
        lease=attention.LEASE,
    )


# --- sessions ------------------------------------------------------------------------------------------------


@blueprint.get("/sessions")
@needs("viewer")
def sessions() -> Any:
    as_of = now()
    lists = ReadingSession.lists(as_of, settings.abandoned_after)
    asked = Asked(
        "pages.sessions",
        lists,
        reader=text("reader"),
        book=text("book"),
        progress=choice("progress", ["", "none"]),
        hours=choice("hours", ["", "24"]),
        run=text("run"),
    )
    lists["closed"] &= closed_filter(asked, as_of)
    about = ReadingSession.about(asked.reader, asked.book)
    queries = {name: ReadingSession.browse(condition, *about) for name, condition in lists.items()}
    newest_first = ReadingSession.ended_at if asked.state == "closed" else ReadingSession.started_at
    page = page_of(queries[asked.state], newest_first, ReadingSession.id)
    return live.page(
        "sessions.html",
        as_of=as_of,
        deadline=as_of - settings.abandoned_after,
        abandoned_after=settings.abandoned_after_hours * 3_600_000,
        asked=asked,
        counts=paging.counts(**queries),
        rows=page.rows,
        older=page.older,
        closers=models.closed_by(page.rows),
    )


def closed_filter(asked: Asked, as_of: datetime) -> Any:
    """Which of the closed sessions: without progress, of the last hours, of one run."""
    condition: Any = ReadingSession.ended_at.is_null(False)
    if asked.progress:
        condition &= ReadingSession.end_position == ReadingSession.start_position
        asked.chip("progress", "without progress")
    if asked.hours:
        condition &= ReadingSession.ended_at.between(as_of - timedelta(hours=int(asked.hours)), as_of)
        asked.chip("hours", f"closed in the last {asked.hours} h")
    if asked.run:
        instant = Run.select(Run.instant_at).where(Run.id == asked.run)
        condition &= ReadingSession.ended_at == instant
        asked.chip("run", f"closed by run {words.short(asked.run)}")
    return condition


def page_of(query: Any, newest_first: Any, key: Any) -> paging.Page:
    try:
        return paging.page(query, newest_first, key, ROWS, request.args.get("before", ""))
    except paging.BadPage as error:
        raise BadInput("before", str(error)) from error


@blueprint.get("/sessions/<uuid:session_id>/close")
@needs("operator")
def close_session(session_id: UUID) -> Any:
    session = ReadingSession.browse(ReadingSession.id == session_id).first() or abort(404, "No session has this id.")
    back = request.args.get("back", "")
    return live.page("session_close.html", as_of=now(), session=session, back=back, back_url=sessions_url(back))


@blueprint.post("/sessions/<uuid:session_id>/close")
@needs("operator")
def close_session_now(session_id: UUID) -> Any:
    try:
        perform(current(), "sessions.close", session_id=session_id)
        flash("The session is closed.")
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
        hindrance=hindrance(),
    )


@blueprint.post("/sessions/cleanup")
@needs("operator")
def cleanup_now() -> Any:
    if told := hindrance():
        flash(told, "error")
        return redirect(url_for("pages.cleanup"), 303)
    run = perform(current(), "tasks.run", name=CLEANUP)
    return redirect(url_for("pages.run", run_id=run.id), 303)


def hindrance() -> str | None:
    """Why a cleanup would not start now, in words."""
    try:
        control.check_can_run(tasks.queues, CLEANUP)
    except (control.Paused, control.NoLiveWorker) as error:
        return str(error)
    except BrokerAway as error:
        return trouble_in_words(error)
    return None


# --- runs ----------------------------------------------------------------------------------------------------


@blueprint.get("/runs")
@needs("viewer")
def runs() -> Any:
    names = [task.name for task in inspect.registered(tasks.queues)]
    asked = Asked("pages.runs", ["all", *State], task=text("task"), queue=choice("queue", ["", *QUEUES]))
    everything = Run.select()
    if asked.task:
        everything = everything.where(Run.task == asked.task)
    if asked.queue:
        everything = everything.where(Run.queue == asked.queue)
    queries = {"all": everything, **{str(state): everything.where(Run.state == state) for state in State}}
    page = page_of(queries[asked.state], Run.enqueued_at, Run.id)
    return live.page(
        "runs.html",
        asked=asked,
        counts=paging.counts(**queries),
        runs=page.rows,
        older=page.older,
        task_names=sorted({*names, asked.task} - {""}),
        queue_names=QUEUES,
    )


@blueprint.get("/runs/<run_id>")
@needs("viewer")
def run(run_id: str) -> Any:
    run = Run.get_or_none(Run.id == run_id) or abort(404, "No run has this id, or it is older than the history.")
    attempts = run.history
    failures = [attempt for attempt in reversed(attempts) if attempt.traceback]
    closed = run.instant_at and isinstance(run.result, dict) and run.result.get("closed_count")
    return live.page(
        "run.html",
        run=run,
        story=story(run, attempts),
        failures=failures,
        kind_of=kind_of,
        children=list(Run.select().where(Run.parent_id == run.id).order_by(Run.enqueued_at).limit(20)),
        closed_url=url_for("pages.sessions", state="closed", run=run.id) if closed else None,
    )
