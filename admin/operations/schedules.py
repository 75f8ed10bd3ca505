"""What can be asked and done of schedules."""

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
    """`to_catch_up`: the missed tick that can be made up for. `seen_at`: when a scheduler last looked."""

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
    """What the clock starts: when it is due next, who holds it back, and what it missed."""
    return Schedules(schedule_list(schedule_rows.scheduled_tasks()))


@register_query("schedule.show", "/schedule/{task}")
def show_schedule(task: str) -> Schedule:
    """One schedule."""
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
    """The minutes at which the clock should have started it, newest first, and what came of each."""
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
    """Let the clock start nothing of this task, until an instant or until the schedule is resumed."""
    queue, name = find_schedule(task)
    if until and until <= now():
        raise InvalidInput("until", _("an instant in the future is needed"))
    schedules.pause_schedule(queue, name, by=actor.requester, reason=reason, until=until)
    return ActionResult(target=name, after={"reason": reason, "until": until and until.isoformat()})


@register_action("schedule.resume", "operator", in_transaction=False)
def resume_schedule(actor: Actor, task: str) -> ActionResult[bool]:
    """Let the clock start this task again; gives back whether the schedule was paused."""
    queue, name = find_schedule(task)
    return ActionResult(schedules.resume_schedule(queue, name), name)


@register_action("schedule.run", "operator", in_transaction=False)
def run_schedule(actor: Actor, task: str) -> ActionResult[Result]:
    """Run a scheduled task once, now, as the clock would; gives back the run's handle."""
    _, name = find_schedule(task)
    result = run_task(tasks.queues, name, by=actor.requester)
    return ActionResult(result, name, after={"run": result.id})


@register_action("schedule.catch_up", "operator", in_transaction=False)
def catch_up_schedule(actor: Actor, task: str) -> ActionResult[Result]:
    """Run once for the newest tick that was missed; gives back the run's handle."""
    _, name = find_schedule(task)
    result = schedules.catch_up(tasks.queues, name, actor.requester)
    return ActionResult(result, name, after={"run": result.id})


def find_schedule(name: str) -> tuple[Queue, str]:
    """The queue and the bare name of a task that the clock starts. Raises UnknownTask and InvalidInput."""
    queue, task = registered_tasks.find_task(tasks.queues, name)
    if task.schedule is None:
        raise InvalidInput("task", _("%(task)s has no schedule", task=task.__name__))
    return queue, task.__name__


def get_schedule(task: str) -> TaskInfo:
    return next((task_facts for task_facts in scheduled_tasks() if task_facts.name == task), None) or abort(
        404, _("The clock starts no task of this name.")
    )
