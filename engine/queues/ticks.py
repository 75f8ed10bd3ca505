"""Outcomes of a schedule's ticks: enqueued, late, missed or paused.

The broker stores a pause of a schedule with those of queues and tasks, under a name that no task can have. It does not
stop deliveries. The scheduler reads it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

ENQUEUED, LATE, MISSED, PAUSED = TICK_STATES = ("enqueued", "late", "missed", "paused")

PREFIX = "schedule:"
Info = Mapping[str, Any]
#: After a long outage only the newest ticks are recorded. A year has half a million minutes.
MAX_TICKS = 1000


# --- pauses --------------------------------------------------------------------------------------------------


def pause_key(task: str) -> str:
    return PREFIX + task


def find_pause(pauses: Mapping[str, Info], task: str, at: datetime) -> Info | None:
    """Return this schedule's pause at `at` (aware): by, kind, at, reason, until (None: without an end)."""
    info = pauses.get(pause_key(task))
    return info if info and is_active(info, at) else None


def is_active(info: Info, at: datetime) -> bool:
    return not info.get("until") or at < datetime.fromisoformat(info["until"])


# --- ticks ---------------------------------------------------------------------------------------------------


class TickOutcome(NamedTuple):
    """The outcome of a tick. `minute` counts from 1970, like the broker's."""

    minute: int
    state: str


def classify_ticks(due: Sequence[int], minute: int, catch_up: bool, info: Info | None) -> list[TickOutcome]:
    """Return the outcomes of the `due` minutes, oldest first, which are checked for the first time. `minute` is now.

    Only the last one can start a run, as `enqueued` or `late`. `info` is the stored pause of the schedule, ended or
    not.
    Ticks within it are `paused`, not `missed`.
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
    """True if a pause covers this minute. The minute in which it begins counts: its tick may not be enqueued yet."""
    began = int(datetime.fromisoformat(info["at"]).timestamp()) // 60
    return began <= minute and is_active(info, to_datetime(minute))


def to_datetime(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
