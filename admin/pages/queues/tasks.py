"""Registered tasks: the list with statistics, and one task with a form that runs it."""

from datetime import UTC, datetime

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import ngettext

import tasks
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.display.tasks import task_rows
from admin.forms import datetimes, fields, task_form
from admin.operations.registry import execute
from admin.operations.tasks import get_task
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from admin.problems import KNOWN_ERRORS, InvalidInput, to_http_error
from engine.exceptions import InvalidArguments
from engine.history import task_stats
from engine.models import Run, now
from engine.monitor import registered_tasks
from engine.monitor.registered_tasks import TaskInfo

LATEST_RUNS = 8
#: Tasks per page.
MAX_ARGUMENTS = 25


# --- pages ---------------------------------------------------------------------------------------------------


@blueprint.get("/tasks", endpoint="tasks")
@requires_role("viewer")
def task_list() -> ResponseReturnValue:
    at, last = now(), request.args.get("after", "")
    facts = sorted(registered_tasks.list_tasks(tasks.queues), key=lambda task: task.name)
    later = [task for task in facts if task.name > last]
    rows, error_text = task_rows(later[:MAX_ARGUMENTS], at)
    return live_refresh.render_page(
        "queues/tasks.html",
        as_of=at,
        rows=rows,
        trouble=error_text,
        since=task_stats.week_start(at),
        next_key=rows[-1].task.name if len(later) > MAX_ARGUMENTS else None,
        first=len(later) == len(facts),
        runs_url=runs_url,
    )


@blueprint.get("/tasks/<name>")
@requires_role("viewer")
def task(name: str) -> ResponseReturnValue:
    return task_page(get_task(name))


def task_page(facts: TaskInfo, wrong: InvalidInput | None = None) -> ResponseReturnValue:
    """Return the page of a task. `wrong`: the error of the submitted form."""
    at = now()
    rows, error_text = task_rows([facts], at)
    form = fields.form_fields(facts)
    answer = live_refresh.render_page(
        "queues/task.html",
        as_of=at,
        row=rows[0],
        trouble=error_text,
        runs=list(
            Run.select()
            .where(Run.task == facts.name)
            .order_by(Run.enqueued_at.desc(), Run.id.desc())
            .limit(LATEST_RUNS)
        ),
        form=form,
        texts={field.name: field.shown(request.form.get(field.key, field.start)) for field in form},
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
    """Return the URL of the task's runs that ended in this period."""
    words = [f"task:{task}", f"ended:{to_iso(since)}{f'..{to_iso(until)}' if until else ''}"]
    return url_for("pages.runs", q=" ".join([f"state:{states}", *words] if states else words))


def to_iso(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


# --- commands ------------------------------------------------------------------------------------------------


@blueprint.post("/tasks/<name>/run")
@requires_role("operator")
def task_run(name: str) -> ResponseReturnValue:
    """Enqueue one run with the typed arguments, now or at the given time."""
    facts = get_task(name)
    try:
        arguments = task_form.parse_form(fields.form_fields(facts), request.form)
        options = {
            "eta": datetimes.parse_local_datetime("eta", request.form.get("eta", "")),
            "priority": typed_priority(),
        }
        run = execute(
            current_actor(), "tasks.run", name=facts.name, args=arguments.args, arguments=arguments.kwargs, **options
        )
    except (InvalidInput, InvalidArguments) as error:
        wrong = error if isinstance(error, InvalidInput) else to_http_error(error)
        assert isinstance(wrong, InvalidInput)
        return task_page(facts, wrong)
    except KNOWN_ERRORS as error:
        answer = to_http_error(error)
        if answer.code == 500:
            raise
        flash(str(answer.description), "error")
        return redirect(url_for("pages.task", name=facts.name), 303)
    return redirect(url_for("pages.run", run_id=run.id), 303)


def typed_priority() -> str | None:
    return request.form.get("priority", "").strip() or None


@blueprint.post("/tasks/<name>/pause")
@requires_role("operator")
def task_pause(name: str) -> ResponseReturnValue:
    facts = get_task(name)
    execute(current_actor(), "tasks.pause", name=facts.name, reason=request.form.get("reason", "").strip() or None)
    flash(_("Task %(task)s is paused. No run of it starts until you resume it.", task=facts.name))
    return redirect(url_for("pages.task", name=facts.name), 303)


@blueprint.delete("/tasks/<name>/pause", endpoint="task_resumed")
@blueprint.post("/tasks/<name>/resume")
@requires_role("operator")
def task_resume(name: str) -> ResponseReturnValue:
    facts = get_task(name)
    if execute(current_actor(), "tasks.resume", name=facts.name):
        flash(_("Task %(task)s resumed.", task=facts.name))
    else:
        flash(_("Task %(task)s was not paused.", task=facts.name))
    return redirect(url_for("pages.task", name=facts.name), 303)


# --- words ---------------------------------------------------------------------------------------------------


@blueprint.app_template_filter("rate_limit")
def rate_limit_text(text: str) -> str:
    """Return a rate limit in words: 10/m → 10 starts per minute."""
    number, _slash, unit = text.partition("/")
    words = {
        "s": ngettext("%(num)s start per second", "%(num)s starts per second", int(number)),
        "m": ngettext("%(num)s start per minute", "%(num)s starts per minute", int(number)),
        "h": ngettext("%(num)s start per hour", "%(num)s starts per hour", int(number)),
        "d": ngettext("%(num)s start per day", "%(num)s starts per day", int(number)),
    }
    return words[unit]
