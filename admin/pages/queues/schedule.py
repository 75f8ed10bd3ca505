"""Schedule: scheduled tasks, their ticks, and the actions on a schedule."""

from datetime import datetime, timedelta

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from peewee import JOIN

from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.display.schedules import load_pauses, schedule_rows, scheduled_tasks, upcoming_ticks
from admin.forms import datetimes
from admin.forms.list_filters import ListFilters
from admin.operations.registry import execute
from admin.operations.schedules import get_schedule
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint, paginate
from admin.problems import KNOWN_ERRORS, InvalidInput, to_http_error
from engine.models import Run, Tick, now
from engine.monitor.registered_tasks import TaskInfo
from engine.queues.ticks import TICK_STATES
from engine.search import pagination

#: Schedules per page.
MAX_LENGTH = 7
#: Upcoming runs shown, over all schedules.
UPCOMING_SHOWN = 6

LENGTHS = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1), "7d": timedelta(days=7)}


# --- pages ---------------------------------------------------------------------------------------------------


@blueprint.get("/schedule")
@requires_role("viewer")
def schedule() -> ResponseReturnValue:
    at, everything, last = now(), scheduled_tasks(), request.args.get("after", "")
    later = [facts for facts in everything if facts.name > last]
    pauses, error_text = load_pauses(everything)
    rows = schedule_rows(later[:MAX_LENGTH], pauses, at)
    return live_refresh.render_page(
        "queues/schedule.html",
        as_of=at,
        rows=rows,
        trouble=error_text,
        unwatched=sorted({(row.task.queue, row.seen_at) for row in rows if not row.watched}),
        agenda=upcoming_ticks(everything, pauses, at, UPCOMING_SHOWN),
        next_key=rows[-1].task.name if len(later) > MAX_LENGTH else None,
        first=len(later) == len(everything),
        hour=timedelta(hours=1),
        zone=datetimes.zone_name(),
    )


@blueprint.get("/schedule/<task>")
@requires_role("viewer")
def schedule_of(task: str) -> ResponseReturnValue:
    """Show the ticks of one schedule, newest first."""
    facts = get_schedule(task)
    at = now()
    pauses, error_text = load_pauses([facts])
    filters = ListFilters("pages.schedule_of", ["all", *TICK_STATES], task=facts.name)
    everything = Tick.select().where(Tick.task == facts.name)
    queries = {"all": everything, **{state: everything.where(Tick.state == state) for state in TICK_STATES}}
    runs = (Run.state, Run.started_at, Run.run_ms)
    with_runs = (
        queries[filters.state].select_extend(*runs).join(Run, JOIN.LEFT_OUTER, on=Tick.run_id == Run.id, attr="run")
    )
    page = paginate(with_runs, Tick.due_at, Tick.task)
    return live_refresh.render_page(
        "queues/schedule_of.html",
        as_of=at,
        row=schedule_rows([facts], pauses, at)[0],
        trouble=error_text,
        filters=filters,
        counts=pagination.count_rows(**queries),
        ticks=page.rows,
        older=page.older,
        zone=datetimes.zone_name(),
    )


def schedules_page(task: str) -> str:
    """Return the URL of the list page that contains this schedule."""
    names = [facts.name for facts in scheduled_tasks()]
    start = names.index(task) // MAX_LENGTH * MAX_LENGTH
    return url_for("pages.schedule", after=names[start - 1] if start else None)


# --- commands ------------------------------------------------------------------------------------------------


@blueprint.get("/schedule/<task>/pause")
@requires_role("operator")
def schedule_pause(task: str) -> ResponseReturnValue:
    return pause_page(get_schedule(task))


def pause_page(facts: TaskInfo, wrong: InvalidInput | None = None) -> ResponseReturnValue:
    pauses, error_text = load_pauses([facts])
    answer = live_refresh.render_page(
        "queues/schedule_pause.html",
        row=schedule_rows([facts], pauses, now())[0],
        trouble=error_text,
        back=schedules_page(facts.name),
        typed=request.form,
        wrong=wrong,
        zone=datetimes.zone_name(),
    )
    answer.status_code = 422 if wrong else answer.status_code
    return answer


@blueprint.post("/schedule/<task>/pause")
@requires_role("operator")
def schedule_pause_now(task: str) -> ResponseReturnValue:
    facts = get_schedule(task)
    try:
        execute(current_actor(), "schedule.pause", task=task, reason=typed_reason(), until=typed_end())
    except InvalidInput as error:
        return pause_page(facts, error)
    flash(_("Schedule of %(task)s is paused.", task=task))
    return redirect(schedules_page(task), 303)


def typed_reason() -> str | None:
    return request.form.get("reason", "").strip() or None


def typed_end() -> datetime | None:
    """Return the typed end of the pause: a time, a duration from now, or None for no end."""
    if at := datetimes.parse_local_datetime("until", request.form.get("until", "")):
        return at
    length = LENGTHS.get(request.form.get("for", ""))
    return now() + length if length else None


@blueprint.delete("/schedule/<task>/pause", endpoint="schedule_resumed")
@blueprint.post("/schedule/<task>/resume")
@requires_role("operator")
def schedule_resume(task: str) -> ResponseReturnValue:
    get_schedule(task)
    if execute(current_actor(), "schedule.resume", task=task):
        flash(_("Schedule of %(task)s resumed.", task=task))
    else:
        flash(_("Schedule of %(task)s was not paused.", task=task))
    return redirect(schedules_page(task), 303)


@blueprint.post("/schedule/<task>/run")
@requires_role("operator")
def schedule_run(task: str) -> ResponseReturnValue:
    return redirect_to_run(task, "schedule.run")


@blueprint.post("/schedule/<task>/catch-up")
@requires_role("operator")
def schedule_catch_up(task: str) -> ResponseReturnValue:
    return redirect_to_run(task, "schedule.catch_up")


def redirect_to_run(task: str, action: str) -> ResponseReturnValue:
    """Execute the action and redirect to its run. On failure flash the error and redirect to the list."""
    get_schedule(task)
    try:
        run = execute(current_actor(), action, task=task)
    except KNOWN_ERRORS as error:
        flash(str(to_http_error(error).description), "error")
        return redirect(schedules_page(task), 303)
    return redirect(url_for("pages.run", run_id=run.id), 303)
