"""What becomes of each tick of a schedule: enqueued, late, missed or paused.

A pause of a schedule lies with the broker beside those of queues and tasks, under a name that no task can have. Unlike
those it keeps nothing from being handed out: the scheduler reads it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

ENQUEUED, LATE, MISSED, PAUSED = TICK_STATES = ("enqueued", "late", "missed", "paused")

PREFIX = "schedule:"
Info = Mapping[str, Any]
#: After a long absence only the newest ticks are recorded: a year has half a million minutes.
MAX_TICKS = 1000


# --- pauses --------------------------------------------------------------------------------------------------


def pause_key(task: str) -> str:
    return PREFIX + task


def find_pause(pauses: Mapping[str, Info], task: str, at: datetime) -> Info | None:
    """The pause that holds this task's schedule back at `at` (aware): by, kind, at, reason, until.

    `until` is None for a pause that lasts until somebody resumes it. None is returned once a pause has ended.
    """
    info = pauses.get(pause_key(task))
    return info if info and is_active(info, at) else None


def is_active(info: Info, at: datetime) -> bool:
    return not info.get("until") or at < datetime.fromisoformat(info["until"])


# --- ticks ---------------------------------------------------------------------------------------------------


class TickOutcome(NamedTuple):
    """What becomes of a tick. `minute` counts from 1970, as the broker counts them."""

    minute: int
    state: str


def classify_ticks(due: Sequence[int], minute: int, catch_up: bool, info: Info | None) -> list[TickOutcome]:
    """What becomes of the minutes `due`, oldest first, none of which has been looked at before; it is `minute` now.

    At most the last one starts a run: where it is `enqueued` or `late`. `info` is the schedule's pause as it is kept,
    ended or not: the ticks that it held back are `find_pause`, not `missed`.
    """
    held = info is not None and is_active(info, to_datetime(minute))
    outcomes = []
    for due_minute in due[-MAX_TICKS:]:
        if info and pause_covers_minute(info, due_minute):
            state = PAUSED
        elif due_minute != due[-1] or held:
            state = MISSED
        elif due_minute == minute:
            state = ENQUEUED
        else:
            state = LATE if catch_up else MISSED
        outcomes.append(TickOutcome(due_minute, state))
    return outcomes


def pause_covers_minute(info: Info, minute: int) -> bool:
    """A pause holds back the whole of the minute in which it begins: that tick may not have been let in yet."""
    began = int(datetime.fromisoformat(info["at"]).timestamp()) // 60
    return began <= minute and is_active(info, to_datetime(minute))


def to_datetime(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
