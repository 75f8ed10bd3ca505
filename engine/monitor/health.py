"""What is wrong with the engine, if anything: asked by the overview, by the metrics and by whoever watches."""

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

#: A consumer that died and was not replaced is lost for so long; a missed tick is news for a day.
LOST_WINDOW = max(timedelta(minutes=15), 3 * LEASE_TIME)
MISSED_WINDOW = timedelta(hours=24)


class HealthReport(NamedTuple):
    """The engine at one instant. Without the broker `queues` is empty, and `dead` says nothing."""

    as_of: datetime
    consumers: list[Consumer]  # that serve, or fell silent a short while ago; in an order no heartbeat changes
    queues: list[status.QueueStatus]
    lags: dict[str, timedelta]  # of queues with a clock: since when nobody has looked at it
    missed: list[MissedTicks]
    dropped: int  # events that never became history
    loudest: tuple[str, int] | None  # of the last hour: the group of errors that came most often, and how often
    dead: dict[str, int]  # messages kept of runs that died, by queue
    broker: BrokerUnavailable | None

    @property
    def unserved(self) -> list[status.QueueStatus]:
        return [queue for queue in self.queues if queue.wanted and not queue.live]

    @property
    def late(self) -> list[str]:
        """Queues whose schedule nobody looks at."""
        return [name for name, lag in self.lags.items() if lag > status.SCHEDULE_LATE_AFTER]


def check_health(queues: Queues, as_of: datetime) -> HealthReport:
    """Two questions to the database, and a few to the broker; without the broker the rest is worth knowing."""
    recorded = consumer_status.list_consumers()
    replaced = consumer_status.find_replacements(recorded, as_of)
    recent = [consumer for consumer in recorded if consumer.id not in replaced and is_recent(consumer, as_of)]
    consumers = sorted(recent, key=lambda consumer: (consumer.queue, consumer.id))
    troubles = status.load_problems(as_of - MISSED_WINDOW, window_start(as_of, 1))
    lags = status.scheduler_lags(queues, consumers)
    facts = HealthReport(as_of, consumers, [], lags, troubles.missed, troubles.dropped, troubles.loudest, {}, None)
    try:
        return facts._replace(
            queues=status.queue_statuses(queues, consumers),
            dead={name: queue.storage.dead_letters.count() for name, queue in queues.items()},
        )
    except BrokerUnavailable as error:
        return facts._replace(broker=error)


def is_recent(consumer: Consumer, as_of: datetime) -> bool:
    """It serves, or fell silent a short while ago without saying goodbye."""
    return consumer.state(as_of, LEASE_TIME) != "stopped" and as_of - consumer.beat_at < LOST_WINDOW


class Rate(NamedTuple):
    """Of runs that came to an end by themselves: how many failed or died, of how many."""

    failed: int
    finished: int

    @property
    def percent(self) -> float:
        return 100 * self.failed / self.finished if self.finished else 0.0


def failure_rates(as_of: datetime, over: timedelta = timedelta(hours=1)) -> dict[str, Rate]:
    """Of each task that ended anything in this time, the minute of `as_of` included. One statement."""
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
