"""What fails: failures that are alike as one line, how often they come, and what was decided about them."""

from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from flask import abort, flash, redirect, request, url_for
from flask_babel import gettext as _
from flask_babel import pgettext
from peewee import ModelSelect

import tasks
from admin import live, moments
from admin.access import needs
from admin.console import blueprint, page_of
from admin.filters import Asked, text
from admin.perform import perform
from admin.problems import BadInput, Refused
from admin.run import failure
from admin.week import BARS, path, scaled
from admin.who import current
from engine import errors, inspect, paging
from engine.error_counts import STEP, Tally, slot_starts, tallies
from engine.records import Attempt, ErrorGroup, Run, State, now

STATES = ("open", "snoozed", "resolved", "all")
EXAMPLES = 10
LENGTHS = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1), "7d": timedelta(days=7)}
ENDED_BADLY = (State.FAILED, State.DEAD)


class Row(NamedTuple):
    group: ErrorGroup
    state: str
    tally: Tally
    sparkline: str


@blueprint.get("/errors", endpoint="errors")
@needs("viewer")
def error_groups() -> Any:
    as_of = now()
    asked = Asked("pages.errors", STATES, task=text("task"), q=text("q"))
    queries = {state: groups(state, asked, as_of) for state in STATES}
    page = page_of(queries[asked.state], ErrorGroup.last_seen_at, ErrorGroup.id)
    return live.page(
        "errors.html",
        as_of=as_of,
        asked=asked,
        tabs=tab_words(),
        counts=paging.counts(**queries),
        rows=rows_of(page.rows, as_of),
        older=page.older,
        task_names=sorted({*(one.name for one in inspect.registered(tasks.queues)), asked.task} - {""}),
    )


def groups(state: str, asked: Asked, as_of: datetime) -> "ModelSelect[ErrorGroup]":
    conditions = [errors.listed(state, as_of)] if state != "all" else []
    conditions += [ErrorGroup.task == asked.task] if asked.task else []
    if asked.q:
        told = (ErrorGroup.exception, ErrorGroup.message, ErrorGroup.place)
        conditions.append(reduce(or_, (field.contains(asked.q) for field in told)))
    query = ErrorGroup.select()
    return query.where(*conditions) if conditions else query


def rows_of(groups: list[ErrorGroup], as_of: datetime) -> list[Row]:
    counted = tallies([one.id for one in groups], as_of)
    return [Row(one, state_of(one, as_of), counted[one.id], drawn(counted[one.id].slots)) for one in groups]


def state_of(group: ErrorGroup, as_of: datetime) -> str:
    """Snoozed wins over open and regressed, until its time is up."""
    asleep = group.state != "resolved" and group.snoozed_until and group.snoozed_until > as_of
    return "snoozed" if asleep else str(group.state)


def drawn(slots: list[int]) -> str:
    most = max(slots, default=0)
    return path([scaled(count, most) for count in slots])


def tab_words() -> dict[str, str]:
    return {"open": pgettext("errors", "Open"), "snoozed": _("Snoozed"), "resolved": _("Resolved"), "all": _("All")}


# --- one of them ---------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """Six hours of the last seven days. `x` and `height` in parts of a hundred."""

    start: datetime
    end: datetime
    count: int
    x: str
    height: float


@blueprint.get("/errors/<group_id>")
@needs("viewer")
def error(group_id: str) -> Any:
    return page(known(group_id))


def page(group: ErrorGroup, wrong: BadInput | None = None) -> Any:
    as_of = now()
    tally = tallies([group.id], as_of)[group.id]
    examples = list(
        Attempt.select().where(Attempt.error_group == group.id).order_by(Attempt.ended_at.desc()).limit(EXAMPLES)
    )
    runs = {run.id: run for run in Run.select().where(Run.id.in_({one.run_id for one in examples}))}
    told = next((one for one in examples if one.traceback), None)
    to_retry = Run.select().where((Run.error_group == group.id) & Run.state.in_(ENDED_BADLY))
    answer = live.page(
        "error_group.html",
        as_of=as_of,
        group=group,
        state=state_of(group, as_of),
        tally=tally,
        steps=steps_of(tally, as_of),
        examples=[(one, runs.get(one.run_id)) for one in examples],
        failure=failure(told, last=True) if told else None,
        to_retry=paging.counts(runs=to_retry)["runs"],
        search=f"error:{group.id} state:{','.join(ENDED_BADLY)}",
        lengths=list(LENGTHS),
        wrong=wrong,
        typed=request.form,
        zone=moments.zone_name(),
    )
    answer.status_code = 422 if wrong else answer.status_code
    return answer


def steps_of(tally: Tally, as_of: datetime) -> list[Step]:
    most, share = max(tally.slots, default=0), 100 / BARS
    return [
        Step(start, start + timedelta(seconds=STEP), count, f"{(place + 0.12) * share:.2f}%", 100 * scaled(count, most))
        for place, (start, count) in enumerate(zip(slot_starts(as_of, tally.slots), tally.slots, strict=True))
        if count > 0
    ]


def known(group_id: str) -> ErrorGroup:
    found: ErrorGroup = ErrorGroup.get_or_none(ErrorGroup.id == group_id) or abort(
        404, _("There is no such group of errors, or it did not fail for longer than the history is kept.")
    )
    return found


# --- commands ------------------------------------------------------------------------------------------------


@blueprint.post("/errors/<group_id>/resolve")
@needs("operator")
def error_resolve(group_id: str) -> Any:
    return done(group_id, "errors.resolve", _("It is resolved. Should it fail again, it opens by itself."))


@blueprint.post("/errors/<group_id>/reopen")
@blueprint.delete("/errors/<group_id>/snooze", endpoint="error_wake")
@needs("operator")
def error_reopen(group_id: str) -> Any:
    return done(group_id, "errors.reopen", _("It is open."))


@blueprint.post("/errors/<group_id>/snooze")
@needs("operator")
def error_snooze(group_id: str) -> Any:
    try:
        return done(group_id, "errors.snooze", _("It is snoozed."), until=end_typed())
    except BadInput as error:
        return page(known(group_id), error)


def end_typed() -> datetime:
    """The moment where one was typed, else so long from now."""
    if at := moments.typed("until", request.form.get("until", "")):
        return at
    if length := LENGTHS.get(request.form.get("for", "")):
        return now() + length
    raise BadInput("until", _("a moment or a length is needed"))


def done(group_id: str, action: str, told: str, **given: Any) -> Any:
    known(group_id)
    try:
        perform(current(), action, error_id=group_id, **given)
        flash(told)
    except Refused as error:
        flash(str(error.description), "error")
    return redirect(url_for("pages.error", group_id=group_id), 303)
