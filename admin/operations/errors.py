"""What can be asked and done of errors: failures that are alike, as one group."""

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
    """The columns of a group, and how often it came in the last hour, day and week, and in all."""

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
    """With its latest failures."""

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
    """Groups of failures that are alike, the one that failed last first."""
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
    """One group, with its latest failures."""
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
    """Call a group of errors mended; it opens by itself when it fails again."""
    before = state_for_audit(error_id)
    if not errors.resolve_group(error_id, actor.name):
        raise ConflictError(_("It is resolved already."))
    return ActionResult(target=error_id, before=before, after={"state": "resolved"})


@register_action("errors.reopen", "operator")
def reopen_error(actor: Actor, error_id: str) -> ActionResult[None]:
    """Take back that a group of errors is resolved or snoozed."""
    before = state_for_audit(error_id)
    if not errors.reopen_group(error_id):
        raise ConflictError(_("It is open already."))
    return ActionResult(target=error_id, before=before, after={"state": "open"})


@register_action("errors.snooze", "operator")
def snooze_error(actor: Actor, error_id: str, until: datetime) -> ActionResult[None]:
    """Leave a group of errors out of the open ones until an instant."""
    if until <= now():
        raise InvalidInput("until", _("an instant in the future is needed"))
    before = state_for_audit(error_id)
    if not errors.snooze_group(error_id, until, actor.name):
        raise ConflictError(_("It is resolved, so there is nothing to snooze."))
    return ActionResult(target=error_id, before=before, after={"snoozed_until": until.isoformat()})


def state_for_audit(error_id: str) -> dict[str, str | None]:
    """As the audit keeps it. Raises ConflictError where there is no such group."""
    group = ErrorGroup.get_or_none(ErrorGroup.id == error_id)
    if group is None:
        raise ConflictError(_("There is no such group of errors."))
    return {"state": group.state, "snoozed_until": group.snoozed_until and group.snoozed_until.isoformat()}


def error_state(group: ErrorGroup, as_of: datetime) -> str:
    """Snoozed wins over open and regressed, until its time is up."""
    asleep = group.state != "resolved" and group.snoozed_until and group.snoozed_until > as_of
    return "snoozed" if asleep else str(group.state)


def get_error(group_id: str) -> ErrorGroup:
    return ErrorGroup.get_or_none(ErrorGroup.id == group_id) or abort(
        404, _("There is no such group of errors, or it did not fail for longer than the history is kept.")
    )
