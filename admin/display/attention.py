"""Problems for the overview: missing consumers, pauses, missed ticks, dead runs, failures."""

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import tasks
from admin.problems import outage_text
from config import settings
from engine.exceptions import BrokerUnavailable
from engine.history.run_counts import WindowTotals
from engine.models import Consumer, State
from engine.monitor import health
from engine.monitor.consumers import LEASE_TIME
from engine.monitor.status import MissedTicks, QueueStatus
from engine.queues import ticks

#: Thresholds of a failure spike: failures in the last hour, runs in the last hour, factor over the week's share.
JUMP_RUNS, JUMP_SHARE, JUMP_TIMES = 5, 0.05, 3


class PausedTask(NamedTuple):
    """A paused task. `info`: by, kind, at, reason."""

    name: str
    queue: str
    info: Mapping[str, object]


class FailureSpike(NamedTuple):
    """Failed and finished runs, in the last hour and in the week."""

    failed: int
    finished: int
    failed_before: int
    finished_before: int
    group: str | None = None  # of errors, if most failures belong to one


@dataclass
class Attention:
    """Problems by kind. All fields are empty if there are none."""

    broker: str | None = None
    unserved: list[QueueStatus] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # queues without a running scheduler
    stale_schedules: list[Consumer] = field(default_factory=list)
    dead: int = 0  # stored messages of dead runs
    spike: FailureSpike | None = None
    behind: list[QueueStatus] = field(default_factory=list)  # served, but the oldest run has waited too long
    abandoned: int = 0  # abandoned sessions above the threshold
    missed: list[MissedTicks] = field(default_factory=list)
    dropped: int = 0
    queues: list[PausedTask] = field(default_factory=list)
    tasks: list[PausedTask] = field(default_factory=list)
    schedules: list[PausedTask] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Return the number of notices."""
        single: tuple[object, ...] = (
            self.broker,
            self.unserved,
            self.stale_schedules,
            self.dead,
            self.spike,
            self.dropped,
            self.abandoned,
        )
        listed: tuple[Sized, ...] = (self.late, self.behind, self.missed, self.queues, self.tasks, self.schedules)
        return sum(map(bool, single)) + sum(map(len, listed))

    @property
    def urgent(self) -> bool:
        """True if something does not run or fails."""
        return any((self.broker, self.unserved, self.late, self.dead, self.spike))


@dataclass
class EngineStatus:
    """Queues and consumers at one instant."""

    workers: list[Consumer]
    queues: list[QueueStatus]
    attention: Attention


def load_attention(as_of: datetime, hour: WindowTotals, week: WindowTotals, abandoned: int) -> EngineStatus:
    """Return queues, consumers and problems. If the broker is unavailable, the rest is still filled in.

    The thresholds are those of the alerts, so no alert fires while the overview shows no problem.
    """
    facts = health.check_health(tasks.queues, as_of)
    attention = Attention(
        unserved=facts.unserved,
        late=facts.late,
        stale_schedules=silent_consumers(facts, as_of),
        dead=sum(facts.dead.values()),
        spike=jump_with_group(find_spike(hour, week), facts.loudest),
        behind=[queue for queue in facts.queues if queue.live and not queue.paused and waits_too_long(queue)],
        abandoned=abandoned if 0 < settings.alert_abandoned < abandoned else 0,
        missed=facts.missed,
        dropped=facts.dropped,
    )
    attention.broker = broker_trouble(facts.broker, attention, as_of)
    return EngineStatus(facts.consumers, facts.queues, attention)


def silent_consumers(facts: health.HealthReport, as_of: datetime) -> list[Consumer]:
    """Return consumers without a heartbeat whose queue has other live consumers."""
    served = [queue.name for queue in facts.queues if queue.live]
    return [
        consumer
        for consumer in facts.consumers
        if consumer.state(as_of, LEASE_TIME) != "live" and consumer.queue in served
    ]


def jump_with_group(spike: FailureSpike | None, loudest: tuple[str, int] | None) -> FailureSpike | None:
    """Add the error group that causes at least half of the failures. `loudest`: its id and count."""
    if spike and loudest and 2 * loudest[1] >= spike.failed:
        return spike._replace(group=loudest[0])
    return spike


def broker_trouble(error: Exception | None, attention: Attention, as_of: datetime) -> str | None:
    """Add the pauses stored in the broker. Return its error text if it is unavailable."""
    try:
        add_pauses(attention, as_of)
    except BrokerUnavailable as away:
        error = away
    return outage_text(error) if error else None


def waits_too_long(queue: QueueStatus) -> bool:
    return 0 < settings.alert_oldest_minutes * 60_000 < (queue.oldest_waiting_ms or 0)


def add_pauses(attention: Attention, as_of: datetime) -> None:
    for name, queue in tasks.queues.items():
        pauses = queue.pauses()
        for target, info in sorted(pauses.items()):
            if not target:
                attention.queues.append(PausedTask(name, name, info))
            elif not target.startswith(ticks.PREFIX):
                attention.tasks.append(PausedTask(target, name, info))
            elif ticks.is_active(info, as_of):
                attention.schedules.append(PausedTask(target.removeprefix(ticks.PREFIX), name, info))


def find_spike(hour: WindowTotals, week: WindowTotals) -> FailureSpike | None:
    """Return the failures of the last hour if they exceed the week's share by far, else None."""
    finished, failed = finished_count(hour), hour.failed
    before = FailureSpike(failed, finished, week.failed - failed, finished_count(week) - finished)
    if failed < JUMP_RUNS or failed < JUMP_SHARE * finished:
        return None
    usual = before.failed_before / before.finished_before if before.finished_before else 0
    return before if failed >= JUMP_TIMES * usual * finished else None


def finished_count(totals: WindowTotals) -> int:
    """Return the number of ended runs without cancelled and expired ones."""
    return totals.counts[State.SUCCEEDED] + totals.failed
