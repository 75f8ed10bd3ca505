"""What can be asked and done of schedules."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Who
from admin.display import schedules as schedule_rows
from admin.display.cron_text import in_words
from admin.display.schedules import scheduled
from admin.operations.queries import Cursor, Limit, read
from admin.operations.registry import Outcome, action
from admin.problems import BadInput
from engine.control import schedules
from engine.control.runs import Result, run_task
from engine.models import Tick, now
from engine.monitor import registered_tasks
from engine.monitor.registered_tasks import TaskFacts
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


@read("schedule.list", "/schedule")
def schedule() -> Schedules:
    """What the clock starts: when it is due next, who holds it back, and what it missed."""
    return Schedules(schedules_of(schedule_rows.scheduled()))


@read("schedule.show", "/schedule/{task}")
def schedule_one(task: str) -> Schedule:
    """One schedule."""
    return schedules_of([get_schedule(task)])[0]


def schedules_of(facts: list[registered_tasks.TaskFacts]) -> list[Schedule]:
    pauses, _trouble = schedule_rows.pauses_of(facts)
    return [schedule_of(row) for row in schedule_rows.rows_of(facts, pauses, now())]


def schedule_of(row: schedule_rows.Row) -> Schedule:
    expression = row.task.schedule
    return Schedule(
        task=row.task.name,
        queue=row.task.queue,
        expression=expression,
        words=expression and in_words(expression, "en"),
        next=row.next,
        paused=row.pause,
        missed=row.missed,
        late=row.late,
        to_catch_up=row.past.to_catch_up,
        seen_at=row.seen_at,
    )


@read("schedule.ticks", "/schedule/{task}/ticks", columns=("due_at", "state", "run_id"))
def ticks(
    task: str, state: Literal["", "enqueued", "late", "missed", "paused"] = "", before: Cursor = "", limit: Limit = 30
) -> Ticks:
    """The minutes at which the clock should have started it, newest first, and what came of each."""
    assert state in ("", *TICK_STATES)
    rows = Tick.select().where(Tick.task == get_schedule(task).name)
    try:
        return Ticks(
            *pagination.page(rows.where(Tick.state == state) if state else rows, Tick.due_at, Tick.task, limit, before)
        )
    except pagination.BadPage as error:
        raise BadInput("before", str(error)) from error


@action("schedule.pause", "operator", in_transaction=False)
def pause_schedule(actor: Who, task: str, reason: str | None = None, until: datetime | None = None) -> Outcome[None]:
    """Let the clock start nothing of this task, until an instant or until the schedule is resumed."""
    queue, name = schedule_named(task)
    if until and until <= now():
        raise BadInput("until", _("an instant in the future is needed"))
    schedules.pause(queue, name, by=actor.asker, reason=reason, until=until)
    return Outcome(target=name, after={"reason": reason, "until": until and until.isoformat()})


@action("schedule.resume", "operator", in_transaction=False)
def resume_schedule(actor: Who, task: str) -> Outcome[bool]:
    """Let the clock start this task again; gives back whether the schedule was paused."""
    queue, name = schedule_named(task)
    return Outcome(schedules.resume(queue, name), name)


@action("schedule.run", "operator", in_transaction=False)
def run_scheduled(actor: Who, task: str) -> Outcome[Result]:
    """Run a scheduled task once, now, as the clock would; gives back the run's handle."""
    _, name = schedule_named(task)
    result = run_task(tasks.queues, name, by=actor.asker)
    return Outcome(result, name, after={"run": result.id})


@action("schedule.catch_up", "operator", in_transaction=False)
def catch_up_schedule(actor: Who, task: str) -> Outcome[Result]:
    """Run once for the newest tick that was missed; gives back the run's handle."""
    _, name = schedule_named(task)
    result = schedules.catch_up(tasks.queues, name, actor.asker)
    return Outcome(result, name, after={"run": result.id})


def schedule_named(name: str) -> tuple[Queue, str]:
    """The queue and the bare name of a task that the clock starts. Raises UnknownTask and BadInput."""
    queue, task = registered_tasks.find(tasks.queues, name)
    if task.schedule is None:
        raise BadInput("task", _("%(task)s has no schedule", task=task.__name__))
    return queue, task.__name__


def get_schedule(task: str) -> TaskFacts:
    return next((task_facts for task_facts in scheduled() if task_facts.name == task), None) or abort(
        404, _("The clock starts no task of this name.")
    )
