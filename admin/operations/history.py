"""Queries of events that could not be written to the history."""

from typing import NamedTuple

from admin.operations.queries import Cursor, Limit, register_query
from admin.problems import InvalidInput
from engine.models import RejectedEvent
from engine.search import pagination


class RejectedPage(NamedTuple):
    rejected: list[RejectedEvent]
    next: str | None


@register_query("history.rejected", "/history/rejected", columns=("rejected_at", "queue", "run_id", "kind", "reason"))
def list_rejected(queue: str = "", before: Cursor = "", limit: Limit = 30) -> RejectedPage:
    """List events that could not be written to the history, newest first, with reason and content."""
    query = RejectedEvent.select()
    query = query.where(RejectedEvent.queue == queue) if queue else query
    try:
        page = pagination.fetch_page(query, RejectedEvent.rejected_at, RejectedEvent.id, limit, before)
    except pagination.InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error
    return RejectedPage(page.rows, page.older)
