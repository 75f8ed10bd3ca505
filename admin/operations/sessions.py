"""Queries and actions for reading sessions."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from flask import abort
from flask_babel import gettext as _
from peewee import Expression, Field, ModelSelect

import tasks
from admin.auth.identity import Actor
from admin.display.labels import short_id
from admin.display.numbers import short_timestamp
from admin.forms.list_filters import ListFilters, read_choice, read_text
from admin.operations.queries import Cursor, Limit, register_query
from admin.operations.registry import ActionResult, register_action
from admin.operations.schemas import Schema
from admin.problems import ConflictError, InvalidInput
from config import settings
from engine.models import Run, now
from engine.search import pagination
from models import AuditEntry, ReadingSession
from reading.session_closers import find_closers
from reading.sessions import close_one

FILTERS: dict[str, Schema] = {
    "state": {"enum": ["active", "abandoned", "closed"]},
    "reader": {"description": "Part of the reader's e-mail address."},
    "book": {"description": "Part of the title or author."},
    "progress": {"enum": ["", "none"], "description": "Only closed sessions without progress."},
    "hours": {"enum": ["", "24", "168"], "description": "Only sessions closed in the last hours."},
    "run": {"description": "Only sessions that this run closed."},
}
CLEANUP = tasks.close_abandoned_sessions.task_class.__name__


class ClosedBy(NamedTuple):
    """A user, token or run. None for a session that its reader ended."""

    kind: str  # run, operator, token, cli
    name: str  # the id of a run


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


@register_query(
    "sessions.list",
    "/sessions",
    filters=FILTERS,
    columns=("id", "email", "title", "started_at", "ended_at", "duration_minutes", "end_position"),
)
def list_sessions(before: Cursor = "", limit: Limit = 30) -> SessionPage:
    """List reading sessions, newest first: active, abandoned or closed ones."""
    filters, queries = read_session_filters(now())
    try:
        page = pagination.fetch_page(
            queries[filters.state], sort_field(filters.state), ReadingSession.id, limit, before
        )
    except pagination.InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error
    return SessionPage(session_rows(page.rows), page.older)


@register_query("sessions.show", "/sessions/{session_id}")
def show_session(session_id: UUID) -> Session:
    """Show a reading session."""
    row = ReadingSession.with_reader_and_book(ReadingSession.id == session_id).first() or abort(
        404, _("No session with this id.")
    )
    return session_rows([row])[0]


def session_rows(rows: Sequence[Any]) -> list[Session]:
    """Return sessions from rows of `ReadingSession.with_reader_and_book`."""
    closers = find_closers(rows)
    return [session_of(row, closers.get(row.id)) for row in rows]


def session_of(row: Any, closer: AuditEntry | Run | None) -> Session:
    return Session(
        id=row.id,
        user_id=row.__data__["user"],
        email=row.email,
        book_id=row.__data__["book"],
        title=row.title,
        author=row.author,
        started_at=row.started_at,
        ended_at=row.ended_at,
        duration_minutes=row.duration_minutes,
        start_position=row.start_position,
        end_position=row.end_position,
        pages_read=row.pages_read,
        device_type=row.device_type,
        is_active=row.is_active,
        closed_by=closed_by(closer),
    )


def closed_by(closer: AuditEntry | Run | None) -> ClosedBy | None:
    if closer is None:
        return None
    return ClosedBy("run", closer.id) if isinstance(closer, Run) else ClosedBy(closer.actor_kind, closer.actor)


@register_action("sessions.close", "operator")
def close_session(actor: Actor, session_id: UUID) -> ActionResult[None]:
    """Close an open reading session of any age."""
    if not close_one(session_id, now()):
        exists = ReadingSession.get_or_none(ReadingSession.id == session_id)
        raise ConflictError(_("This session is already closed.") if exists else _("No session with this id."))
    return ActionResult(target=str(session_id))


def read_session_filters(as_of: datetime) -> tuple[ListFilters, dict[str, "ModelSelect[ReadingSession]"]]:
    """Return the filters of the request, and the filtered query of each list."""
    lists = ReadingSession.list_conditions(as_of, settings.abandoned_after)
    filters = ListFilters(
        "pages.sessions",
        lists,
        reader=read_text("reader"),
        book=read_text("book"),
        progress=read_choice("progress", ["", "none"]),
        hours=read_choice("hours", ["", "24", "168"]),
        hour=read_text("hour"),
        run=read_text("run"),
    )
    lists["closed"] &= closed_conditions(filters, as_of)
    about = ReadingSession.search_conditions(filters.reader, filters.book)
    return filters, {name: ReadingSession.with_reader_and_book(condition, *about) for name, condition in lists.items()}


def sort_field(state: str) -> Field:
    """Return the column that orders the list."""
    return ReadingSession.ended_at if state == "closed" else ReadingSession.started_at


def closed_conditions(filters: ListFilters, as_of: datetime) -> Expression:
    """Return the condition of the filters for closed sessions, and add their chips."""
    condition = ReadingSession.ended_at.is_null(False)
    if filters.progress:
        condition &= ReadingSession.end_position == ReadingSession.start_position
        filters.chip("progress", _("without progress"))
    if filters.hours:
        condition &= ReadingSession.ended_at.between(as_of - timedelta(hours=int(filters.hours)), as_of)
        days = filters.hours == "168"
        filters.chip(
            "hours", _("closed in the last 7 d") if days else _("closed in the last %(hours)s h", hours=filters.hours)
        )
    if filters.hour:
        start = parse_hour(filters.hour)
        condition &= (ReadingSession.ended_at >= start) & (ReadingSession.ended_at < start + timedelta(hours=1))
        filters.chip("hour", _("closed in the hour from %(time)s", time=short_timestamp(start, as_of)))
    if filters.run:
        instant = Run.select(Run.instant_at).where(Run.id == filters.run)
        condition &= ReadingSession.ended_at == instant
        filters.chip("run", _("closed by run %(id)s", id=short_id(filters.run)))
    return condition


def parse_hour(hour: str) -> datetime:
    """Parse an hour such as 2026-11-23T10Z. Raises InvalidInput."""
    try:
        start = datetime.fromisoformat(hour)
    except ValueError:
        start = datetime.min
    if not datetime.min.year < start.year < datetime.max.year:
        raise InvalidInput("hour", _("must be a date or time such as 2026-11-23T10:00"))
    return start if start.tzinfo else start.replace(tzinfo=UTC)
