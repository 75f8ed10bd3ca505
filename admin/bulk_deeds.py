"""Which runs a bulk action is about, and its beginning."""

from typing import Any

from flask_babel import gettext as _

import tasks
from admin import meaning
from admin.figures import number
from admin.perform import Outcome, action
from admin.problems import BadInput, Refused
from admin.search import BadSearch, parse
from admin.who import Who
from engine import bulk, control
from engine.find import everything
from engine.records import now

TASK = "process_bulk"

#: More ids than this are not taken one by one: no database takes any number of values.
MOST_NAMED = 10_000


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


def chosen(search: str | None, run_ids: list[Any] | None) -> Any:
    """The query for the runs that are named, or that a search finds. Raises BadInput; nothing is not everything."""
    if run_ids:
        if not all(isinstance(one, str) and "\0" not in one for one in run_ids):
            raise BadInput("runs", _("a list of ids is needed"))
        if len(run_ids) > MOST_NAMED:
            raise BadInput("runs", _("at most %(most)s runs are taken at once", most=number(MOST_NAMED)))
        return bulk.ticked(run_ids)
    try:
        terms = parse(search or "")
        wanted = meaning.lookup(terms, now())
    except BadSearch as error:
        raise BadInput("search", str(error)) from error
    if all(term.key == "before" for term in terms):
        raise BadInput("search", _("a search that leaves something out is needed: all runs at once is never meant"))
    return everything(wanted)


def begin(who: Who, verb: str, fingerprint: str, search: str | None, run_ids: list[Any] | None) -> Outcome:
    """Write the items down and enqueue the task that works them off. Raises RunsChanged and BadInput."""
    try:
        begun = bulk.begin(verb, chosen(search, run_ids), fingerprint, who.asker, None if run_ids else search)
    except bulk.Changed as error:
        raise RunsChanged(error.found) from error
    except bulk.TooMany as error:
        raise BadInput("search", _("at most %(most)s runs are taken at once", most=number(bulk.MOST))) from error
    try:
        run = control.run_task(tasks.queues, TASK, kwargs={"bulk_id": begun.id}, by=who.asker)
    except Exception:
        bulk.withdraw(begun.id)
        raise
    bulk.carried_by(begun.id, run.id)
    told = {"search": search} if begun.search else {"runs": run_ids}
    return Outcome(begun.id, str(begun.id), after={**told, "count": begun.total, "run": run.id})


@action("bulk.retry", "operator", makes=True, in_transaction=False)
def bulk_retry(who: Who, fingerprint: str, search: str | None = None, runs: list[Any] | None = None) -> Outcome[int]:
    """Re-queue all these runs; `fingerprint` is that of their preflight. Gives back the number of the bulk action."""
    return begin(who, "retry", fingerprint, search, runs)


@action("bulk.cancel", "operator", makes=True, in_transaction=False)
def bulk_cancel(who: Who, fingerprint: str, search: str | None = None, runs: list[Any] | None = None) -> Outcome[int]:
    """Cancel all these runs; `fingerprint` is that of their preflight. Gives back the number of the bulk action."""
    return begin(who, "cancel", fingerprint, search, runs)


@action("bulk.delete", "admin", danger=True, makes=True, in_transaction=False)
def bulk_delete(who: Who, fingerprint: str, search: str | None = None, runs: list[Any] | None = None) -> Outcome[int]:
    """Remove all these runs from the history; `fingerprint` and what it gives back are as with the others."""
    return begin(who, "delete", fingerprint, search, runs)


@action("bulk.stop", "operator")
def bulk_stop(who: Who, bulk_id: int) -> Outcome[None]:
    """Leave alone what a bulk action has not begun."""
    if not bulk.stop(bulk_id, who.asker):
        raise Refused(_("There is nothing to stop."))
    return Outcome(target=str(bulk_id))
