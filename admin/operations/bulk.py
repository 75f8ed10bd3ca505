"""Queries and actions for bulk actions: one command for many runs."""

from typing import Annotated, Literal, NamedTuple

from flask import abort
from flask_babel import gettext as _
from peewee import ModelSelect

import tasks
from admin.auth.identity import Actor
from admin.display.numbers import format_number
from admin.operations.arguments import JSONList
from admin.operations.queries import Cursor, Limit, register_query
from admin.operations.registry import ActionResult, register_action
from admin.problems import ConflictError, InvalidInput
from admin.search import run_query
from admin.search.syntax import InvalidSearch, parse_search
from engine.control import bulk
from engine.control import runs as run_control
from engine.models import BulkAction, BulkActionItem, Run, now
from engine.search.run_search import all_matching

SAMPLE_SIZE = 10

TASK = "process_bulk"

#: Most ids in one request. Databases limit the number of values in a statement.
MAX_NAMED = 10_000


class Preflight(NamedTuple):
    """The runs that a bulk action would affect. `fingerprint` identifies exactly these runs."""

    total: int
    states: dict[str, int]
    fingerprint: str
    sample: list[Run]


class Bulks(NamedTuple):
    bulks: list[BulkAction]
    next: str | None


class BulkItems(NamedTuple):
    items: list[BulkActionItem]
    next: str | None


@register_query("bulk.preflight", "/bulk/preflight", "operator")
def run_preflight(
    search: Annotated[str, {"maxLength": 500, "description": "Search for the runs, as in the search box."}] = "",
    # An immutable default. The schema is that of a list.
    run: Annotated[list[str], {"description": "Ids of runs, instead of a search."}] = (),  # type: ignore[assignment]
) -> Preflight:
    """Show which runs a bulk action would affect: their number, states and the newest ones."""
    try:
        return Preflight(*bulk.preflight(select_runs(search, list(run)), SAMPLE_SIZE))
    except bulk.TooManyItems as error:
        raise InvalidInput("search", _("must match at most %(most)s runs", most=bulk.MAX_ITEMS)) from error


@register_query(
    "bulk.list", "/bulk", columns=("id", "verb", "total", "done", "refused", "asked_by", "created_at", "ended_at")
)
def list_bulks(before: Cursor = "", limit: Limit = 30) -> Bulks:
    """List bulk actions, newest first."""
    query = BulkAction.select().order_by(BulkAction.id.desc()).limit(limit + 1)
    rows = list(query.where(BulkAction.id < parse_bulk_number("before", before)) if before else query)
    return Bulks(rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None)


@register_query("bulk.show", "/bulk/{bulk_id}")
def show_bulk(bulk_id: int) -> BulkAction:
    """Show a bulk action."""
    return get_bulk(bulk_id)


@register_query("bulk.items", "/bulk/{bulk_id}/items", columns=("number", "run_id", "state", "reason"))
def list_bulk_items(
    bulk_id: int,
    state: Literal["", "waiting", "doing", "done", "refused", "skipped"] = "",
    after: Cursor = "",
    limit: Limit = 30,
) -> BulkItems:
    """List the runs of a bulk action with the result of each."""
    query = BulkActionItem.select().where(BulkActionItem.bulk_id == get_bulk(bulk_id).id)
    query = query.where(BulkActionItem.state == state) if state else query
    query = query.where(BulkActionItem.number > parse_bulk_number("after", after)) if after else query
    rows = list(query.order_by(BulkActionItem.number).limit(limit + 1))
    return BulkItems(rows[:limit], str(rows[limit - 1].number) if len(rows) > limit else None)


def get_bulk(bulk_id: int) -> BulkAction:
    return BulkAction.get_or_none(BulkAction.id == bulk_id) or abort(
        404, _("No bulk action with this id. The history may have removed it.")
    )


def parse_bulk_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(name, _("must be a `next` value of this list"))
    return int(text)


