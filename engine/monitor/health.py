"""Problems of the engine, for the overview, the metrics and the alert watcher."""

from collections import Counter
from datetime import datetime, timedelta
from typing import NamedTuple

from engine.database import database
from engine.exceptions import BrokerUnavailable
from engine.history.run_counts import MINUTE, full_minute, sql_literals, window_start
from engine.models import Consumer, State
from engine.monitor import consumers as consumer_status
from engine.monitor import status
from engine.monitor.consumers import LEASE_TIME
from engine.monitor.status import MissedTicks
from engine.queues.queue import Queues

#: A dead consumer without a replacement is reported for this long. A missed tick is reported for a day.
LOST_WINDOW = max(timedelta(minutes=15), 3 * LEASE_TIME)
MISSED_WINDOW = timedelta(hours=24)


class HealthReport(NamedTuple):
    """The engine at one time. While the broker is unavailable, `queues` and `dead` are empty."""

    as_of: datetime
    consumers: list[Consumer]  # running, or lost a short while ago; in an order that no heartbeat changes
    queues: list[status.QueueStatus]
    lags: dict[str, timedelta]  # queues with schedules: time since a scheduler last checked
    missed: list[MissedTicks]
    dropped: int  # events that were never stored
    rejected: int  # events and other values of the broker that were set aside
    loudest: tuple[str, int] | None  # the error group with the most failures in the last hour, and their number
    dead: dict[str, int]  # stored messages of dead runs, by queue
    broker: BrokerUnavailable | None

    @property
    def unserved(self) -> list[status.QueueStatus]:
        return [queue for queue in self.queues if queue.wanted and not queue.live]

    @property
    def late(self) -> list[str]:
        return [name for name, lag in self.lags.items() if lag > status.SCHEDULE_LATE_AFTER]


def check_health(queues: Queues, as_of: datetime) -> HealthReport:
    recorded = consumer_status.list_consumers()
    replaced = consumer_status.find_replacements(recorded, as_of)
    recent = [consumer for consumer in recorded if consumer.id not in replaced and is_recent(consumer, as_of)]
    consumers = sorted(recent, key=lambda consumer: (consumer.queue, consumer.id))
    troubles = status.load_problems(as_of - MISSED_WINDOW, window_start(as_of, 1))
    lags = status.scheduler_lags(queues, consumers)
    facts = HealthReport(
        as_of, consumers, [], lags, troubles.missed, troubles.dropped, troubles.rejected, troubles.loudest, {}, None
    )
    try:
        return facts._replace(
            queues=status.queue_statuses(queues, consumers),
            dead={name: queue.storage.dead_letters.count() for name, queue in queues.items()},
        )
    except BrokerUnavailable as error:
        return facts._replace(broker=error)


def is_recent(consumer: Consumer, as_of: datetime) -> bool:
    """True if it runs, or was lost a short while ago without a shutdown."""
    return consumer.state(as_of, LEASE_TIME) != "stopped" and as_of - consumer.beat_at < LOST_WINDOW


class Rate(NamedTuple):
    """Failed and dead runs among those that ended on their own."""

    failed: int
    finished: int

    @property
    def percent(self) -> float:
        return 100 * self.failed / self.finished if self.finished else 0.0


def failure_rates(as_of: datetime, over: timedelta = timedelta(hours=1)) -> dict[str, Rate]:
    """Return the rate of each task that ended a run in this time, including the minute of `as_of`. One statement."""
    counts: dict[str, Counter[str]] = {}
    rows = database.execute_sql(
        f"SELECT task, what, SUM(count) FROM dewey_run_counts WHERE span = {MINUTE}"
        f" AND what IN {sql_literals((State.SUCCEEDED, State.FAILED, State.DEAD))} AND start >= {database.param}"
        " GROUP BY task, what",
        [int((full_minute(as_of) - over).timestamp())],
    ).fetchall()
    for task, what, count in rows:
        counts.setdefault(task, Counter())[what] += int(count)
    return {task: failure_rate(outcomes) for task, outcomes in sorted(counts.items())}


def failure_rate(counts: Counter[str]) -> Rate:
    failed = counts[State.FAILED] + counts[State.DEAD]
    return Rate(failed, counts[State.SUCCEEDED] + failed)
