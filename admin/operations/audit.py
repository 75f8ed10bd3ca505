"""Queries of the audit log."""

from datetime import datetime
from typing import Any, Literal, NamedTuple

from peewee import ModelSelect

from admin.operations.queries import Cursor, Limit, register_query
from admin.operations.schemas import row_data
from admin.problems import InvalidInput
from engine.search import pagination
from models import AuditEntry


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


@register_query("audit.list", "/audit", columns=("at", "source", "actor", "action", "target"))
def list_audit(
    actor: str = "",
    action: str = "",
    target: str = "",
    source: Literal["", "web", "api", "cli"] = "",
    before: Cursor = "",
    limit: Limit = 30,
) -> Audit:
    """List audit entries, newest first."""
    query = audit_entries(actor=actor, action=action, target=target, source=source)
    try:
        page = pagination.fetch_page(query, AuditEntry.at, AuditEntry.id, limit, before)
    except pagination.InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error
    return Audit([AuditLine(*row_data(entry, AuditLine)) for entry in page.rows], page.older)


def audit_entries(**conditions: str | None) -> "ModelSelect[AuditEntry]":
    """Return a query for entries with these column values. An empty value matches any."""
    query = AuditEntry.select()
    for name, value in conditions.items():
        query = query.where(getattr(AuditEntry, name) == value) if value else query
    return query