class RunsChanged(ConflictError):
    """The matching runs do not have the given fingerprint. `count`: how many match now."""

    def __init__(self, count: int) -> None:
        super().__init__(
            _(
                "The matching runs have changed since the preflight. Matching now: %(found)s. Repeat the preflight.",
                found=format_number(count),
            )
        )
        self.count = count


def select_runs(search: str | None, run_ids: JSONList | None) -> "ModelSelect[Run]":
    """Return a query for the named runs, or for those of a search. Raises InvalidInput, also without any filter."""
    if run_ids:
        if not all(isinstance(run_id, str) and "\0" not in run_id for run_id in run_ids):
            raise InvalidInput("runs", _("must be a list of ids"))
        if len(run_ids) > MAX_NAMED:
            raise InvalidInput("runs", _("must match at most %(most)s runs", most=format_number(MAX_NAMED)))
        return bulk.by_ids(run_ids)
    try:
        terms = parse_search(search or "")
        query = run_query.build_query(terms, now())
    except InvalidSearch as error:
        raise InvalidInput("search", str(error)) from error
    if all(term.key == "before" for term in terms):
        raise InvalidInput("search", _("must have at least one filter: bulk actions on all runs are not allowed"))
    return all_matching(query)


def begin_bulk(
    actor: Actor, verb: str, fingerprint: str, search: str | None, run_ids: JSONList | None
) -> ActionResult[int]:
    """Store the items and enqueue the task that processes them. Raises RunsChanged and InvalidInput."""
    try:
        bulk_action = bulk.create(
            verb, select_runs(search, run_ids), fingerprint, actor.requester, None if run_ids else search
        )
    except bulk.SelectionChanged as error:
        raise RunsChanged(error.count) from error
    except bulk.TooManyItems as error:
        raise InvalidInput(
            "search", _("must match at most %(most)s runs", most=format_number(bulk.MAX_ITEMS))
        ) from error
    try:
        run = run_control.run_task(tasks.queues, TASK, kwargs={"bulk_id": bulk_action.id}, by=actor.requester)
    except Exception:
        bulk.undo(bulk_action.id)
        raise
    bulk.set_run(bulk_action.id, run.id)
    selection = {"search": search} if bulk_action.search else {"runs": run_ids}
    return ActionResult(
        bulk_action.id, str(bulk_action.id), after={**selection, "count": bulk_action.total, "run": run.id}
    )


@register_action("bulk.retry", "operator", creates=True, in_transaction=False)
def bulk_retry(
    actor: Actor, fingerprint: str, search: str | None = None, runs: JSONList | None = None
) -> ActionResult[int]:
    """Re-queue the runs. `fingerprint` comes from the preflight. Returns the id of the bulk action."""
    return begin_bulk(actor, "retry", fingerprint, search, runs)


@register_action("bulk.cancel", "operator", creates=True, in_transaction=False)
def bulk_cancel(
    actor: Actor, fingerprint: str, search: str | None = None, runs: JSONList | None = None
) -> ActionResult[int]:
    """Cancel the runs. `fingerprint` comes from the preflight. Returns the id of the bulk action."""
    return begin_bulk(actor, "cancel", fingerprint, search, runs)


@register_action("bulk.delete", "admin", danger=True, creates=True, in_transaction=False)
def bulk_delete(
    actor: Actor, fingerprint: str, search: str | None = None, runs: JSONList | None = None
) -> ActionResult[int]:
    """Delete the runs from the history. `fingerprint` comes from the preflight. Returns the id of the bulk action."""
    return begin_bulk(actor, "delete", fingerprint, search, runs)


@register_action("bulk.stop", "operator")
def bulk_stop(actor: Actor, bulk_id: int) -> ActionResult[None]:
    """Stop a bulk action. Runs that it has not begun stay as they are."""
    if not bulk.request_stop(bulk_id, actor.requester):
        raise ConflictError(_("Bulk action %(number)s is not running.", number=bulk_id))
    return ActionResult(target=str(bulk_id))
