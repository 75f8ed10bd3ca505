"""Queries and actions for tasks: their definition and figures."""

import inspect as python
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Actor
from admin.display import tasks as tasks_page
from admin.operations.arguments import JSONList, JSONObject
from admin.operations.queries import register_query
from admin.operations.registry import ActionResult, register_action
from engine.control import queues as queue_control
from engine.control import runs
from engine.control.arguments import mask_arguments
from engine.control.runs import Result, run_task
from engine.exceptions import UnknownTask
from engine.history.run_counts import RETRIED, Percentiles
from engine.models import now
from engine.monitor import registered_tasks
from engine.monitor.registered_tasks import TaskInfo
from engine.secret_texts import MASK
from tasks import queues


class TaskParameter(NamedTuple):
    """`type` is the annotation. `default` is set if the parameter is optional."""

    name: str
    type: str | None
    required: bool
    default: Any


class Week(NamedTuple):
    """Runs that ended since `since`. Durations are in ms."""

    since: datetime
    runs: int
    failed: int
    retried: int
    waited: Percentiles | None
    ran: Percentiles | None


class Task(NamedTuple):
    """Limits are in seconds, 0 for none. `paused`: requester, time and reason."""

    task: str
    queue: str
    doc: str
    priority: float | None
    retries: int
    retry_delay: int
    retry_backoff: float
    schedule: str | None
    soft_limit: float
    hard_limit: float
    rate_limit: str | None
    unique: bool
    parameters: list[TaskParameter]
    paused: Mapping[str, Any] | None
    week: Week


class Tasks(NamedTuple):
    tasks: list[Task]


@register_query("tasks.list", "/tasks")
def list_tasks() -> Tasks:
    """List the registered tasks."""
    return Tasks(task_list(registered_tasks.list_tasks(queues)))


@register_query("tasks.show", "/tasks/{name}")
def show_task(name: str) -> Task:
    """Show a task by its name: NAME, tasks.NAME or app.tasks.NAME."""
    return task_list([get_task(name)])[0]


def task_list(facts: list[registered_tasks.TaskInfo]) -> list[Task]:
    rows, _trouble = tasks_page.task_rows(facts, now())
    return [task_data(row) for row in rows]


def task_data(row: tasks_page.TaskRow) -> Task:
    facts, week = row.task, row.week
    return Task(
        task=facts.name,
        queue=facts.queue,
        doc=facts.doc,
        priority=facts.priority,
        retries=facts.retries,
        retry_delay=facts.retry_delay,
        retry_backoff=facts.retry_backoff,
        schedule=facts.schedule,
        soft_limit=facts.soft_limit,
        hard_limit=facts.hard_limit,
        rate_limit=facts.rate_limit or None,
        unique=facts.unique,
        parameters=[
            parameter_data(parameter, facts.secret_parameters.has_name(parameter.name))
            for parameter in facts.parameters
        ],
        paused=row.pause,
        week=Week(week.since, week.ended, week.failed, week.counts[RETRIED], row.waited, row.ran),
    )


def parameter_data(parameter: python.Parameter, is_secret: bool) -> TaskParameter:
    bare = parameter.annotation is parameter.empty
    kind = None if bare else python.formatannotation(parameter.annotation)
    required = parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )
    default = None if parameter.default is parameter.empty else parameter.default
    return TaskParameter(str(parameter.name), kind, required, MASK if is_secret and default is not None else default)


def can_start(name: str, **_rest: object) -> None:
    """Raise Paused or NoLiveWorker if a run of this task would only wait."""
    runs.ensure_runnable(tasks.queues, name)


@register_action("tasks.run", "operator", in_transaction=False, can_start=can_start)
def enqueue_run(
    actor: Actor,
    name: str,
    arguments: JSONObject | None = None,
    args: JSONList | None = None,
    eta: datetime | None = None,
    priority: float | None = None,
) -> ActionResult[Result]:
    """Enqueue a run of a task. Returns its id. `args` are positional arguments. `arguments` are named arguments."""
    result = run_task(tasks.queues, name, args or (), arguments, by=actor.requester, eta=eta, priority=priority)
    shown = mask_arguments(tasks.queues, name, args or [], arguments or {})
    optional = {"args": shown.args, "eta": eta and eta.isoformat(), "priority": priority}
    options = {key: value for key, value in optional.items() if value not in (None, [])}
    return ActionResult(result, result.id, after={"task": name, "arguments": shown.kwargs, **options})


@register_action("tasks.pause", "operator", in_transaction=False)
def pause_task(actor: Actor, name: str, reason: str | None = None) -> ActionResult[None]:
    """Pause a task until it is resumed. Running tasks continue."""
    queue, task = registered_tasks.find_task(tasks.queues, name)
    queue_control.pause_queue(queue, task=task.__name__, by=actor.requester, reason=reason)
    return ActionResult(target=task.__name__, after={"reason": reason})


@register_action("tasks.resume", "operator", in_transaction=False)
def resume_task(actor: Actor, name: str) -> ActionResult[bool]:
    """Resume a task. Returns false if it was not paused."""
    queue, task = registered_tasks.find_task(tasks.queues, name)
    return ActionResult(queue_control.resume_queue(queue, task=task.__name__), task.__name__)


def get_task(name: str) -> TaskInfo:
    try:
        return registered_tasks.describe_task(*registered_tasks.find_task(tasks.queues, name))
    except UnknownTask:
        abort(404, _("No task with this name."))
