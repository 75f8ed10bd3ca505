"""Queries and actions for error groups."""

from datetime import datetime
from typing import Literal, NamedTuple

from flask import abort
from flask_babel import gettext as _

from admin.auth.identity import Actor
from admin.operations.queries import Cursor, Limit, register_query
from admin.operations.registry import ActionResult, register_action
from admin.problems import ConflictError, InvalidInput
from engine.history import error_groups as errors
from engine.history.error_stats import ErrorCounts, load_error_counts
from engine.models import Attempt, ErrorGroup, now
from engine.search import pagination

WINDOWS = ("hour", "day", "week", "total")


class ErrorRow(NamedTuple):
    """The columns of a group, with its failures in the last hour, day and week, and in total."""

    id: str
    task: str
    exception: str
    place: str
    code: str
    message: str
    first_seen_at: datetime
    first_version: str | None
    last_seen_at: datetime
    last_version: str | None
    state: str
    resolved_at: datetime | None
    resolved_by: str | None
    regressed_at: datetime | None
    snoozed_until: datetime | None
    snoozed_by: str | None
    hour: int
    day: int
    week: int
    total: int


STATES = ("open", "snoozed", "resolved", "all")
MAX_EXAMPLES = 10


class Errors(NamedTuple):
    errors: list[ErrorRow]
    next: str | None


class ErrorDetails(NamedTuple):
    error: ErrorRow
    examples: list[Attempt]


@register_query(
    "errors.list", "/errors", columns=("id", "state", "task", "exception", "hour", "day", "week", "last_seen_at")
)
def list_errors(
    state: Literal["open", "snoozed", "resolved", "all"] = "open",
    task: str = "",
    before: Cursor = "",
    limit: Limit = 30,
) -> Errors:
    """List error groups, the latest failure first."""
    condition = None if state == "all" else errors.state_filter(state, now())
    query = ErrorGroup.select() if condition is None else ErrorGroup.select().where(condition)
    query = query.where(ErrorGroup.task == task) if task else query
    try:
        page = pagination.fetch_page(query, ErrorGroup.last_seen_at, ErrorGroup.id, limit, before)
    except pagination.InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error
    return Errors(with_counts(page.rows), page.older)


@register_query("errors.show", "/errors/{error_id}")
def show_error(error_id: str) -> ErrorDetails:
    """Show an error group with its latest failures."""
    group = get_error(error_id)
    examples = (
        Attempt.select().where(Attempt.error_group == group.id).order_by(Attempt.ended_at.desc()).limit(MAX_EXAMPLES)
    )
    return ErrorDetails(with_counts([group])[0], list(examples))


def with_counts(groups: list[ErrorGroup]) -> list[ErrorRow]:
    as_of = now()
    counts = load_error_counts([group.id for group in groups], as_of)
    return [ErrorRow(**group.__data__ | error_data(group, counts[group.id], as_of)) for group in groups]


def error_data(group: ErrorGroup, counts: ErrorCounts, as_of: datetime) -> dict[str, object]:
    return {"state": error_state(group, as_of), **{name: getattr(counts, name) for name in WINDOWS}}


@register_action("errors.resolve", "operator")
def resolve_error(actor: Actor, error_id: str) -> ActionResult[None]:
    """Mark an error group as resolved. A new failure reopens it."""
    before = state_for_audit(error_id)
    if not errors.resolve_group(error_id, actor.name):
        raise ConflictError(_("Error group %(id)s is already resolved.", id=error_id))
    return ActionResult(target=error_id, before=before, after={"state": "resolved"})


@register_action("errors.reopen", "operator")
def reopen_error(actor: Actor, error_id: str) -> ActionResult[None]:
    """Reopen a resolved or snoozed error group."""
    before = state_for_audit(error_id)
    if not errors.reopen_group(error_id):
        raise ConflictError(_("Error group %(id)s is already open.", id=error_id))
    return ActionResult(target=error_id, before=before, after={"state": "open"})


@register_action("errors.snooze", "operator")
def snooze_error(actor: Actor, error_id: str, until: datetime) -> ActionResult[None]:
    """Hide an error group from the open ones until a time."""
    if until <= now():
        raise InvalidInput("until", _("must be a time in the future"))
    before = state_for_audit(error_id)
    if not errors.snooze_group(error_id, until, actor.name):
        raise ConflictError(_("Error group %(id)s is resolved. Reopen it before you snooze it.", id=error_id))
    return ActionResult(target=error_id, before=before, after={"snoozed_until": until.isoformat()})


def state_for_audit(error_id: str) -> dict[str, str | None]:
    """Return the state for the audit log. Raises ConflictError without such a group."""
    group = ErrorGroup.get_or_none(ErrorGroup.id == error_id)
    if group is None:
        raise ConflictError(_("No error group with this id."))
    return {"state": group.state, "snoozed_until": group.snoozed_until and group.snoozed_until.isoformat()}


def error_state(group: ErrorGroup, as_of: datetime) -> str:
    """Return `snoozed` until the snooze ends, even if the group is open or regressed."""
    asleep = group.state != "resolved" and group.snoozed_until and group.snoozed_until > as_of
    return "snoozed" if asleep else str(group.state)


def get_error(group_id: str) -> ErrorGroup:
    return ErrorGroup.get_or_none(ErrorGroup.id == group_id) or abort(
        404, _("No error group with this id. The history may have removed it.")
    )
