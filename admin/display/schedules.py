"""Rows of the schedule pages: next ticks, last runs, pauses, and labels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import NamedTuple

from flask_babel import get_locale, ngettext
from flask_babel import gettext as _

import tasks
from admin.display import run_strip
from admin.display.cron_text import describe_cron
from admin.display.labels import requester_text, state_word
from admin.display.numbers import format_duration, short_timestamp
from admin.problems import outage_text
from engine.exceptions import BrokerUnavailable
from engine.models import Consumer, State
from engine.monitor import consumers, registered_tasks, schedule_history
from engine.monitor.registered_tasks import TaskInfo
from engine.monitor.schedule_history import ScheduleHistory
from engine.monitor.status import SCHEDULE_LATE_AFTER
from engine.queues import ticks
from engine.queues.ticks import LATE, MISSED

NEXT_SHOWN = 5

Pauses = Mapping[str, ticks.Info]


@dataclass
class ScheduleRow:
    """A schedule. `expression` is None if code decides when the task is due."""

    task: TaskInfo
    words: str | None
    next: list[datetime]
    pause: ticks.Info | None
    past: ScheduleHistory
    seen_at: datetime | None  # last check by a scheduler of this queue
    watched: bool
    strip: run_strip.Strip
    drifts: list[float]
    overlapping: list[str]

    def is_paused_at(self, at: datetime) -> bool:
        """True if this tick will be skipped by the pause."""
        return self.pause is not None and ticks.is_active(self.pause, at)

    @property
    def resumes_at(self) -> datetime | None:
        """Return the first tick after the end of the pause."""
        return first_tick_after(self.task.name, self.pause) if self.pause else None

    @property
    def missed(self) -> int:
        return self.past.counts.get(MISSED, 0)

    @property
    def late(self) -> int:
        return self.past.counts.get(LATE, 0)

    @property
    def usual_ms(self) -> float | None:
        ran = [run.run_ms for run in self.past.runs if run.run_ms is not None]
        return median(ran) if ran else None

    @property
    def longest_ms(self) -> float | None:
        return max((run.run_ms for run in self.past.runs if run.run_ms is not None), default=None)

    @property
    def drift_ms(self) -> float | None:
        return median(self.drifts) if self.drifts else None


def scheduled_tasks() -> list[TaskInfo]:
    """Return the scheduled tasks, by name."""
    return sorted(
        (fact for fact in registered_tasks.list_tasks(tasks.queues) if fact.periodic), key=lambda fact: fact.name
    )


def load_pauses(facts: Sequence[TaskInfo]) -> tuple[dict[str, Pauses], str | None]:
    """Return the pauses by queue, and the error text if the broker is unavailable."""
    try:
        return {queue: tasks.queues[queue].pauses() for queue in {fact.queue for fact in facts}}, None
    except BrokerUnavailable as error:
        return {}, outage_text(error)


def schedule_rows(facts: Sequence[TaskInfo], pauses: Mapping[str, Pauses], at: datetime) -> list[ScheduleRow]:
    workers = consumers.list_consumers()
    pasts = schedule_history.load_histories([fact.name for fact in facts])
    return [schedule_row(fact, pasts[fact.name], workers, pauses.get(fact.queue, {}), at) for fact in facts]


def schedule_row(
    task: TaskInfo, past: ScheduleHistory, workers: list[Consumer], pauses: Pauses, at: datetime
) -> ScheduleRow:
    drifts, overlapping = schedule_history.start_delays(past), schedule_history.overlapping_runs(past, at)
    seen = max(
        (worker.scheduler_at for worker in workers if worker.queue == task.queue and worker.scheduler_at), default=None
    )
    return ScheduleRow(
        task=task,
        words=task.schedule and describe_cron(task.schedule, str(get_locale() or "en")),
        next=next_ticks(task.name, at),
        pause=ticks.find_pause(pauses, task.name, at),
        past=past,
        seen_at=seen,
        watched=seen is not None and at - seen <= SCHEDULE_LATE_AFTER,
        strip=run_strip.build_strip(past, drifts, overlapping, at),
        drifts=list(drifts.values()),
        overlapping=[run.id for run in past.runs if run.id in overlapping],
    )


def next_ticks(task: str, after: datetime, count: int = NEXT_SHOWN) -> list[datetime]:
    schedule = registered_tasks.find_task(tasks.queues, task)[1].schedule
    due: list[datetime] = []
    while hasattr(schedule, "next") and len(due) < count:
        if (after := schedule.next(after)) is None:
            break
        due.append(after)
    return due


def first_tick_after(task: str, pause: ticks.Info) -> datetime | None:
    """Return the first tick after the end of the pause."""
    if not pause["until"]:
        return None
    end = datetime.fromisoformat(pause["until"])
    return next(iter(next_ticks(task, end - timedelta(microseconds=1), 1)), None)


# --- what comes next -----------------------------------------------------------------------------------------


class UpcomingTick(NamedTuple):
    """The next tick of a schedule that starts a run."""

    at: datetime
    task: str


class UpcomingTicks(NamedTuple):
    """The next ticks, soonest first; the number of further ones, and of paused ones."""

    coming: list[UpcomingTick]
    remaining: int
    held: int


def upcoming_ticks(facts: Sequence[TaskInfo], pauses: Mapping[str, Pauses], at: datetime, limit: int) -> UpcomingTicks:
    held_count, coming = 0, []
    for fact in facts:
        pause = ticks.find_pause(pauses.get(fact.queue, {}), fact.name, at)
        due = first_tick_after(fact.name, pause) if pause else next(iter(next_ticks(fact.name, at, 1)), None)
        held_count += bool(pause and not due)
        if due:
            coming.append(UpcomingTick(due, fact.name))
    coming.sort()
    return UpcomingTicks(coming[:limit], len(coming[limit:]), held_count)


# --- words ---------------------------------------------------------------------------------------------------


def tick_label(state: str, tab: bool = False) -> str:
    """Return the label of a tick state, also used for tabs."""
    words = {
        "all": _("All"),
        "enqueued": _("on time"),
        "late": _("caught up"),
        "missed": _("missed"),
        "paused": _("skipped while paused"),
    }
    tabs = {"enqueued": _("On time"), "late": _("Caught up"), "missed": _("Missed"), "paused": _("Paused")}
    return tabs.get(state, words[state]) if tab else words[state]


def format_minute(at: datetime) -> str:
    """Return a tick as `short_timestamp` without seconds."""
    return re.sub(r"^(\d\d:\d\d):\d\d$", r"\1", short_timestamp(at))


def format_minute_utc(at: datetime) -> str:
    """Return a tick in ISO 8601, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


