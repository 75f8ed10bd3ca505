"""What somebody should look at: who is missing, late or silent, what is paused, missed, dead or lost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import tasks
from admin.problems import trouble_in_words
from engine import dead_letters, inspect, roster, schedules
from engine.counts import Totals, window_start
from engine.inspect import LEASE, Missed, QueueFacts
from engine.queues import BrokerAway
from engine.records import State, WorkerProcess

#: A consumer that died and was not replaced is shown as lost for so long; a missed tick is news for a day.
LOST_IS_NEWS = max(timedelta(minutes=15), 3 * LEASE)
MISSED_IS_NEWS = timedelta(hours=24)

#: Failures jump when there are so many in the last hour, of so many runs, and so many times the week's share.
JUMP_RUNS, JUMP_SHARE, JUMP_TIMES = 5, 0.05, 3


class Pause(NamedTuple):
    """`info`: by, kind, at, reason."""

    name: str
    queue: str
    info: Mapping[str, Any]


class Jump(NamedTuple):
    """Failed runs, and all that came to an end by themselves: in the last hour, and in the week."""

    failed: int
    finished: int
    failed_before: int
    finished_before: int
    group: str | None = None  # of errors, where most of them are alike


@dataclass
class Attention:
    """All empty on a good day."""

    broker: str | None = None
    unserved: list[QueueFacts] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # queues whose schedule nobody looks at
    silent: list[WorkerProcess] = field(default_factory=list)
    dead: int = 0  # messages kept of runs that died
    jump: Jump | None = None
    missed: list[Missed] = field(default_factory=list)
    dropped: int = 0
    queues: list[Pause] = field(default_factory=list)
    tasks: list[Pause] = field(default_factory=list)
    schedules: list[Pause] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many notices it makes."""
        single = (self.broker, self.unserved, self.silent, self.dead, self.jump, self.dropped)
        listed = (self.late, self.missed, self.queues, self.tasks, self.schedules)
        return sum(map(bool, single)) + sum(map(len, listed))

    @property
    def urgent(self) -> bool:
        """Something does not run that should, or fails that should not."""
        return any((self.broker, self.unserved, self.late, self.dead, self.jump))


@dataclass
class Engine:
    """The queues and those who serve them, at one instant."""

    workers: list[WorkerProcess]
    queues: list[QueueFacts]
    attention: Attention


def look(as_of: datetime, hour: Totals, week: Totals) -> Engine:
    """Two questions to the database, and a few to the broker; without the broker the rest is worth seeing."""
    known = inspect.workers()
    heirs = roster.replacements(known, as_of)
    # In an order that a heartbeat does not change.
    workers = sorted(
        (one for one in known if one.id not in heirs and is_news(one, as_of)), key=lambda one: (one.queue, one.id)
    )
    troubles = inspect.troubles(as_of - MISSED_IS_NEWS, window_start(as_of, 1))
    attention = Attention(
        late=inspect.unwatched(tasks.queues, workers),
        jump=jump(hour, week),
        missed=troubles.missed,
        dropped=troubles.dropped,
    )
    if attention.jump and troubles.loudest and 2 * troubles.loudest[1] >= attention.jump.failed:
        attention.jump = attention.jump._replace(group=troubles.loudest[0])
    try:
        queues = inspect.queue_facts(tasks.queues, workers)
        attention.dead = dead_letters.count(tasks.queues)
        note_pauses(attention, as_of)
    except BrokerAway as error:
        queues, attention.broker = [], trouble_in_words(error)
    served = [queue.name for queue in queues if queue.live]
    attention.unserved = [queue for queue in queues if queue.wanted and not queue.live]
    attention.silent = [one for one in workers if one.state(as_of, LEASE) != "live" and one.queue in served]
    return Engine(workers, queues, attention)


def is_news(worker: WorkerProcess, as_of: datetime) -> bool:
    """It serves, or fell silent a short while ago without saying goodbye."""
    return worker.state(as_of, LEASE) != "stopped" and as_of - worker.beat_at < LOST_IS_NEWS


def note_pauses(attention: Attention, as_of: datetime) -> None:
    for name, queue in tasks.queues.items():
        pauses = queue.pauses()
        for target, info in sorted(pauses.items()):
            if not target:
                attention.queues.append(Pause(name, name, info))
            elif not target.startswith(schedules.PREFIX):
                attention.tasks.append(Pause(target, name, info))
            elif schedules.holds(info, as_of):
                attention.schedules.append(Pause(target.removeprefix(schedules.PREFIX), name, info))


def jump(hour: Totals, week: Totals) -> Jump | None:
    """Whether failures of the last hour stand out from the week before it."""
    finished, failed = finished_of(hour), hour.failed
    before = Jump(failed, finished, week.failed - failed, finished_of(week) - finished)
    if failed < JUMP_RUNS or failed < JUMP_SHARE * finished:
        return None
    usual = before.failed_before / before.finished_before if before.finished_before else 0
    return before if failed >= JUMP_TIMES * usual * finished else None


def finished_of(totals: Totals) -> int:
    """Runs that came to an end by themselves: neither cancelled nor expired."""
    return totals.counts[State.SUCCEEDED] + totals.failed
