"""Every command runs through one function: check the permission, execute, write one audit entry."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from browsers import PEOPLE, empty_queues
from peewee import PeeweeException

import tasks
from admin.audit_log import write_entry
from admin.auth.identity import ROLES, Actor
from admin.operations.arguments import PARSERS
from admin.operations.registry import ACTIONS, execute
from admin.problems import ConflictError, ForbiddenError, InvalidInput
from engine.database import database
from engine.models import Run, now
from models import AuditEntry, Book, Operator, ReadingSession, Token, User


def create_actor(role: str = "admin") -> Actor:
    return Actor("operator", PEOPLE[role], role, "web", "203.0.113.7")


@pytest.fixture
def session(sqlite_database: None) -> ReadingSession:
    user, book = User.create(email="reader@example.org"), Book.create(title="A", author="B")
    return ReadingSession.create(user=user, book=book, started_at=now() - timedelta(minutes=90), start_position=7)


def test_close_by_hand_closes_the_session_and_records_the_actor(session: ReadingSession) -> None:
    execute(create_actor("operator"), "sessions.close", session_id=str(session.id))
    closed = ReadingSession.get_by_id(session.id)
    assert (closed.is_active, closed.duration_minutes, closed.end_position) == (False, 90, 7)
    entry = AuditEntry.get()
    assert (entry.actor_kind, entry.actor, entry.source, entry.address) == (
        "operator", PEOPLE["operator"], "web", "203.0.113.7",
    )  # fmt: skip
    assert (entry.action, entry.target) == ("sessions.close", str(session.id))
    assert now() - entry.at < timedelta(minutes=1)


@pytest.mark.parametrize("again", [True, False])
def test_closed_or_missing_session_is_rejected_without_an_audit_row(session: ReadingSession, again: bool) -> None:
    if again:
        execute(create_actor(), "sessions.close", session_id=session.id)
    before = AuditEntry.select().count()
    with pytest.raises(ConflictError):
        execute(create_actor(), "sessions.close", session_id=session.id if again else uuid4())
    assert AuditEntry.select().count() == before


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("role", ROLES)
def test_action_is_denied_to_a_lower_role(sqlite_database: None, name: str, role: str) -> None:
    if ROLES.index(role) < ROLES.index(ACTIONS[name].role):
        with pytest.raises(ForbiddenError):
            execute(create_actor(role), name)
        (line,) = AuditEntry.select()
        assert (line.action, line.target, line.after) == ("denied", name, {"needed": ACTIONS[name].role, "role": role})
    else:
        assert create_actor(role).may(ACTIONS[name].role)
        assert AuditEntry.select().count() == 0


def test_actions_are_documented_and_take_only_parseable_parameters() -> None:
    for action in ACTIONS.values():
        assert action.doc.endswith(".")
        assert action.role in ROLES
        assert all(parameter.annotation in PARSERS for parameter in action.parameters)


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
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
def test_invalid_argument_is_rejected_by_field(
    sqlite_database: None, name: str, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        execute(create_actor(), name, **arguments)
    assert refusal.value.field == field
    assert (AuditEntry.select().count(), Operator.select().count(), Token.select().count()) == (0, 0, 0)


def test_action_is_rolled_back_when_its_audit_row_cannot_be_written(session: ReadingSession) -> None:
    break_audit()
    with pytest.raises(PeeweeException):
        execute(create_actor(), "sessions.close", session_id=session.id)
    assert ReadingSession.get_by_id(session.id).is_active


def test_run_records_its_requester_when_the_audit_row_cannot_be_written(sqlite_database: None) -> None:
    empty_queues()
    break_audit()
    with pytest.raises(PeeweeException):
        execute(create_actor(), "tasks.run", name="get_cleanup_statistics", arguments={"hours": 2})
    assert tasks.light.storage.messages.count_waiting() == 1
    run = Run.get()
    assert (run.kwargs, run.asked_by_kind, run.asked_by) == ({"hours": 2}, "operator", PEOPLE["admin"])


def test_broker_is_unchanged_while_the_database_is_read_only(sqlite_database: None) -> None:
    tasks.light.storage.pauses.remove("")
    database.execute_sql("PRAGMA query_only = on")
    try:
        with pytest.raises(PeeweeException):
            execute(create_actor(), "queues.pause", queue="light", reason=None)
    finally:
        database.execute_sql("PRAGMA query_only = off")
    assert tasks.light.pauses() == {}


def break_audit() -> None:
    database.execute_sql(
        "CREATE TRIGGER broken BEFORE INSERT ON dewey_audit BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    )


def test_audit_masks_secrets_at_any_depth(sqlite_database: None) -> None:
    arguments = {"book": 1, "apiKey": "k", "nested": [{"Password": "p", "inner": {"access_token": "t", "page": 2}}]}
    write_entry(create_actor(), "sessions.close", after=arguments)
    assert AuditEntry.get().after == {
        "book": 1,
        "apiKey": "***",
        "nested": [{"Password": "***", "inner": {"access_token": "***", "page": 2}}],
    }
