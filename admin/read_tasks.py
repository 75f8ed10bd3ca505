"""What programs ask about tasks and schedules: as the code has them, and how they have fared."""

import inspect as python
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from admin import schedule_rows, tasks_page
from admin.cron import in_words
from admin.problems import BadInput
from admin.reads import Cursor, Limit, read
from admin.schedule import known as known_schedule
from engine import inspect, paging
from engine.counts import RETRIED, Percentiles
from engine.records import Tick, now
from engine.schedules import TICK_STATES
from tasks import queues


class TaskParameter(NamedTuple):
    """`type` as the code has it; `default` where it is not required."""

    name: str
    type: str | None
    required: bool
    default: Any


class Week(NamedTuple):
    """Runs that ended since then; durations in ms."""

    since: datetime
    runs: int
    failed: int
    retried: int
    waited: Percentiles | None
    ran: Percentiles | None


class Task(NamedTuple):
    """Limits in seconds, 0 for none. `paused`: by whom, when and why."""

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


@read("tasks.list", "/tasks")
def tasks() -> Tasks:
    """The registered tasks."""
    return Tasks(rows_of(inspect.registered(queues)))


@read("tasks.show", "/tasks/{name}")
def task(name: str) -> Task:
    """One task, by its bare name, tasks.NAME or app.tasks.NAME."""
    return rows_of([tasks_page.known(name)])[0]


def rows_of(facts: list[inspect.TaskFacts]) -> list[Task]:
    rows, _trouble = tasks_page.rows_of(facts, now())
    return [task_of(row) for row in rows]


def task_of(row: tasks_page.Row) -> Task:
    one, week = row.task, row.week
    return Task(
        task=one.name,
        queue=one.queue,
        doc=one.doc,
        priority=one.priority,
        retries=one.retries,
        retry_delay=one.retry_delay,
        retry_backoff=one.retry_backoff,
        schedule=one.schedule,
        soft_limit=one.soft_limit,
        hard_limit=one.hard_limit,
        rate_limit=one.rate_limit or None,
        unique=one.unique,
        parameters=[parameter_of(parameter) for parameter in one.parameters],
        paused=row.pause,
        week=Week(week.since, week.ended, week.failed, week.counts[RETRIED], row.waited, row.ran),
    )


def parameter_of(one: python.Parameter) -> TaskParameter:
    bare = one.annotation is one.empty
    kind = None if bare else python.formatannotation(one.annotation)
    required = one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    return TaskParameter(str(one.name), kind, required, None if one.default is one.empty else one.default)


# --- schedules -----------------------------------------------------------------------------------------------


@read("schedule.list", "/schedule")
def schedule() -> Schedules:
    """What the clock starts: when it is due next, who holds it back, and what it missed."""
    return Schedules(schedules_of(schedule_rows.scheduled()))


@read("schedule.show", "/schedule/{task}")
def schedule_one(task: str) -> Schedule:
    """One schedule."""
    return schedules_of([known_schedule(task)])[0]


def schedules_of(facts: list[inspect.TaskFacts]) -> list[Schedule]:
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
    rows = Tick.select().where(Tick.task == known_schedule(task).name)
    try:
        return Ticks(
            *paging.page(rows.where(Tick.state == state) if state else rows, Tick.due_at, Tick.task, limit, before)
        )
    except paging.BadPage as error:
        raise BadInput("before", str(error)) from error
