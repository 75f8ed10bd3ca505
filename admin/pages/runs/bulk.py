"""One command for many runs: the question before it, and the account of it."""

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.display.labels import counted
from admin.display.numbers import number
from admin.forms.list_filters import choice
from admin.operations.bulk import TASK, RunsChanged, chosen
from admin.operations.registry import ACTIONS, hindrance, perform
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from admin.problems import BadInput
from admin.search.run_filter import RunFilter
from admin.search.run_query import pinned
from admin.search.syntax import text_of
from engine.control import bulk as bulk_control
from engine.models import ENDED, Bulk, BulkItem, Run

SAMPLE = 10
ROWS = 30


# --- before --------------------------------------------------------------------------------------------------


@blueprint.get("/bulk/new")
@needs("operator")
def bulk_new() -> ResponseReturnValue:
    verb, run_ids = choice("verb", list(bulk_control.VERBS)), request.args.getlist("run")
    if run_ids:
        return question(verb, run_ids=run_ids)
    run_filter = RunFilter()
    if not run_filter.found or not run_filter.narrow:
        raise BadInput("run", _("tick some runs, or narrow the list down: all runs at once is never meant"))
    return question(verb, search=text_of(pinned(run_filter.terms, run_filter.as_of)))


def question(verb: str, search: str | None = None, run_ids: list[str] | None = None, changed: int | None = None) -> str:
    """What a command would be about, and the button that gives it. `changed`: how many runs were shown before."""
    too_many = None
    try:
        preflight = bulk_control.preflight(chosen(search, run_ids), SAMPLE)
    except bulk_control.TooMany:
        preflight, too_many = None, bulk_control.MOST
    return render_template(
        "runs/bulk_new.html",
        verb=verb,
        search=search,
        run_ids=run_ids or [],
        found=preflight,
        too_many=too_many,
        refused=preflight and sum(count for state, count in preflight.states.items() if not fits(verb, state)),
        words=before(verb, preflight.total if preflight else 0),
        allowed=current_actor().may(ACTIONS[f"bulk.{verb}"].role),
        hindrance=hindrance("tasks.run", name=TASK),
        changed=changed,
        shown=search and search.rpartition(" before:")[0],
        back=url_for("pages.runs", q=search) if search else url_for("pages.runs"),
    )


def fits(verb: str, state: str) -> bool:
    """Whether the command can be done to a run in this state."""
    return (state in ENDED) != (verb == "cancel")


@blueprint.post("/bulk")
@needs("operator")
def bulk_begin() -> ResponseReturnValue:
    form = request.form
    verb, search, run_ids = form.get("verb", ""), form.get("search") or None, form.getlist("run") or None
    if verb not in bulk_control.VERBS:
        raise BadInput("verb", _("one of %(allowed)s is allowed", allowed=", ".join(bulk_control.VERBS)))
    try:
        bulk_id = perform(
            current_actor(), f"bulk.{verb}", fingerprint=form.get("fingerprint", ""), search=search, runs=run_ids
        )
    except RunsChanged:
        return question(verb, search, run_ids, changed=whole("total", form.get("total", "0"))), 409
    return redirect(url_for("pages.bulk_one", bulk_id=bulk_id), 303)


# --- after ---------------------------------------------------------------------------------------------------


@blueprint.get("/bulk")
@needs("viewer")
def bulk_list() -> ResponseReturnValue:
    newest = Bulk.select().order_by(Bulk.id.desc()).limit(ROWS + 1)
    before = request.args.get("before", "")
    if before:
        newest = newest.where(Bulk.id < whole("before", before))
    rows = list(newest)
    older = rows[ROWS - 1].id if len(rows) > ROWS else None
    return live_refresh.page(
        "runs/bulks.html", title_of=describe_bulk, bulks=rows[:ROWS], older=older, first=not before
    )


@blueprint.get("/bulk/<int:bulk_id>")
@needs("viewer")
def bulk_one(bulk_id: int) -> ResponseReturnValue:
    bulk = Bulk.get_or_none(Bulk.id == bulk_id) or abort(404, _("There is no such bulk action, or it is too long ago."))
    state, after = choice("state", list(item_tabs())), whole("after", request.args.get("after", "0"))
    items = BulkItem.select().where((BulkItem.bulk_id == bulk_id) & (BulkItem.number > after))
    if state != "all":
        items = items.where(BulkItem.state.in_(["waiting", "doing"] if state == "waiting" else [state]))
    rows = list(items.order_by(BulkItem.number).limit(ROWS + 1))
    names = [item.run_id for item in rows]
    return live_refresh.page(
        "runs/bulk.html",
        bulk=bulk,
        run=Run.get_or_none(Run.id == bulk.run_id),
        title=describe_bulk(bulk),
        reason=reason,
        state=state,
        tabs=item_tabs(),
        items=rows[:ROWS],
        runs={run.id: run for run in Run.select().where(Run.id.in_(names))},
        next=rows[ROWS - 1].number if len(rows) > ROWS else None,
        first=not after,
    )


@blueprint.post("/bulk/<int:bulk_id>/stop")
@needs("operator")
def bulk_stop(bulk_id: int) -> ResponseReturnValue:
    perform(current_actor(), "bulk.stop", bulk_id=bulk_id)
    flash(_("What has not been begun is left alone."))
    return redirect(url_for("pages.bulk_one", bulk_id=bulk_id), 303)


def whole(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise BadInput(name, _("a whole number is needed"))
    return int(value)


def before(verb: str, total: int) -> tuple[str, str, str]:
    """The title of the question, its button, and what it comes to."""
    exact = number(total)
    match verb:
        case "retry":
            return (
                counted("Retry %(count)s run?", "Retry %(count)s runs?", total, count=exact),
                counted("Retry %(count)s run", "Retry %(count)s runs", total, count=exact),
                _("Each goes back to its queue under its own id; its attempts go on, its old result is dropped."),
            )
        case "cancel":
            return (
                counted("Cancel %(count)s run?", "Cancel %(count)s runs?", total, count=exact),
                counted("Cancel %(count)s run", "Cancel %(count)s runs", total, count=exact),
                _("What waits will not run; what runs is interrupted."),
            )
    return (
        counted("Delete %(count)s run?", "Delete %(count)s runs?", total, count=exact),
        counted("Delete %(count)s run", "Delete %(count)s runs", total, count=exact),
        _("They go from the history and from every count, with attempts and log lines. Nobody can bring them back."),
    )


def item_tabs() -> dict[str, str]:
    return {
        "all": _("All"),
        "refused": _("Refused"),
        "done": _("Done"),
        "waiting": _("To do"),
        "skipped": _("Left alone"),
    }


def describe_bulk(bulk: Bulk) -> str:
    """What was asked for, as a title."""
    return {"retry": _("Retry runs"), "cancel": _("Cancel runs"), "delete": _("Delete runs")}[bulk.verb]


def reason(code: str) -> str:
    """Why an item was refused, or what is to be said of it."""
    return {
        "asked to stop": _("It was running and has been asked to stop."),
        "not ended": _("It has not ended."),
        "not pending": _("It neither waits nor runs."),
        "not on record": _("It is not on record any more."),
        "unknown task": _("This program has no such task."),
    }.get(code, code)
