"""What can be asked and done of bulk actions: one command for many runs."""

from typing import Annotated, Literal, NamedTuple

from flask import abort
from flask_babel import gettext as _
from peewee import ModelSelect

import tasks
from admin.auth.identity import Who
from admin.display.numbers import number
from admin.operations.arguments import JSONList
from admin.operations.queries import Cursor, Limit, read
from admin.operations.registry import Outcome, action
from admin.problems import BadInput, Refused
from admin.search import run_query
from admin.search.syntax import BadSearch, parse
from engine.control import bulk
from engine.control import runs as run_control
from engine.models import Bulk, BulkItem, Run, now
from engine.search.run_search import everything

SAMPLE = 10

TASK = "process_bulk"

#: More ids than this are not taken one by one: no database takes any number of values.
MOST_NAMED = 10_000


class Preflight(NamedTuple):
    """What a command would be about. `fingerprint` is to be sent with it, and stands for exactly these runs."""

    total: int
    states: dict[str, int]
    fingerprint: str
    sample: list[Run]


class Bulks(NamedTuple):
    bulks: list[Bulk]
    next: str | None


class BulkItems(NamedTuple):
    items: list[BulkItem]
    next: str | None


@read("bulk.preflight", "/bulk/preflight", "operator")
def preflight(
    search: Annotated[str, {"maxLength": 500, "description": "Which runs, as in the search box."}] = "",
    # A default that no call can change; the schema is that of a list.
    run: Annotated[list[str], {"description": "Ids of runs, instead of a search."}] = (),  # type: ignore[assignment]
) -> Preflight:
    """Which runs a bulk action would be about: how many, in which states, and the newest of them."""
    try:
        return Preflight(*bulk.preflight(chosen(search, list(run)), SAMPLE))
    except bulk.TooMany as error:
        raise BadInput("search", _("at most %(most)s runs are taken at once", most=bulk.MOST)) from error


@read("bulk.list", "/bulk", columns=("id", "verb", "total", "done", "refused", "asked_by", "created_at", "ended_at"))
def bulks(before: Cursor = "", limit: Limit = 30) -> Bulks:
    """Bulk actions, newest first."""
    query = Bulk.select().order_by(Bulk.id.desc()).limit(limit + 1)
    rows = list(query.where(Bulk.id < number_of("before", before)) if before else query)
    return Bulks(rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None)


@read("bulk.show", "/bulk/{bulk_id}")
def bulk_one(bulk_id: int) -> Bulk:
    """The account of one bulk action."""
    return get_bulk(bulk_id)


@read("bulk.items", "/bulk/{bulk_id}/items", columns=("number", "run_id", "state", "reason"))
def bulk_items(
    bulk_id: int,
    state: Literal["", "waiting", "doing", "done", "refused", "skipped"] = "",
    after: Cursor = "",
    limit: Limit = 30,
) -> BulkItems:
    """What became of each run of a bulk action."""
    query = BulkItem.select().where(BulkItem.bulk_id == get_bulk(bulk_id).id)
    query = query.where(BulkItem.state == state) if state else query
    query = query.where(BulkItem.number > number_of("after", after)) if after else query
    rows = list(query.order_by(BulkItem.number).limit(limit + 1))
    return BulkItems(rows[:limit], str(rows[limit - 1].number) if len(rows) > limit else None)


def get_bulk(bulk_id: int) -> Bulk:
    return Bulk.get_or_none(Bulk.id == bulk_id) or abort(404, _("There is no such bulk action, or it is too long ago."))


def number_of(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadInput(name, _("this is no place in the list"))
    return int(text)


class RunsChanged(Refused):
    """They are not those of the fingerprint any more. `found`: how many they are now."""

    def __init__(self, found: int) -> None:
        super().__init__(
            _(
                "The runs that match are not those of this fingerprint any more; %(found)s match now.",
                found=number(found),
            )
        )
        self.found = found


def chosen(search: str | None, run_ids: JSONList | None) -> "ModelSelect[Run]":
    """The query for the runs that are named, or that a search finds. Raises BadInput; nothing is not everything."""
    if run_ids:
        if not all(isinstance(run_id, str) and "\0" not in run_id for run_id in run_ids):
            raise BadInput("runs", _("a list of ids is needed"))
        if len(run_ids) > MOST_NAMED:
            raise BadInput("runs", _("at most %(most)s runs are taken at once", most=number(MOST_NAMED)))
        return bulk.ticked(run_ids)
    try:
        terms = parse(search or "")
        query = run_query.lookup(terms, now())
    except BadSearch as error:
        raise BadInput("search", str(error)) from error
    if all(term.key == "before" for term in terms):
        raise BadInput("search", _("a search that leaves something out is needed: all runs at once is never meant"))
    return everything(query)


def begin(actor: Who, verb: str, fingerprint: str, search: str | None, run_ids: JSONList | None) -> Outcome[int]:
    """Write the items down and enqueue the task that works them off. Raises RunsChanged and BadInput."""
    try:
        bulk_action = bulk.begin(verb, chosen(search, run_ids), fingerprint, actor.asker, None if run_ids else search)
    except bulk.Changed as error:
        raise RunsChanged(error.found) from error
    except bulk.TooMany as error:
        raise BadInput("search", _("at most %(most)s runs are taken at once", most=number(bulk.MOST))) from error
    try:
        run = run_control.run_task(tasks.queues, TASK, kwargs={"bulk_id": bulk_action.id}, by=actor.asker)
    except Exception:
        bulk.withdraw(bulk_action.id)
        raise
    bulk.carried_by(bulk_action.id, run.id)
    selection = {"search": search} if bulk_action.search else {"runs": run_ids}
    return Outcome(bulk_action.id, str(bulk_action.id), after={**selection, "count": bulk_action.total, "run": run.id})


@action("bulk.retry", "operator", makes=True, in_transaction=False)
def bulk_retry(actor: Who, fingerprint: str, search: str | None = None, runs: JSONList | None = None) -> Outcome[int]:
    """Re-queue all these runs; `fingerprint` is that of their preflight. Gives back the number of the bulk action."""
    return begin(actor, "retry", fingerprint, search, runs)


@action("bulk.cancel", "operator", makes=True, in_transaction=False)
def bulk_cancel(actor: Who, fingerprint: str, search: str | None = None, runs: JSONList | None = None) -> Outcome[int]:
    """Cancel all these runs; `fingerprint` is that of their preflight. Gives back the number of the bulk action."""
    return begin(actor, "cancel", fingerprint, search, runs)


@action("bulk.delete", "admin", danger=True, makes=True, in_transaction=False)
def bulk_delete(actor: Who, fingerprint: str, search: str | None = None, runs: JSONList | None = None) -> Outcome[int]:
    """Remove all these runs from the history; `fingerprint` and what it gives back are as with the others."""
    return begin(actor, "delete", fingerprint, search, runs)


@action("bulk.stop", "operator")
def bulk_stop(actor: Who, bulk_id: int) -> Outcome[None]:
    """Leave alone what a bulk action has not begun."""
    if not bulk.stop(bulk_id, actor.asker):
        raise Refused(_("There is nothing to stop."))
    return Outcome(target=str(bulk_id))