def bar_label(bar: run_strip.StripBar, whole: bool = True) -> str:
    """Return the label of a bar. With `whole` false, details of normal runs are left out."""
    if bar.run is None:
        return tick_counts(bar)
    run = bar.run
    parts = [state_word(run.state)] if whole or run.state != State.SUCCEEDED else []
    parts.append(short_timestamp(run.enqueued_at) if whole else format_minute(run.enqueued_at))
    if run.run_ms is not None:
        parts.append(_("ran %(time)s", time=format_duration(run.run_ms)) if whole else format_duration(run.run_ms))
    if bar.drift_ms is not None:
        late = format_duration(bar.drift_ms)
        parts.append(_("started %(time)s after the tick", time=late) if whole else f"+{late}")
    if bar.overlaps and whole:
        parts.append(_("while another run was in progress"))
    if run.asked_by_kind != "schedule" and whole:
        parts.append(_("requested by %(who)s", who=requester_text(run)))
    return " · ".join(parts)


def tick_counts(bar: run_strip.StripBar) -> str:
    assert bar.due and bar.last
    first, last = format_minute(bar.due), format_minute(bar.last)
    if bar.ticks == 1:
        return " · ".join([tick_label(bar.state), first])
    count = ngettext("%(num)s tick", "%(num)s ticks", bar.ticks)
    return " · ".join([tick_label(bar.state), count, f"{first} – {last}"])
