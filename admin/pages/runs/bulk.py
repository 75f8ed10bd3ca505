"""Bulk actions: the confirmation before, the list, and the result of each run."""

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
        raise InvalidInput("run", _("must contain at least one run, unless the search has a filter"))
    return bulk_question(verb, search=format_terms(freeze_relative_times(run_filter.terms, run_filter.as_of)))


def bulk_question(
    verb: str, search: str | None = None, run_ids: list[str] | None = None, changed: int | None = None
) -> str:
    """Show the matching runs and the confirm button. `changed`: the number of runs shown before."""
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
    """True if the action applies to a run in this state."""
    return (state in ENDED) != (verb == "cancel")


@blueprint.post("/bulk")
@requires_role("operator")
def bulk_begin() -> ResponseReturnValue:
    form = request.form
    verb, search, run_ids = form.get("verb", ""), form.get("search") or None, form.getlist("run") or None
    if verb not in bulk_control.VERBS:
        raise InvalidInput("verb", _("must be one of %(allowed)s", allowed=", ".join(bulk_control.VERBS)))
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
        404, _("No bulk action with this id. The history may have removed it.")
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
    flash(_("Runs that are still pending are skipped."))
    return redirect(url_for("pages.bulk_one", bulk_id=bulk_id), 303)


def whole_number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise InvalidInput(name, _("must be a whole number"))
    return int(value)


def begun_text(verb: str, total: int) -> tuple[str, str, str]:
    """Return the title of the confirmation, its button and the consequence."""
    exact = format_number(total)
    match verb:
        case "retry":
            return (
                ngettext_capped("Retry %(count)s run?", "Retry %(count)s runs?", total, count=exact),
                ngettext_capped("Retry %(count)s run", "Retry %(count)s runs", total, count=exact),
                _(
                    "Each run returns to its queue with the same ID. "
                    "The attempt count continues and the old result is dropped."
                ),
            )
        case "cancel":
            return (
                ngettext_capped("Cancel %(count)s run?", "Cancel %(count)s runs?", total, count=exact),
                ngettext_capped("Cancel %(count)s run", "Cancel %(count)s runs", total, count=exact),
                _("Waiting runs will not start. Running runs are interrupted."),
            )
    return (
        ngettext_capped("Delete %(count)s run?", "Delete %(count)s runs?", total, count=exact),
        ngettext_capped("Delete %(count)s run", "Delete %(count)s runs", total, count=exact),
        _("The runs are removed from the history with their attempts and log lines. This cannot be undone."),
    )


def item_tabs() -> dict[str, str]:
    return {
        "all": _("All"),
        "refused": _("Refused"),
        "done": _("Done"),
        "waiting": _("Pending"),
        "skipped": _("Skipped"),
    }


def describe_bulk(bulk: BulkAction) -> str:
    """Return the title of a bulk action."""
    return {"retry": _("Retry runs"), "cancel": _("Cancel runs"), "delete": _("Delete runs")}[bulk.verb]


def reason_text(code: str) -> str:
    """Return the reason why an item was refused, or a note about its result."""
    return {
        "asked to stop": _("The run is being interrupted."),
        "not ended": _("The run has not ended."),
        "not pending": _("The run is neither waiting nor running."),
        "not on record": _("The run is no longer in the history."),
        "unknown task": _("This program has no task with this name."),
        "secrets cannot be opened": _("The secret arguments cannot be opened with this SECRET_KEY."),
    }.get(code, code)
