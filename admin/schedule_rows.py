"""A schedule as its pages show it: when it is due next, how its last runs went, who holds it back; and in words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from flask_babel import get_locale, ngettext
from flask_babel import gettext as _

import tasks
from admin import strips
from admin.console import blueprint
from admin.cron import in_words
from admin.figures import clock, duration
from admin.problems import trouble_in_words
from admin.words import asker, state_word
from engine import inspect, schedules
from engine.inspect import SCHEDULE_LATE, TaskFacts
from engine.queues import BrokerAway
from engine.records import WorkerProcess
from engine.schedules import LATE, MISSED, Past

NEXT = 5


@dataclass
class Row:
    """One schedule. `expression` is None where the code decides in its own way when it is due."""

    task: TaskFacts
    words: str | None
    next: list[datetime]
    pause: schedules.Info | None
    past: Past
    seen_at: datetime | None  # when a scheduler last looked at this queue's clock
    watched: bool
    marks: list[strips.Mark]
    drifts: list[float]
    overlapping: list[str]

    def holds(self, at: datetime) -> bool:
        """Whether the pause will hold this tick back."""
        return self.pause is not None and schedules.holds(self.pause, at)

    @property
    def goes_on_at(self) -> datetime | None:
        """The first tick after the pause's own end."""
        if not self.pause or not self.pause["until"]:
            return None
        end = datetime.fromisoformat(self.pause["until"])
        return next(iter(next_ticks(self.task.name, end - timedelta(microseconds=1), 1)), None)

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


def scheduled() -> list[TaskFacts]:
    """The tasks that the clock starts, by name."""
    return sorted((one for one in inspect.registered(tasks.queues) if one.periodic), key=lambda one: one.name)


def rows_of(facts: Sequence[TaskFacts], at: datetime) -> tuple[list[Row], str | None]:
    """And what is wrong with the broker, which then cannot tell of pauses."""
    workers = inspect.workers()
    pasts = schedules.pasts([one.name for one in facts])
    trouble = None
    try:
        pauses = {one.queue: tasks.queues[one.queue].pauses() for one in facts}
    except BrokerAway as error:
        pauses, trouble = {}, trouble_in_words(error)
    return [row_of(one, pasts[one.name], workers, pauses.get(one.queue, {}), at) for one in facts], trouble


def row_of(task: TaskFacts, past: Past, workers: list[WorkerProcess], pauses: Any, at: datetime) -> Row:
    drifts, overlapping = schedules.drifts(past), schedules.overlapping(past, at)
    seen = max((one.scheduler_at for one in workers if one.queue == task.queue and one.scheduler_at), default=None)
    return Row(
        task=task,
        words=task.schedule and in_words(task.schedule, str(get_locale() or "en")),
        next=next_ticks(task.name, at),
        pause=schedules.paused(pauses, task.name, at),
        past=past,
        seen_at=seen,
        watched=seen is not None and at - seen <= SCHEDULE_LATE,
        marks=strips.strip(past, drifts, overlapping, at),
        drifts=list(drifts.values()),
        overlapping=[run.id for run in past.runs if run.id in overlapping],
    )


def next_ticks(task: str, after: datetime, count: int = NEXT) -> list[datetime]:
    schedule = inspect.find(tasks.queues, task)[1].schedule
    found: list[datetime] = []
    while hasattr(schedule, "next") and len(found) < count:
        if (after := schedule.next(after)) is None:
            break
        found.append(after)
    return found


# --- words ---------------------------------------------------------------------------------------------------


@blueprint.app_template_filter("tick_state")
def tick_state(state: str, tab: bool = False) -> str:
    """What came of a tick, or of all that a tab holds."""
    words = {
        "all": _("All"),
        "enqueued": _("on time"),
        "late": _("made up for"),
        "missed": _("missed"),
        "paused": _("held back by a pause"),
    }
    tabs = {"enqueued": _("On time"), "late": _("Made up for"), "missed": _("Missed"), "paused": _("Paused")}
    return tabs.get(state, words[state]) if tab else words[state]


@blueprint.app_template_filter("minute")
def minute(at: datetime) -> str:
    """A tick: as `clock`, without the seconds that it never has."""
    return re.sub(r"^(\d\d:\d\d):\d\d$", r"\1", clock(at))


@blueprint.app_template_filter("mark_words")
def mark_words(mark: strips.Mark) -> str:
    """A bar of the strip in words."""
    if mark.run is None:
        return told_ticks(mark)
    run = mark.run
    parts = [state_word(run.state), clock(run.enqueued_at)]
    if run.run_ms is not None:
        parts.append(_("ran %(time)s", time=duration(run.run_ms)))
    if mark.drift_ms is not None:
        parts.append(_("started %(time)s after its tick", time=duration(mark.drift_ms)))
    if mark.overlaps:
        parts.append(_("while another one ran"))
    if run.asked_by_kind != "schedule":
        parts.append(_("asked by %(who)s", who=asker(run)))
    return " · ".join(parts)


def told_ticks(mark: strips.Mark) -> str:
    assert mark.due and mark.last
    first, last = minute(mark.due), minute(mark.last)
    if mark.ticks == 1:
        return " · ".join([tick_state(mark.state), first])
    count = ngettext("%(num)s tick", "%(num)s ticks", mark.ticks)
    return " · ".join([tick_state(mark.state), count, f"{first} – {last}"])
