"""What somebody should look at: consumers that are missing or silent, a late schedule, pauses, gaps in the history."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from peewee import fn

import tasks
from admin.problems import trouble_in_words
from config import settings
from engine import inspect
from engine.inspect import QueueFacts
from engine.queues import BrokerAway
from engine.records import HistoryCursor, WorkerProcess

LEASE = timedelta(seconds=settings.lease_seconds)

#: A consumer that died is shown as lost for so long.
LOST_IS_NEWS = max(timedelta(minutes=15), 3 * LEASE)


@dataclass
class Attention:
    """All empty on a good day."""

    broker: str | None = None
    unserved: list[QueueFacts] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    silent: list[WorkerProcess] = field(default_factory=list)
    paused: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    dropped: int = 0


@dataclass
class Engine:
    """The queues and those who serve them, at one instant."""

    workers: list[WorkerProcess]
    queues: list[QueueFacts]
    attention: Attention


def look(as_of: datetime) -> Engine:
    """Two questions to the database, and a few to the broker; without the broker the rest is worth seeing."""
    # In an order that a heartbeat does not change.
    workers = sorted((one for one in inspect.workers() if is_news(one, as_of)), key=lambda one: (one.queue, one.id))
    away = None
    try:
        queues = inspect.queue_facts(tasks.queues, workers)
    except BrokerAway as error:
        queues, away = [], trouble_in_words(error)
    served = [queue.name for queue in queues if queue.live]
    attention = Attention(
        broker=away,
        unserved=[queue for queue in queues if queue.wanted and not queue.live],
        late=inspect.late_schedules(tasks.queues, workers),
        silent=[one for one in workers if one.state(as_of, LEASE) != "live" and one.queue in served],
        paused=[(queue.name, queue.paused) for queue in queues if queue.paused],
        dropped=HistoryCursor.select(fn.COALESCE(fn.SUM(HistoryCursor.dropped), 0)).scalar(),
    )
    return Engine(workers, queues, attention)


def is_news(worker: WorkerProcess, as_of: datetime) -> bool:
    """It serves, or fell silent a short while ago without saying goodbye."""
    return worker.state(as_of, LEASE) != "stopped" and as_of - worker.beat_at < LOST_IS_NEWS
