"""One command for many runs: the question before it, and the account of it."""

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.display.labels import ngettext_capped
from admin.display.numbers import format_number
from admin.forms.list_filters import read_choice
from admin.operations.bulk import TASK, RunsChanged, select_runs
from admin.operations.registry import ACTIONS, blocking_reason, execute
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from admin.problems import InvalidInput
from admin.search.run_filter import RunFilter
from admin.search.run_query import freeze_relative_times
from admin.search.syntax import format_terms
from engine.control import bulk as bulk_control
from engine.models import ENDED, BulkAction, BulkActionItem, Run

SAMPLE_SIZE = 10
ROWS_PER_PAGE = 30


# --- before --------------------------------------------------------------------------------------------------


@blueprint.get("/bulk/new")
@requires_role("operator")
def bulk_new() -> ResponseReturnValue:
    verb, run_ids = read_choice("verb", list(bulk_control.VERBS)), request.args.getlist("run")
    if run_ids:
        return bulk_question(verb, run_ids=run_ids)
    run_filter = RunFilter()
    if not run_filter.run_query or not run_filter.is_narrowed:
        raise InvalidInput("run", _("tick some runs, or narrow the list down: all runs at once is never meant"))
    return bulk_question(verb, search=format_terms(freeze_relative_times(run_filter.terms, run_filter.as_of)))


def bulk_question(
    verb: str, search: str | None = None, run_ids: list[str] | None = None, changed: int | None = None
) -> str:
    """What a command would be about, and the button that gives it. `changed`: how many runs were shown before."""
    too_many = None
    try:
        preflight = bulk_control.preflight(select_runs(search, run_ids), SAMPLE_SIZE)
    except bulk_control.TooManyItems:
        preflight, too_many = None, bulk_control.MAX_ITEMS
    return render_template(
        "runs/bulk_new.html",
        verb=verb,
        search=search,
        run_ids=run_ids or [],
        preflight=preflight,
        too_many=too_many,
        refused=preflight and sum(count for state, count in preflight.states.items() if not applies_to(verb, state)),
        words=begun_text(verb, preflight.total if preflight else 0),
        allowed=current_actor().may(ACTIONS[f"bulk.{verb}"].role),
        hindrance=blocking_reason("tasks.run", name=TASK),
        changed=changed,
        shown=search and search.rpartition(" before:")[0],
        back=url_for("pages.runs", q=search) if search else url_for("pages.runs"),
    )


def applies_to(verb: str, state: str) -> bool:
    """Whether the command can be done to a run in this state."""
    return (state in ENDED) != (verb == "cancel")


@blueprint.post("/bulk")
@requires_role("operator")
def bulk_begin() -> ResponseReturnValue:
    form = request.form
    verb, search, run_ids = form.get("verb", ""), form.get("search") or None, form.getlist("run") or None
    if verb not in bulk_control.VERBS:
        raise InvalidInput("verb", _("one of %(allowed)s is allowed", allowed=", ".join(bulk_control.VERBS)))
    try:
        bulk_id = execute(
            current_actor(), f"bulk.{verb}", fingerprint=form.get("fingerprint", ""), search=search, runs=run_ids
        )
    except RunsChanged:
        return bulk_question(verb, search, run_ids, changed=whole_number("total", form.get("total", "0"))), 409
    return redirect(url_for("pages.bulk_one", bulk_id=bulk_id), 303)


# --- after ---------------------------------------------------------------------------------------------------


@blueprint.get("/bulk")
@requires_role("viewer")
def bulk_list() -> ResponseReturnValue:
    newest = BulkAction.select().order_by(BulkAction.id.desc()).limit(ROWS_PER_PAGE + 1)
    before = request.args.get("before", "")
    if before:
        newest = newest.where(BulkAction.id < whole_number("before", before))
    rows = list(newest)
    older = rows[ROWS_PER_PAGE - 1].id if len(rows) > ROWS_PER_PAGE else None
    return live_refresh.render_page(
        "runs/bulks.html", title_of=describe_bulk, bulks=rows[:ROWS_PER_PAGE], older=older, first=not before
    )


@blueprint.get("/bulk/<int:bulk_id>")
@requires_role("viewer")
def bulk_one(bulk_id: int) -> ResponseReturnValue:
    bulk = BulkAction.get_or_none(BulkAction.id == bulk_id) or abort(
        404, _("There is no such bulk action, or it is too long ago.")
    )
    state, after = read_choice("state", list(item_tabs())), whole_number("after", request.args.get("after", "0"))
    items = BulkActionItem.select().where((BulkActionItem.bulk_id == bulk_id) & (BulkActionItem.number > after))
    if state != "all":
        items = items.where(BulkActionItem.state.in_(["waiting", "doing"] if state == "waiting" else [state]))
    rows = list(items.order_by(BulkActionItem.number).limit(ROWS_PER_PAGE + 1))
    names = [item.run_id for item in rows]
    return live_refresh.render_page(
        "runs/bulk.html",
        bulk=bulk,
        run=Run.get_or_none(Run.id == bulk.run_id),
        title=describe_bulk(bulk),
        reason=reason_text,
        state=state,
        tabs=item_tabs(),
        items=rows[:ROWS_PER_PAGE],
        runs={run.id: run for run in Run.select().where(Run.id.in_(names))},
        next=rows[ROWS_PER_PAGE - 1].number if len(rows) > ROWS_PER_PAGE else None,
        first=not after,
    )


@blueprint.post("/bulk/<int:bulk_id>/stop")
@requires_role("operator")
def bulk_stop(bulk_id: int) -> ResponseReturnValue:
    execute(current_actor(), "bulk.stop", bulk_id=bulk_id)
    flash(_("What has not been begun is left alone."))
    return redirect(url_for("pages.bulk_one", bulk_id=bulk_id), 303)


def whole_number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise InvalidInput(name, _("a whole number is needed"))
    return int(value)


def begun_text(verb: str, total: int) -> tuple[str, str, str]:
    """The title of the question, its button, and what it comes to."""
    exact = format_number(total)
    match verb:
        case "retry":
            return (
                ngettext_capped("Retry %(count)s run?", "Retry %(count)s runs?", total, count=exact),
                ngettext_capped("Retry %(count)s run", "Retry %(count)s runs", total, count=exact),
                _("Each goes back to its queue under its own id; its attempts go on, its old result is dropped."),
            )
        case "cancel":
            return (
                ngettext_capped("Cancel %(count)s run?", "Cancel %(count)s runs?", total, count=exact),
                ngettext_capped("Cancel %(count)s run", "Cancel %(count)s runs", total, count=exact),
                _("What waits will not run; what runs is interrupted."),
            )
    return (
        ngettext_capped("Delete %(count)s run?", "Delete %(count)s runs?", total, count=exact),
        ngettext_capped("Delete %(count)s run", "Delete %(count)s runs", total, count=exact),
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


def describe_bulk(bulk: BulkAction) -> str:
    """What was asked for, as a title."""
    return {"retry": _("Retry runs"), "cancel": _("Cancel runs"), "delete": _("Delete runs")}[bulk.verb]


def reason_text(code: str) -> str:
    """Why an item was refused, or what is to be said of it."""
    return {
        "asked to stop": _("It was running and has been asked to stop."),
        "not ended": _("It has not ended."),
        "not pending": _("It neither waits nor runs."),
        "not on record": _("It is not on record any more."),
        "unknown task": _("This program has no such task."),
    }.get(code, code)
