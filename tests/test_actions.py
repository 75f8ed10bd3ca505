"""The one door for commands: may they → do it → one line in the audit."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from browsers import PEOPLE, empty_queues
from peewee import PeeweeException

import tasks
from admin.audit_log import redacted
from admin.auth.identity import ROLES, Who
from admin.operations.arguments import READERS
from admin.operations.registry import ACTIONS, perform
from admin.problems import BadInput, NotAllowed, Refused
from engine.database import database
from engine.models import Run, now
from models import AuditEntry, Book, Operator, ReadingSession, Token, User


def who(role: str = "admin") -> Who:
    return Who("operator", PEOPLE[role], role, "web", "203.0.113.7")


@pytest.fixture
def session(library: None) -> ReadingSession:
    user, book = User.create(email="reader@example.org"), Book.create(title="A", author="B")
    return ReadingSession.create(user=user, book=book, started_at=now() - timedelta(minutes=90), start_position=7)


def test_closing_by_hand_closes_this_session_and_says_who_did_it(session: ReadingSession) -> None:
    perform(who("operator"), "sessions.close", session_id=str(session.id))
    closed = ReadingSession.get_by_id(session.id)
    assert (closed.is_active, closed.duration_minutes, closed.end_position) == (False, 90, 7)
    entry = AuditEntry.get()
    assert (entry.actor_kind, entry.actor, entry.source, entry.address) == (
        "operator", PEOPLE["operator"], "web", "203.0.113.7",
    )  # fmt: skip
    assert (entry.action, entry.target) == ("sessions.close", str(session.id))
    assert now() - entry.at < timedelta(minutes=1)


@pytest.mark.parametrize("again", [True, False])
def test_what_is_closed_or_not_there_is_refused_without_a_line(session: ReadingSession, again: bool) -> None:
    if again:
        perform(who(), "sessions.close", session_id=session.id)
    before = AuditEntry.select().count()
    with pytest.raises(Refused):
        perform(who(), "sessions.close", session_id=session.id if again else uuid4())
    assert AuditEntry.select().count() == before


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("role", ROLES)
def test_no_action_is_done_for_a_role_that_is_too_low(library: None, name: str, role: str) -> None:
    if ROLES.index(role) < ROLES.index(ACTIONS[name].role):
        with pytest.raises(NotAllowed):
            perform(who(role), name)
        (line,) = AuditEntry.select()
        assert (line.action, line.target, line.after) == ("denied", name, {"needed": ACTIONS[name].role, "role": role})
    else:
        assert who(role).may(ACTIONS[name].role)
        assert AuditEntry.select().count() == 0


def test_every_action_says_what_it_does_and_takes_only_what_it_can_read() -> None:
    for action in ACTIONS.values():
        assert action.doc.endswith(".")
        assert action.role in ROLES
        assert all(parameter.annotation in READERS for parameter in action.parameters)


@pytest.mark.parametrize(
    ("name", "given", "field"),
    [
        ("sessions.close", {}, "session_id"),
        ("sessions.close", {"session_id": "12"}, "session_id"),
        ("sessions.close", {"session_id": 12}, "session_id"),
        ("sessions.close", {"session_id": str(UUID(int=1)), "force": True}, "force"),
        ("tasks.run", {"name": "close_abandoned_sessions", "arguments": [1]}, "arguments"),
        ("tasks.run", {"name": 5}, "name"),
        ("tokens.create", {"name": "x", "role": "viewer", "days": "many"}, "days"),
        ("tokens.create", {"name": "x", "role": "viewer", "days": True}, "days"),
        ("tokens.create", {"name": "x", "role": "Viewer"}, "role"),
        ("tokens.create", {"name": "x\n", "role": "viewer"}, "name"),
        ("operators.create", {"email": "a@b.c", "role": "viewer", "password": 5}, "password"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_name(
    library: None, name: str, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        perform(who(), name, **given)
    assert refusal.value.field == field
    assert (AuditEntry.select().count(), Operator.select().count(), Token.select().count()) == (0, 0, 0)


def test_a_deed_whose_line_cannot_be_written_is_undone(session: ReadingSession) -> None:
    break_audit()
    with pytest.raises(PeeweeException):
        perform(who(), "sessions.close", session_id=session.id)
    assert ReadingSession.get_by_id(session.id).is_active


def test_a_run_whose_line_cannot_be_written_still_tells_who_asked(library: None) -> None:
    empty_queues()
    break_audit()
    with pytest.raises(PeeweeException):
        perform(who(), "tasks.run", name="get_cleanup_statistics", arguments={"hours": 2})
    assert tasks.light.storage.messages.count_waiting() == 1
    run = Run.get()
    assert (run.kwargs, run.asked_by_kind, run.asked_by) == ({"hours": 2}, "operator", PEOPLE["admin"])


def test_nothing_is_done_at_the_broker_while_the_database_takes_no_writes(library: None) -> None:
    tasks.light.storage.pauses.remove("")
    database.execute_sql("PRAGMA query_only = on")
    try:
        with pytest.raises(PeeweeException):
            perform(who(), "queues.pause", queue="light", reason=None)
    finally:
        database.execute_sql("PRAGMA query_only = off")
    assert tasks.light.pauses() == {}


def break_audit() -> None:
    database.execute_sql(
        "CREATE TRIGGER broken BEFORE INSERT ON dewey_audit BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    )


def test_secrets_are_left_out_of_the_audit_however_deep_they_lie(library: None) -> None:
    given = {"book": 1, "apiKey": "k", "nested": [{"Password": "p", "inner": {"access_token": "t", "page": 2}}]}
    assert redacted(given) == {
        "book": 1,
        "apiKey": "***",
        "nested": [{"Password": "***", "inner": {"access_token": "***", "page": 2}}],
    }
