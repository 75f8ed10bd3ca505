"""What fails: failures that are alike as one line, how often they come, and what was decided about them."""

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
from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.display.bars import share_of
from admin.display.sparkline import ROW, path
from admin.forms import datetimes
from admin.forms.list_filters import Asked, text
from admin.operations.errors import EXAMPLES, STATES, get_error, state_of
from admin.operations.registry import perform
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint, page_of
from admin.pages.runs.run import failure
from admin.problems import BadInput, Refused
from engine.history import error_groups as errors
from engine.history.error_stats import Tally, slot_starts, tallies
from engine.history.task_stats import STEP
from engine.models import Attempt, ErrorGroup, Run, State, now
from engine.monitor import registered_tasks
from engine.search import pagination

LENGTHS = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1), "7d": timedelta(days=7)}
ENDED_BADLY = (State.FAILED, State.DEAD)


class Row(NamedTuple):
    group: ErrorGroup
    state: str
    tally: Tally
    sparkline: str


@blueprint.get("/errors", endpoint="errors")
@needs("viewer")
def error_groups() -> ResponseReturnValue:
    as_of = now()
    filters = Asked("pages.errors", STATES, task=text("task"), q=text("q"))
    queries = {state: groups(state, filters, as_of) for state in STATES}
    page = page_of(queries[filters.state], ErrorGroup.last_seen_at, ErrorGroup.id)
    return live_refresh.page(
        "runs/errors.html",
        as_of=as_of,
        asked=filters,
        tabs=tab_words(),
        counts=pagination.counts(**queries),
        rows=rows_of(page.rows, as_of),
        older=page.older,
        task_names=sorted({*(facts.name for facts in registered_tasks.registered(tasks.queues)), filters.task} - {""}),
    )


def groups(state: str, filters: Asked, as_of: datetime) -> "ModelSelect[ErrorGroup]":
    conditions = [errors.listed(state, as_of)] if state != "all" else []
    conditions += [ErrorGroup.task == filters.task] if filters.task else []
    if filters.q:
        searched = (ErrorGroup.exception, ErrorGroup.message, ErrorGroup.place)
        conditions.append(reduce(or_, (field.contains(filters.q) for field in searched)))
    query = ErrorGroup.select()
    return query.where(*conditions) if conditions else query


def rows_of(groups: list[ErrorGroup], as_of: datetime) -> list[Row]:
    counted = tallies([group.id for group in groups], as_of)
    return [Row(group, state_of(group, as_of), counted[group.id], drawn(counted[group.id].slots)) for group in groups]


def drawn(slots: list[int]) -> str:
    highest = max(slots, default=0)
    return path([share_of(count, highest) for count in slots])


def tab_words() -> dict[str, str]:
    return {"open": pgettext("errors", "Open"), "snoozed": _("Snoozed"), "resolved": _("Resolved"), "all": _("All")}


# --- one of them ---------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """Six hours of the last seven days. `x` and `height` in parts of a hundred."""

    start: datetime
    end: datetime
    failures: int
    x: str
    height: float


@blueprint.get("/errors/<group_id>")
@needs("viewer")
def error(group_id: str) -> ResponseReturnValue:
    return page(get_error(group_id))


def page(group: ErrorGroup, wrong: BadInput | None = None) -> ResponseReturnValue:
    as_of = now()
    tally = tallies([group.id], as_of)[group.id]
    examples = list(
        Attempt.select().where(Attempt.error_group == group.id).order_by(Attempt.ended_at.desc()).limit(EXAMPLES)
    )
    runs = {run.id: run for run in Run.select().where(Run.id.in_({attempt.run_id for attempt in examples}))}
    newest = next((attempt for attempt in examples if attempt.traceback), None)
    to_retry = Run.select().where((Run.error_group == group.id) & Run.state.in_(ENDED_BADLY))
    answer = live_refresh.page(
        "runs/error_group.html",
        as_of=as_of,
        group=group,
        state=state_of(group, as_of),
        tally=tally,
        steps=steps_of(tally, as_of),
        examples=[(attempt, runs.get(attempt.run_id)) for attempt in examples],
        failure=failure(newest, last=True) if newest else None,
        to_retry=pagination.counts(runs=to_retry)["runs"],
        search=f"error:{group.id} state:{','.join(ENDED_BADLY)}",
        lengths=list(LENGTHS),
        wrong=wrong,
        typed=request.form,
        zone=datetimes.zone_name(),
    )
    answer.status_code = 422 if wrong else answer.status_code
    return answer


def steps_of(tally: Tally, as_of: datetime) -> list[Step]:
    highest = max(tally.slots, default=0)
    return [
        Step(start, start + timedelta(seconds=STEP), count, ROW.left(place), 100 * share_of(count, highest))
        for place, (start, count) in enumerate(zip(slot_starts(as_of, tally.slots), tally.slots, strict=True))
        if count > 0
    ]


# --- commands ------------------------------------------------------------------------------------------------


@blueprint.post("/errors/<group_id>/resolve")
@needs("operator")
def error_resolve(group_id: str) -> ResponseReturnValue:
    return perform_and_return(
        group_id, "errors.resolve", _("It is resolved. Should it fail again, it opens by itself.")
    )


@blueprint.post("/errors/<group_id>/reopen")
@blueprint.delete("/errors/<group_id>/snooze", endpoint="error_wake")
@needs("operator")
def error_reopen(group_id: str) -> ResponseReturnValue:
    return perform_and_return(group_id, "errors.reopen", _("It is open."))


@blueprint.post("/errors/<group_id>/snooze")
@needs("operator")
def error_snooze(group_id: str) -> ResponseReturnValue:
    try:
        return perform_and_return(group_id, "errors.snooze", _("It is snoozed."), until=end_typed())
    except BadInput as error:
        return page(get_error(group_id), error)


def end_typed() -> datetime:
    """The moment where one was typed, else so long from now."""
    if at := datetimes.typed("until", request.form.get("until", "")):
        return at
    if length := LENGTHS.get(request.form.get("for", "")):
        return now() + length
    raise BadInput("until", _("a moment or a length is needed"))


def perform_and_return(group_id: str, action: str, message: str, **arguments: object) -> ResponseReturnValue:
    get_error(group_id)
    try:
        perform(current_actor(), action, error_id=group_id, **arguments)
        flash(message)
    except Refused as error:
        flash(str(error.description), "error")
    return redirect(url_for("pages.error", group_id=group_id), 303)
