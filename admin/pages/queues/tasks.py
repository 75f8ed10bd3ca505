"""The registered tasks: how each has fared in the last days, and one of them with a form that runs it."""

from datetime import UTC, datetime

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import ngettext

import tasks
from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.display.tasks import rows_of
from admin.forms import datetimes, fields, task_form
from admin.operations.registry import perform
from admin.operations.tasks import get_task
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from admin.problems import KNOWN_ERRORS, BadInput, as_http
from engine.exceptions import BadArguments
from engine.history import task_stats
from engine.models import Run, now
from engine.monitor import registered_tasks
from engine.monitor.registered_tasks import TaskFacts

LATEST = 8
#: On one page of the list.
MOST = 25


# --- pages ---------------------------------------------------------------------------------------------------


@blueprint.get("/tasks", endpoint="tasks")
@needs("viewer")
def task_list() -> ResponseReturnValue:
    at, last = now(), request.args.get("after", "")
    facts = sorted(registered_tasks.registered(tasks.queues), key=lambda task: task.name)
    later = [task for task in facts if task.name > last]
    rows, error_text = rows_of(later[:MOST], at)
    return live_refresh.page(
        "queues/tasks.html",
        as_of=at,
        rows=rows,
        trouble=error_text,
        since=task_stats.week_start(at),
        more=rows[-1].task.name if len(later) > MOST else None,
        first=len(later) == len(facts),
        runs_url=runs_url,
    )


@blueprint.get("/tasks/<name>")
@needs("viewer")
def task(name: str) -> ResponseReturnValue:
    return task_page(get_task(name))


def task_page(facts: TaskFacts, wrong: BadInput | None = None) -> ResponseReturnValue:
    """`wrong`: what was wrong with the form that was sent."""
    at = now()
    rows, error_text = rows_of([facts], at)
    form = fields.fields(facts)
    answer = live_refresh.page(
        "queues/task.html",
        as_of=at,
        row=rows[0],
        trouble=error_text,
        runs=list(
            Run.select().where(Run.task == facts.name).order_by(Run.enqueued_at.desc(), Run.id.desc()).limit(LATEST)
        ),
        form=form,
        texts={field.name: request.form.get(field.key, field.start) for field in form},
        typed=request.form,
        wrong=wrong,
        at_fault=next((field.name for field in form if wrong and field.name == wrong.field), None),
        zone=datetimes.zone_name(),
        since=task_stats.week_start(at),
        runs_url=runs_url,
    )
    answer.status_code = 422 if wrong else answer.status_code
    return answer


def runs_url(task: str, since: datetime, until: datetime | None = None, states: str = "") -> str:
    """The list of the runs of a task that ended then."""
    words = [f"task:{task}", f"ended:{iso(since)}{f'..{iso(until)}' if until else ''}"]
    return url_for("pages.runs", q=" ".join([f"state:{states}", *words] if states else words))


def iso(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


# --- commands ------------------------------------------------------------------------------------------------


@blueprint.post("/tasks/<name>/run")
@needs("operator")
def task_run(name: str) -> ResponseReturnValue:
    """Run it once with the arguments that were typed, now or at a moment."""
    facts = get_task(name)
    try:
        arguments = task_form.parse(fields.fields(facts), request.form)
        options = {"eta": datetimes.typed("eta", request.form.get("eta", "")), "priority": priority_typed()}
        run = perform(
            current_actor(), "tasks.run", name=facts.name, args=arguments.args, arguments=arguments.kwargs, **options
        )
    except (BadInput, BadArguments) as error:
        wrong = error if isinstance(error, BadInput) else as_http(error)
        assert isinstance(wrong, BadInput)
        return task_page(facts, wrong)
    except KNOWN_ERRORS as error:
        answer = as_http(error)
        if answer.code == 500:
            raise
        flash(str(answer.description), "error")
        return redirect(url_for("pages.task", name=facts.name), 303)
    return redirect(url_for("pages.run", run_id=run.id), 303)


def priority_typed() -> str | None:
    return request.form.get("priority", "").strip() or None


@blueprint.post("/tasks/<name>/pause")
@needs("operator")
def task_pause(name: str) -> ResponseReturnValue:
    facts = get_task(name)
    perform(
        current_actor(), "tasks.pause", name=facts.name, reason=request.form.get("reason", "").strip()[:500] or None
    )
    flash(_("The task %(task)s is paused: none of its runs is started until it is resumed.", task=facts.name))
    return redirect(url_for("pages.task", name=facts.name), 303)


@blueprint.delete("/tasks/<name>/pause", endpoint="task_resumed")
@blueprint.post("/tasks/<name>/resume")
@needs("operator")
def task_resume(name: str) -> ResponseReturnValue:
    facts = get_task(name)
    if perform(current_actor(), "tasks.resume", name=facts.name):
        flash(_("The task %(task)s goes on.", task=facts.name))
    else:
        flash(_("The task %(task)s was not paused.", task=facts.name))
    return redirect(url_for("pages.task", name=facts.name), 303)


# --- words ---------------------------------------------------------------------------------------------------


@blueprint.app_template_filter("rate_limit")
def rate_limit(text: str) -> str:
    """10/m → at most 10 starts in any minute."""
    number, _slash, unit = text.partition("/")
    words = {
        "s": ngettext("%(num)s start in any second", "%(num)s starts in any second", int(number)),
        "m": ngettext("%(num)s start in any minute", "%(num)s starts in any minute", int(number)),
        "h": ngettext("%(num)s start in any hour", "%(num)s starts in any hour", int(number)),
        "d": ngettext("%(num)s start in any day", "%(num)s starts in any day", int(number)),
    }
    return words[unit]
