"""The consumers on record: who is who, who took whose place, and orders to one of them."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from engine import steer_workers
from engine.control import NotPossible
from engine.inspect import LEASE, Queues, worker_name, workers
from engine.messages import Asker
from engine.records import WorkerProcess, now
from engine.steer_workers import What

#: The clocks of a consumer's host and of the broker may differ by this much.
SLACK = timedelta(seconds=2)


def replacements(consumers: Iterable[WorkerProcess], as_of: datetime) -> dict[str, WorkerProcess]:
    """The id of a consumer that is gone → the one that was started in its place: for its queue, on its host, after it.

    Each takes the place of one; those that fell silent come before those that said goodbye.
    """
    by_start = sorted(consumers, key=lambda one: one.started_at)
    gone = [one for one in by_start if one.state(as_of, LEASE) != "live"]
    found: dict[str, WorkerProcess] = {}
    for one in sorted(gone, key=lambda one: (one.stopped_at is not None, one.beat_at)):
        taken = {other.id for other in found.values()}
        if heir := next((other for other in by_start if follows(other, one) and other.id not in taken), None):
            found[one.id] = heir
    return found


def follows(other: WorkerProcess, one: WorkerProcess) -> bool:
    same_place = (other.host, other.queue) == (one.host, one.queue)
    return bool(same_place and other.started_at > one.started_at and other.started_at >= one.beat_at - SLACK)


def find(name: str) -> WorkerProcess:
    """The consumer of this id, or of this name (`light@host:pid`): the last heard of, where several bore it.

    Raises NotPossible.
    """
    for one in workers():
        if name in (one.id, worker_name(one)):
            return one
    raise NotPossible("There is no such consumer, or it has been gone for too long.")


def order(queues: Queues, name: str, what: What, by: Asker) -> WorkerProcess:
    """Leave an order for a consumer that is there to take it. Raises NotPossible."""
    consumer = find(name)
    state = consumer.state(now(), LEASE)
    if state not in ("live", "late") or consumer.queue not in queues:
        raise NotPossible("This consumer is %(state)s; it takes no orders.", state=state)
    steer_workers.give(queues[consumer.queue], consumer.id, what, by.name)
    return consumer
