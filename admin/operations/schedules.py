"""Queries and actions for schedules."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Actor
from admin.display import schedules as schedule_rows
from admin.display.cron_text import describe_cron
from admin.display.schedules import scheduled_tasks
from admin.operations.queries import Cursor, Limit, register_query
from admin.operations.registry import ActionResult, register_action
from admin.problems import InvalidInput
from engine.control import schedules
from engine.control.runs import Result, run_task
from engine.models import Tick, now
from engine.monitor import registered_tasks
from engine.monitor.registered_tasks import TaskInfo
from engine.queues.queue import Queue
from engine.queues.ticks import TICK_STATES
from engine.search import pagination


class Schedule(NamedTuple):
    """`to_catch_up`: the newest missed tick. `seen_at`: the last check by a scheduler."""

    task: str
    queue: str
    expression: str | None
    words: str | None
    next: list[datetime]
    paused: Mapping[str, Any] | None
    missed: int
    late: int
    to_catch_up: datetime | None
    seen_at: datetime | None


class Schedules(NamedTuple):
    schedules: list[Schedule]


class Ticks(NamedTuple):
    ticks: list[Tick]
    next: str | None


@register_query("schedule.list", "/schedule")
def list_schedules() -> Schedules:
    """List schedules with their next tick, missed ticks and pauses."""
    return Schedules(schedule_list(schedule_rows.scheduled_tasks()))


@register_query("schedule.show", "/schedule/{task}")
def show_schedule(task: str) -> Schedule:
    """Show a schedule."""
    return schedule_list([get_schedule(task)])[0]


def schedule_list(facts: list[registered_tasks.TaskInfo]) -> list[Schedule]:
    pauses, _trouble = schedule_rows.load_pauses(facts)
    return [schedule_data(row) for row in schedule_rows.schedule_rows(facts, pauses, now())]


def schedule_data(row: schedule_rows.ScheduleRow) -> Schedule:
    expression = row.task.schedule
    return Schedule(
        task=row.task.name,
        queue=row.task.queue,
        expression=expression,
        words=expression and describe_cron(expression, "en"),
        next=row.next,
        paused=row.pause,
        missed=row.missed,
        late=row.late,
        to_catch_up=row.past.to_catch_up,
        seen_at=row.seen_at,
    )


@register_query("schedule.ticks", "/schedule/{task}/ticks", columns=("due_at", "state", "run_id"))
def list_ticks(
    task: str, state: Literal["", "enqueued", "late", "missed", "paused"] = "", before: Cursor = "", limit: Limit = 30
) -> Ticks:
    """List the ticks of a schedule, newest first, with the result of each."""
    assert state in ("", *TICK_STATES)
    rows = Tick.select().where(Tick.task == get_schedule(task).name)
    try:
        return Ticks(
            *pagination.fetch_page(
                rows.where(Tick.state == state) if state else rows, Tick.due_at, Tick.task, limit, before
            )
        )
    except pagination.InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error


@register_action("schedule.pause", "operator", in_transaction=False)
def pause_schedule(
    actor: Actor, task: str, reason: str | None = None, until: datetime | None = None
) -> ActionResult[None]:
    """Pause a schedule until a time, or until it is resumed."""
    queue, name = find_schedule(task)
    if until and until <= now():
        raise InvalidInput("until", _("must be a time in the future"))
    schedules.pause_schedule(queue, name, by=actor.requester, reason=reason, until=until)
    return ActionResult(target=name, after={"reason": reason, "until": until and until.isoformat()})


@register_action("schedule.resume", "operator", in_transaction=False)
def resume_schedule(actor: Actor, task: str) -> ActionResult[bool]:
    """Resume a schedule. Returns false if it was not paused."""
    queue, name = find_schedule(task)
    return ActionResult(schedules.resume_schedule(queue, name), name)


@register_action("schedule.run", "operator", in_transaction=False)
def run_schedule(actor: Actor, task: str) -> ActionResult[Result]:
    """Run a scheduled task once, now. Returns the id of the run."""
    _, name = find_schedule(task)
    result = run_task(tasks.queues, name, by=actor.requester)
    return ActionResult(result, name, after={"run": result.id})


@register_action("schedule.catch_up", "operator", in_transaction=False)
def catch_up_schedule(actor: Actor, task: str) -> ActionResult[Result]:
    """Run once for the newest missed tick. Returns the id of the run."""
    _, name = find_schedule(task)
    result = schedules.catch_up(tasks.queues, name, actor.requester)
    return ActionResult(result, name, after={"run": result.id})


def find_schedule(name: str) -> tuple[Queue, str]:
    """Return the queue and the name of a scheduled task. Raises UnknownTask and InvalidInput."""
    queue, task = registered_tasks.find_task(tasks.queues, name)
    if task.schedule is None:
        raise InvalidInput("task", _("must be a scheduled task: %(task)s has no schedule", task=task.__name__))
    return queue, task.__name__


def get_schedule(task: str) -> TaskInfo:
    return next((task_facts for task_facts in scheduled_tasks() if task_facts.name == task), None) or abort(
        404, _("No scheduled task with this name.")
    )
