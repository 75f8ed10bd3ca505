"""Error groups: the list, one group, resolve, snooze and reopen."""

from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import NamedTuple

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import pgettext
from peewee import ModelSelect

import tasks
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.display.bars import bar_share
from admin.display.sparkline import ROW, area_path
from admin.forms import datetimes
from admin.forms.list_filters import ListFilters, read_text
from admin.operations.errors import MAX_EXAMPLES, STATES, error_state, get_error
from admin.operations.registry import execute
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint, paginate
from admin.pages.runs.run import build_failure
from admin.problems import ConflictError, InvalidInput
from engine.history import error_groups as errors
from engine.history.error_stats import ErrorCounts, load_error_counts, slot_starts
from engine.history.task_stats import STEP
from engine.models import Attempt, ErrorGroup, Run, State, now
from engine.monitor import registered_tasks
from engine.search import pagination

LENGTHS = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1), "7d": timedelta(days=7)}
FAILED_STATES = (State.FAILED, State.DEAD)


class ErrorRow(NamedTuple):
    group: ErrorGroup
    state: str
    tally: ErrorCounts
    sparkline: str


@blueprint.get("/errors", endpoint="errors")
@requires_role("viewer")
def error_groups() -> ResponseReturnValue:
    as_of = now()
    filters = ListFilters("pages.errors", STATES, task=read_text("task"), q=read_text("q"))
    queries = {state: error_rows(state, filters, as_of) for state in STATES}
    page = paginate(queries[filters.state], ErrorGroup.last_seen_at, ErrorGroup.id)
    return live_refresh.render_page(
        "runs/errors.html",
        as_of=as_of,
        filters=filters,
        tabs=tab_labels(),
        counts=pagination.count_rows(**queries),
        rows=build_rows(page.rows, as_of),
        older=page.older,
        task_names=sorted({*(facts.name for facts in registered_tasks.list_tasks(tasks.queues)), filters.task} - {""}),
    )


def error_rows(state: str, filters: ListFilters, as_of: datetime) -> "ModelSelect[ErrorGroup]":
    conditions = [errors.state_filter(state, as_of)] if state != "all" else []
    conditions += [ErrorGroup.task == filters.task] if filters.task else []
    if filters.q:
        searched = (ErrorGroup.exception, ErrorGroup.message, ErrorGroup.place)
        conditions.append(reduce(or_, (field.contains(filters.q) for field in searched)))
    query = ErrorGroup.select()
    return query.where(*conditions) if conditions else query


def build_rows(groups: list[ErrorGroup], as_of: datetime) -> list[ErrorRow]:
    counted = load_error_counts([group.id for group in groups], as_of)
    return [
        ErrorRow(group, error_state(group, as_of), counted[group.id], draw_buckets(counted[group.id].slots))
        for group in groups
    ]


def draw_buckets(slots: list[int]) -> str:
    highest = max(slots, default=0)
    return area_path([bar_share(count, highest) for count in slots])


def tab_labels() -> dict[str, str]:
    return {
        "open": pgettext("errors", "Open"),
        "snoozed": pgettext("errors", "Snoozed"),
        "resolved": pgettext("errors", "Resolved"),
        "all": _("All"),
    }


# --- one of them ---------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A bar for six hours of the last seven days. `x` and `height` in percent."""

    start: datetime
    end: datetime
    failures: int
    x: str
    height: float


@blueprint.get("/errors/<group_id>")
@requires_role("viewer")
def error(group_id: str) -> ResponseReturnValue:
    return error_page(get_error(group_id))


def error_page(group: ErrorGroup, wrong: InvalidInput | None = None) -> ResponseReturnValue:
    as_of = now()
    tally = load_error_counts([group.id], as_of)[group.id]
    examples = list(
        Attempt.select().where(Attempt.error_group == group.id).order_by(Attempt.ended_at.desc()).limit(MAX_EXAMPLES)
    )
    runs = {run.id: run for run in Run.select().where(Run.id.in_({attempt.run_id for attempt in examples}))}
    newest = next((attempt for attempt in examples if attempt.traceback), None)
    to_retry = Run.select().where((Run.error_group == group.id) & Run.state.in_(FAILED_STATES))
    answer = live_refresh.render_page(
        "runs/error_group.html",
        as_of=as_of,
        group=group,
        state=error_state(group, as_of),
        tally=tally,
        steps=chart_steps(tally, as_of),
        examples=[(attempt, runs.get(attempt.run_id)) for attempt in examples],
        failure=build_failure(newest, last=True) if newest else None,
        to_retry=pagination.count_rows(runs=to_retry)["runs"],
        search=f"error:{group.id} state:{','.join(FAILED_STATES)}",
        lengths=list(LENGTHS),
        wrong=wrong,
        typed=request.form,
        zone=datetimes.zone_name(),
    )
    answer.status_code = 422 if wrong else answer.status_code
    return answer


def chart_steps(tally: ErrorCounts, as_of: datetime) -> list[Step]:
    highest = max(tally.slots, default=0)
    return [
        Step(start, start + timedelta(seconds=STEP), count, ROW.left(place), 100 * bar_share(count, highest))
        for place, (start, count) in enumerate(zip(slot_starts(as_of, tally.slots), tally.slots, strict=True))
        if count > 0
    ]


# --- commands ------------------------------------------------------------------------------------------------


@blueprint.post("/errors/<group_id>/resolve")
@requires_role("operator")
def error_resolve(group_id: str) -> ResponseReturnValue:
    return perform_and_return(group_id, "errors.resolve", _("Error resolved. A new failure reopens it."))


@blueprint.post("/errors/<group_id>/reopen")
@blueprint.delete("/errors/<group_id>/snooze", endpoint="error_wake")
@requires_role("operator")
def error_reopen(group_id: str) -> ResponseReturnValue:
    return perform_and_return(group_id, "errors.reopen", _("Error reopened."))


@blueprint.post("/errors/<group_id>/snooze")
@requires_role("operator")
def error_snooze(group_id: str) -> ResponseReturnValue:
    try:
        return perform_and_return(group_id, "errors.snooze", _("Error snoozed."), until=typed_end())
    except InvalidInput as error:
        return error_page(get_error(group_id), error)


def typed_end() -> datetime:
    """Return the typed end: a time, or a duration from now."""
    if at := datetimes.parse_local_datetime("until", request.form.get("until", "")):
        return at
    if length := LENGTHS.get(request.form.get("for", "")):
        return now() + length
    raise InvalidInput("until", _("must be a time or a duration"))


def perform_and_return(group_id: str, action: str, message: str, **arguments: object) -> ResponseReturnValue:
    get_error(group_id)
    try:
        execute(current_actor(), action, error_id=group_id, **arguments)
        flash(message)
    except ConflictError as error:
        flash(str(error.description), "error")
    return redirect(url_for("pages.error", group_id=group_id), 303)
