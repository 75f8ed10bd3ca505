"""Find the user or the cleanup run that closed a reading session."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from engine.models import Run
from models import AuditEntry, ReadingSession


def find_closers(sessions: Iterable[ReadingSession]) -> dict[UUID, AuditEntry | Run]:
    """Return what closed each session: the audit entry of an operator, or the cleanup run whose time is its end.

    A session that is missing from the result was ended by its reader.
    """
    closed = {session.id: session.ended_at for session in sessions if session.ended_at and not session.is_active}
    if not closed:
        return {}
    return runs_that_closed(closed) | operators_that_closed(closed)


def runs_that_closed(closed: Mapping[UUID, datetime]) -> dict[UUID, AuditEntry | Run]:
    runs = Run.select(Run.id, Run.task, Run.instant_at).where(Run.instant_at.in_(set(closed.values())))
    by_instant = {run.instant_at: run for run in runs}
    return {session: by_instant[ended_at] for session, ended_at in closed.items() if ended_at in by_instant}


def operators_that_closed(sessions: Iterable[UUID]) -> dict[UUID, AuditEntry | Run]:
    targets = [str(session) for session in sessions]
    by_hand = (AuditEntry.action == "sessions.close") & AuditEntry.target.in_(targets)
    return {UUID(entry.target): entry for entry in AuditEntry.select().where(by_hand)}
