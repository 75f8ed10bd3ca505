"""How far the history lags behind the broker."""

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from engine.history.events import event_time
from engine.models import HistoryCursor, now
from engine.outages import DATABASE_ERRORS
from engine.queues.queue import Queue

#: A longer lag makes the program not ready: its pages are out of date.
MAX_LAG = timedelta(minutes=5)
#: How many of the oldest events are searched for one with a time.
COUNT_LIMIT = 10


class Lag(NamedTuple):
    """Events not yet in the history, and the age of the oldest in seconds."""

    events: int
    seconds: float

    @property
    def is_too_long(self) -> bool:
        return self.seconds > MAX_LAG.total_seconds()


def load_lags(queues: Mapping[str, Queue]) -> dict[str, Lag]:
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
    return [
        f"the history of {name} lags behind by {lag.seconds:.0f} s ({lag.events:,} events)"
        for name, lag in load_lags(queues).items()
        if lag.is_too_long
    ]
