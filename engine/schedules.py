"""Schedules: holding them back, what becomes of each tick, making up for a missed one, and what the last runs came to.

A pause of a schedule lies with the broker beside those of queues and tasks, under a name that no task can have. Unlike
those it keeps nothing from being handed out: it is the clock that heeds it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from huey.api import Result
from peewee import fn

from engine.control import NotPossible, run_task
from engine.database import database
from engine.inspect import Queues, find
from engine.messages import Asker
from engine.queues import Queue
from engine.records import Run, Tick, now

ENQUEUED, LATE, MISSED, PAUSED = TICK_STATES = ("enqueued", "late", "missed", "paused")

PREFIX = "schedule:"
Info = Mapping[str, Any]

RUNS_SHOWN = 30
#: Beside those runs, as many of the newest ticks are looked at: most of them belong to the runs.
TICKS_SHOWN = 100
#: Of a long absence, only so many ticks are told: a year has half a million minutes.
MOST_TOLD = 1000


# --- pauses --------------------------------------------------------------------------------------------------


def target(task: str) -> str:
    return PREFIX + task


def paused(pauses: Mapping[str, Info], task: str, at: datetime) -> Info | None:
    """The pause that holds this task's schedule back at `at` (aware): by, kind, at, reason, until.

    `until` is None for a pause that lasts until somebody resumes it. None is returned once a pause has ended.
    """
    info = pauses.get(target(task))
    return info if info and holds(info, at) else None


def holds(info: Info, at: datetime) -> bool:
    return not info.get("until") or at < datetime.fromisoformat(info["until"])


def pause(queue: Queue, task: str, *, by: Asker, reason: str | None = None, until: datetime | None = None) -> Info:
    """Let no tick of this task in until `until` (aware), or until somebody resumes it. What waits or runs goes on."""
    at = now()
    if until and until <= at:
        raise NotPossible("The end of a pause lies in the future.")
    end = until and until.astimezone(UTC).isoformat()
    info = {"by": by.name, "kind": by.kind, "at": at.isoformat(), "reason": reason, "until": end}
    queue.storage.pause(target(task), info)
    return info


def resume(queue: Queue, task: str) -> bool:
    """Returns whether it was paused."""
    was = paused(queue.pauses(), task, now())
    queue.storage.resume(target(task))
    return was is not None


# --- ticks ---------------------------------------------------------------------------------------------------


class Fate(NamedTuple):
    """What becomes of a tick. `minute` counts from 1970, as the broker counts them."""

    minute: int
    state: str


def fates(due: Sequence[int], minute: int, catch_up: bool, info: Info | None) -> list[Fate]:
    """What becomes of the minutes `due`, oldest first, none of which has been looked at before; it is `minute` now.

    At most the last one starts a run: where it is `enqueued` or `late`. `info` is the schedule's pause as it is kept,
    ended or not: its ticks were held back, and nobody missed them.
    """
    held = info is not None and holds(info, instant(minute))
    told = []
    for one in due[-MOST_TOLD:]:
        if info and covers(info, one):
            state = PAUSED
        elif one != due[-1] or held:
            state = MISSED
        elif one == minute:
            state = ENQUEUED
        else:
            state = LATE if catch_up else MISSED
        told.append(Fate(one, state))
    return told


def covers(info: Info, minute: int) -> bool:
    """A pause holds back the whole of the minute in which it begins: that tick may not have been let in yet."""
    began = int(datetime.fromisoformat(info["at"]).timestamp()) // 60
    return began <= minute and holds(info, instant(minute))


def instant(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


# --- catching up ---------------------------------------------------------------------------------------------


def catch_up(queues: Queues, name: str, by: Asker) -> Result:
    """Enqueue one run for the newest missed tick, which is `late` from then on. Raises UnknownTask and NotPossible.

    The tick is claimed first, so that two who ask at once make one run. Who dies in between leaves a late tick without
    a run; the other order would leave one that is made up for twice.
    """
    _, task_class = find(queues, name)
    tick = newest_missed(task_class.__name__)
    if tick is None:
        raise NotPossible("No tick of this schedule was missed, or the last one has been made up for.")
    here = (Tick.task == tick.task) & (Tick.due_at == tick.due_at)
    if not Tick.update(state=LATE).where(here & (Tick.state == MISSED)).execute():
        raise NotPossible("Somebody else is making up for this tick.")
    try:
        run = run_task(queues, name, by=by)
    except BaseException:
        Tick.update(state=MISSED).where(here & Tick.run_id.is_null()).execute()
        raise
    Tick.update(run_id=run.id).where(here).execute()
    return run


def newest_missed(task: str) -> Tick | None:
    """The missed tick to make up for: one run makes up for all before it, so none where a later one is `late`."""
    states = Tick.state.in_((MISSED, LATE))
    newest = Tick.select().where((Tick.task == task) & states).order_by(Tick.due_at.desc()).first()
    return newest if newest and newest.state == MISSED else None


# --- what was --------------------------------------------------------------------------------------------------


class Past(NamedTuple):
    """The newest runs and ticks of a task, newest first; and of its missed and late ticks how many, and the newest."""

    runs: list[Run]
    ticks: list[Tick]
    counts: dict[str, int]
    newest: dict[str, datetime]

    @property
    def to_catch_up(self) -> datetime | None:
        missed, late = self.newest.get(MISSED), self.newest.get(LATE)
        return missed if missed and not (late and late > missed) else None


def pasts(tasks: Sequence[str]) -> dict[str, Past]:
    """Of all these tasks, in three statements."""
    found = {task: Past([], [], {}, {}) for task in tasks}
    if not tasks:
        return found
    for run in newest_of(Run, tasks, "enqueued_at DESC, id DESC", RUNS_SHOWN):
        found[run.task].runs.append(run)
    for tick in newest_of(Tick, tasks, "due_at DESC", TICKS_SHOWN):
        found[tick.task].ticks.append(tick)
    counted = Tick.select(Tick.task, Tick.state, fn.COUNT(Tick.due_at), fn.MAX(Tick.due_at))
    here = Tick.task.in_(list(tasks)) & Tick.state.in_((MISSED, LATE))
    rows: list[Any] = list(counted.where(here).group_by(Tick.task, Tick.state).tuples())
    for task, state, count, newest in rows:
        found[task].counts[state], found[task].newest[state] = count, newest
    return found


def drifts(past: Past) -> dict[str, float]:
    """By run: how many milliseconds after its tick it started. Not of those that were late, or asked for by hand."""
    ticks = {tick.run_id: tick for tick in past.ticks if tick.run_id}
    found = {}
    for run in past.runs:
        tick = ticks.get(run.id)
        # One whose tick is not among the newest came in within its minute, unless it was made up for.
        due = tick.due_at if tick else run.enqueued_at.replace(second=0, microsecond=0)
        by_clock = tick.state == ENQUEUED if tick else run.asked_by_kind == "schedule"
        if by_clock and run.started_at:
            found[run.id] = (run.started_at - due).total_seconds() * 1000
    return found


def overlapping(past: Past, at: datetime) -> set[str]:
    """The runs that started before an earlier one had ended."""
    found, free_at = set(), None
    for run in sorted((run for run in past.runs if run.started_at), key=lambda run: run.started_at):
        if free_at and run.started_at < free_at:
            found.add(run.id)
        end = run.ended_at or at
        free_at = max(free_at, end) if free_at else end
    return found


def newest_of(model: Any, tasks: Iterable[str], order: str, limit: int) -> Any:
    """So many rows of each task, newest first, in one statement."""
    table, columns = model._meta.table_name, ", ".join(sorted(LEAN[model]))
    one = f"SELECT {columns} FROM {table} WHERE task = {database.param} ORDER BY {order} LIMIT {limit}"
    names = list(tasks)
    sql = " UNION ALL ".join(f"SELECT * FROM ({one}) AS t{place}" for place in range(len(names)))
    return model.raw(sql, *names)


#: What a page of schedules needs: neither arguments nor results, which may be long.
LEAN: dict[Any, tuple[str, ...]] = {
    Run: (
        "id", "task", "state", "asked_by_kind", "asked_by", "enqueued_at", "due_at", "started_at", "ended_at",
        "wait_ms", "run_ms", "error",
    ),
    Tick: ("task", "due_at", "state", "run_id"),
}  # fmt: skip
