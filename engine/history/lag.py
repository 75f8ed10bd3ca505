"""How far the history lags behind what happens."""

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from engine.history.events import event_time
from engine.models import HistoryCursor, now
from engine.outages import DATABASE_ERRORS
from engine.queues.queue import Queue

#: Beyond this the program is not ready: what its pages show is out of date.
MAX_LAG = timedelta(minutes=5)
#: Of so many of the oldest events, the first that says when it happened is taken.
COUNT_LIMIT = 10


class Lag(NamedTuple):
    """Events that are not in the history yet, and for how many seconds the oldest of them has waited."""

    events: int
    seconds: float

    @property
    def is_too_long(self) -> bool:
        return self.seconds > MAX_LAG.total_seconds()


def load_lags(queues: Mapping[str, Queue]) -> dict[str, Lag]:
    """By queue. Without the database, all events that the broker still has count. Raises BrokerUnavailable."""
    try:
        positions = {row.stream: row.position for row in HistoryCursor.select()}
    except DATABASE_ERRORS:
        positions = {}
    return {name: queue_lag(queue, positions.get(queue.storage.events.stream(), 0)) for name, queue in queues.items()}


def queue_lag(queue: Queue, position: int) -> Lag:
    lines = queue.storage.events.read(position, COUNT_LIMIT)
    if not lines:
        return Lag(0, 0.0)
    times = (event_time(line) for _, line in lines)
    oldest = next((at for at in times if at is not None), now().timestamp())
    return Lag(queue.storage.events.count(position), max(now().timestamp() - oldest, 0.0))


def queues_behind(queues: Mapping[str, Queue]) -> list[str]:
    """A sentence for each queue whose history lags too far behind."""
    return [
        f"the history of {name} lags behind by {lag.seconds:.0f} s ({lag.events:,} events)"
        for name, lag in load_lags(queues).items()
        if lag.is_too_long
    ]
