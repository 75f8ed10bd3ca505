"""The schedule: what the clock starts, what came of it, and what an operator may do about it."""

from datetime import datetime, timedelta

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from peewee import JOIN

from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.display.schedules import agenda, pauses_of, rows_of, scheduled
from admin.forms import datetimes
from admin.forms.list_filters import Asked
from admin.operations.registry import perform
from admin.operations.schedules import get_schedule
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint, page_of
from admin.problems import KNOWN_ERRORS, BadInput, as_http
from engine.models import Run, Tick, now
from engine.monitor.registered_tasks import TaskFacts
from engine.queues.ticks import TICK_STATES
from engine.search import pagination

#: On one page, so that it stays light however many there are.
MOST = 7
#: Lines of what comes next, over all schedules.
COMING = 6

LENGTHS = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1), "7d": timedelta(days=7)}


# --- pages ---------------------------------------------------------------------------------------------------


@blueprint.get("/schedule")
@needs("viewer")
def schedule() -> ResponseReturnValue:
    at, everything, last = now(), scheduled(), request.args.get("after", "")
    later = [facts for facts in everything if facts.name > last]
    pauses, error_text = pauses_of(everything)
    rows = rows_of(later[:MOST], pauses, at)
    return live_refresh.page(
        "queues/schedule.html",
        as_of=at,
        rows=rows,
        trouble=error_text,
        unwatched=sorted({(row.task.queue, row.seen_at) for row in rows if not row.watched}),
        agenda=agenda(everything, pauses, at, COMING),
        more=rows[-1].task.name if len(later) > MOST else None,
        first=len(later) == len(everything),
        hour=timedelta(hours=1),
        zone=datetimes.zone_name(),
    )


@blueprint.get("/schedule/<task>")
@needs("viewer")
def schedule_of(task: str) -> ResponseReturnValue:
    """The ticks of one schedule, newest first."""
    facts = get_schedule(task)
    at = now()
    pauses, error_text = pauses_of([facts])
    filters = Asked("pages.schedule_of", ["all", *TICK_STATES], task=facts.name)
    everything = Tick.select().where(Tick.task == facts.name)
    queries = {"all": everything, **{state: everything.where(Tick.state == state) for state in TICK_STATES}}
    runs = (Run.state, Run.started_at, Run.run_ms)
    with_runs = (
        queries[filters.state].select_extend(*runs).join(Run, JOIN.LEFT_OUTER, on=Tick.run_id == Run.id, attr="run")
    )
    page = page_of(with_runs, Tick.due_at, Tick.task)
    return live_refresh.page(
        "queues/schedule_of.html",
        as_of=at,
        row=rows_of([facts], pauses, at)[0],
        trouble=error_text,
        asked=filters,
        counts=pagination.counts(**queries),
        ticks=page.rows,
        older=page.older,
        zone=datetimes.zone_name(),
    )


def list_with(task: str) -> str:
    """The page of the list on which this schedule stands."""
    names = [facts.name for facts in scheduled()]
    start = names.index(task) // MOST * MOST
    return url_for("pages.schedule", after=names[start - 1] if start else None)


# --- commands ------------------------------------------------------------------------------------------------


@blueprint.get("/schedule/<task>/pause")
@needs("operator")
def schedule_pause(task: str) -> ResponseReturnValue:
    return pause_page(get_schedule(task))


def pause_page(facts: TaskFacts, wrong: BadInput | None = None) -> ResponseReturnValue:
    pauses, error_text = pauses_of([facts])
    answer = live_refresh.page(
        "queues/schedule_pause.html",
        row=rows_of([facts], pauses, now())[0],
        trouble=error_text,
        back=list_with(facts.name),
        typed=request.form,
        wrong=wrong,
        zone=datetimes.zone_name(),
    )
    answer.status_code = 422 if wrong else answer.status_code
    return answer


@blueprint.post("/schedule/<task>/pause")
@needs("operator")
def schedule_pause_now(task: str) -> ResponseReturnValue:
    facts = get_schedule(task)
    try:
        perform(current_actor(), "schedule.pause", task=task, reason=reason_typed(), until=end_typed())
    except BadInput as error:
        return pause_page(facts, error)
    flash(_("The schedule of %(task)s is paused.", task=task))
    return redirect(list_with(task), 303)


def reason_typed() -> str | None:
    return request.form.get("reason", "").strip()[:500] or None


def end_typed() -> datetime | None:
    """The moment where one was typed, else so long from now, else no end."""
    if at := datetimes.typed("until", request.form.get("until", "")):
        return at
    length = LENGTHS.get(request.form.get("for", ""))
    return now() + length if length else None


@blueprint.delete("/schedule/<task>/pause", endpoint="schedule_resumed")
@blueprint.post("/schedule/<task>/resume")
@needs("operator")
def schedule_resume(task: str) -> ResponseReturnValue:
    get_schedule(task)
    if perform(current_actor(), "schedule.resume", task=task):
        flash(_("The schedule of %(task)s goes on.", task=task))
    else:
        flash(_("The schedule of %(task)s was not paused.", task=task))
    return redirect(list_with(task), 303)


@blueprint.post("/schedule/<task>/run")
@needs("operator")
def schedule_run(task: str) -> ResponseReturnValue:
    return to_its_run(task, "schedule.run")


@blueprint.post("/schedule/<task>/catch-up")
@needs("operator")
def schedule_catch_up(task: str) -> ResponseReturnValue:
    return to_its_run(task, "schedule.catch_up")


def to_its_run(task: str, action: str) -> ResponseReturnValue:
    """Do it and show the run that it made; where it cannot be done, say so."""
    get_schedule(task)
    try:
        run = perform(current_actor(), action, task=task)
    except KNOWN_ERRORS as error:
        flash(str(as_http(error).description), "error")
        return redirect(list_with(task), 303)
    return redirect(url_for("pages.run", run_id=run.id), 303)
