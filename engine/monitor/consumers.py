"""The recorded consumers: state, names, and replacements."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from config import settings
from engine.exceptions import InvalidState
from engine.models import Consumer, now

#: The clocks of a consumer's host and of the broker may differ by this much.
HEARTBEAT_SLACK = timedelta(seconds=2)
LEASE_TIME = timedelta(seconds=settings.lease_seconds)


def find_replacements(consumers: Iterable[Consumer], as_of: datetime) -> dict[str, Consumer]:
    """Map a gone consumer's id to the one that started later on its host for its queue. Lost ones go first."""
    by_start = sorted(consumers, key=lambda consumer: consumer.started_at)
    gone = [consumer for consumer in by_start if consumer.state(as_of, LEASE_TIME) != "live"]
    successors: dict[str, Consumer] = {}
    for consumer in sorted(gone, key=lambda consumer: (consumer.stopped_at is not None, consumer.beat_at)):
        taken = {successor.id for successor in successors.values()}
        free = (later for later in by_start if is_successor(later, consumer) and later.id not in taken)
        if successor := next(free, None):
            successors[consumer.id] = successor
    return successors


def is_successor(later: Consumer, consumer: Consumer) -> bool:
    same_place = (later.host, later.queue) == (consumer.host, consumer.queue)
    return bool(
        same_place and later.started_at > consumer.started_at and later.started_at >= consumer.beat_at - HEARTBEAT_SLACK
    )


def get_consumer(name: str) -> Consumer:
    """Return the consumer of this id or name (`light@host:pid`), the latest of several. Raises InvalidState."""
    for consumer in list_consumers():
        if name in (consumer.id, full_worker_name(consumer)):
            return consumer
    raise InvalidState("No consumer with this name or id. Its record may have been removed.")


def list_consumers() -> list[Consumer]:
    return list(Consumer.select().order_by(Consumer.beat_at.desc(), Consumer.id))


def live_consumers(consumers: Iterable[Consumer], queue: str) -> list[Consumer]:
    """Return the consumers that take new runs of `queue`: not lost, stopped or quiet."""
    return [consumer for consumer in running_consumers(consumers, queue) if not consumer.quiet_at]


def running_consumers(consumers: Iterable[Consumer], queue: str) -> list[Consumer]:
    """Return the consumers of `queue` that are not lost or stopped. A quiet one still runs its scheduler."""
    at = now()
    return [
        consumer
        for consumer in consumers
        if consumer.queue == queue and consumer.state(at, LEASE_TIME) in ("live", "late")
    ]


def full_worker_name(consumer: Consumer) -> str:
    return f"{consumer.queue}@{consumer.host}:{consumer.pid}"
