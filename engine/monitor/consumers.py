"""The consumers on record: who is live, who is who, and which one replaced another."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from config import settings
from engine.exceptions import NotPossible
from engine.models import WorkerProcess, now

#: The clocks of a consumer's host and of the broker may differ by this much.
SLACK = timedelta(seconds=2)
LEASE = timedelta(seconds=settings.lease_seconds)


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


def workers() -> list[WorkerProcess]:
    """Every consumer on record, the last heard of first."""
    return list(WorkerProcess.select().order_by(WorkerProcess.beat_at.desc(), WorkerProcess.id))


def live(consumers: Iterable[WorkerProcess], queue: str) -> list[WorkerProcess]:
    """Those that take what comes to `queue`: neither lost nor stopped nor quiet."""
    return [one for one in present(consumers, queue) if not one.quiet_at]


def present(consumers: Iterable[WorkerProcess], queue: str) -> list[WorkerProcess]:
    """Those of `queue` that are not lost or stopped. Who is quiet goes on with what runs, and with the clock."""
    at = now()
    return [one for one in consumers if one.queue == queue and one.state(at, LEASE) in ("live", "late")]


def worker_name(consumer: WorkerProcess) -> str:
    return f"{consumer.queue}@{consumer.host}:{consumer.pid}"
