"""What programs ask about people and tokens, and about what was done by whom."""

from datetime import datetime
from typing import Any, Literal, NamedTuple

from admin.people import every_token, with_sign_ins
from admin.problems import BadInput
from admin.reads import Cursor, Limit, read
from engine import paging
from models import AuditEntry, Token


class Person(NamedTuple):
    email: str
    role: str
    created_at: datetime
    disabled_at: datetime | None


class People(NamedTuple):
    operators: list[Person]


class KnownToken(NamedTuple):
    """The token itself is shown once, when it is made."""

    name: str
    role: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


class Tokens(NamedTuple):
    tokens: list[KnownToken]


class AuditLine(NamedTuple):
    id: int
    at: datetime
    actor_kind: str
    actor: str
    source: str
    action: str
    target: str | None
    before: Any
    after: Any
    address: str | None


class Audit(NamedTuple):
    audit: list[AuditLine]
    next: str | None


@read("operators.list", "/operators")
def operators() -> People:
    """Who may sign in, by address."""
    return People([Person(*row_of(one, Person)) for one in with_sign_ins()])


@read("tokens.list", "/tokens")
def tokens() -> Tokens:
    """Tokens for programs, by name; those that are revoked or expired too."""
    return Tokens([KnownToken(*row_of(one, KnownToken)) for one in every_token(Token.name)])


@read("audit.list", "/audit", columns=("at", "source", "actor", "action", "target"))
def audit(
    actor: str = "",
    action: str = "",
    target: str = "",
    source: Literal["", "web", "api", "cli"] = "",
    before: Cursor = "",
    limit: Limit = 30,
) -> Audit:
    """Who did what to which, when and from where; newest first."""
    query = entries(actor=actor, action=action, target=target, source=source)
    try:
        page = paging.page(query, AuditEntry.at, AuditEntry.id, limit, before)
    except paging.BadPage as error:
        raise BadInput("before", str(error)) from error
    return Audit([AuditLine(*row_of(one, AuditLine)) for one in page.rows], page.older)


def entries(**asked: str | None) -> Any:
    """The rows of the audit whose columns are what was asked for; empty stands for any."""
    query = AuditEntry.select()
    for name, value in asked.items():
        query = query.where(getattr(AuditEntry, name) == value) if value else query
    return query


def row_of(record: Any, shape: Any) -> list[Any]:
    """Its columns, those that are nobody's business left out."""
    return [getattr(record, name) for name in shape._fields]
