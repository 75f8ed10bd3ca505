"""The last runs and ticks of a scheduled task, and their delays."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from peewee import Model, fn

from engine.database import database
from engine.models import Run, Tick
from engine.queues.ticks import ENQUEUED, LATE, MISSED

Row = TypeVar("Row", bound=Model)

MAX_RUNS = 30
#: Newest ticks to load per task. Most of them belong to the loaded runs.
MAX_TICKS = 100


class ScheduleHistory(NamedTuple):
    """The newest runs and ticks of a task, newest first. Number and newest time of its missed and late ticks."""

    runs: list[Run]
    ticks: list[Tick]
    counts: dict[str, int]
    newest: dict[str, datetime]

    @property
    def to_catch_up(self) -> datetime | None:
        missed, late = self.newest.get(MISSED), self.newest.get(LATE)
        return missed if missed and not (late and late > missed) else None


def load_histories(tasks: Sequence[str]) -> dict[str, ScheduleHistory]:
    histories = {task: ScheduleHistory([], [], {}, {}) for task in tasks}
    if not tasks:
        return histories
    for run in load_newest(Run, tasks, "enqueued_at DESC, id DESC", MAX_RUNS):
        histories[run.task].runs.append(run)
    for tick in load_newest(Tick, tasks, "due_at DESC", MAX_TICKS):
        histories[tick.task].ticks.append(tick)
    irregular = Tick.task.in_(list(tasks)) & Tick.state.in_((MISSED, LATE))
    counted = Tick.select(Tick.task, Tick.state, fn.COUNT(Tick.due_at), fn.MAX(Tick.due_at)).where(irregular)
    rows: Any = counted.group_by(Tick.task, Tick.state).tuples()
    for task, state, count, newest in rows:
        histories[task].counts[state], histories[task].newest[state] = count, newest
    return histories


def start_delays(past: ScheduleHistory) -> dict[str, float]:
    """Return by run the start delay after its tick, in ms. Late ticks and manual runs are left out."""
    ticks = {tick.run_id: tick for tick in past.ticks if tick.run_id}
    delays = {}
    for run in past.runs:
        tick = ticks.get(run.id)
        # A tick older than those loaded: the run was enqueued within its minute, unless it was caught up.
        due = tick.due_at if tick else run.enqueued_at.replace(second=0, microsecond=0)
        by_clock = tick.state == ENQUEUED if tick else run.asked_by_kind == "schedule"
        if by_clock and run.started_at:
            delays[run.id] = (run.started_at - due).total_seconds() * 1000
    return delays


def overlapping_runs(past: ScheduleHistory, at: datetime) -> set[str]:
    overlaps, free_at = set(), None
    for run in sorted((run for run in past.runs if run.started_at), key=lambda run: run.started_at):
        if free_at and run.started_at < free_at:
            overlaps.add(run.id)
        end = run.ended_at or at
        free_at = max(free_at, end) if free_at else end
    return overlaps


def load_newest(model: type[Row], tasks: Iterable[str], order: str, limit: int) -> Iterable[Row]:
    table, columns = model._meta.table_name, ", ".join(sorted(LIST_COLUMNS[model]))
    newest = f"SELECT {columns} FROM {table} WHERE task = {database.param} ORDER BY {order} LIMIT {limit}"
    names = list(tasks)
    sql = " UNION ALL ".join(f"SELECT * FROM ({newest}) AS t{number}" for number in range(len(names)))
    rows: Iterable[Row] = model.raw(sql, *names)
    return rows


#: Columns for a page of schedules. Arguments and results are left out, as they may be long.
LIST_COLUMNS: dict[type[Model], tuple[str, ...]] = {
    Run: (
        "id", "task", "state", "asked_by_kind", "asked_by", "enqueued_at", "due_at", "started_at", "ended_at",
        "wait_ms", "run_ms", "error",
    ),
    Tick: ("task", "due_at", "state", "run_id"),
}  # fmt: skip
