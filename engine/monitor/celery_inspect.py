"""What `celery inspect` printed, in its shape: worker name → … Nothing here writes."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from engine.broker.message_header import Header, parse_header
from engine.broker.messages import SignedMessage, short_task_name
from engine.exceptions import InvalidMessage
from engine.models import now
from engine.monitor.consumers import live, present, worker_name, workers
from engine.queues.queue import Queue, Queues


def active(queues: Queues) -> dict[str, list[dict[str, Any]]]:
    """What runs now, by consumer."""
    known = workers()
    consumers = {one.id: one for name in queues for one in present(known, name)}
    found: dict[str, list[dict[str, Any]]] = {worker_name(one): [] for one in consumers.values()}
    for queue in queues.values():
        for held in queue.storage.deliveries.held():
            data = queue.storage.messages.get(held.run_id)
            if data is None:  # settled since
                continue
            entry = task_entry(queue, held.run_id, queue.serializer.deserialize(data), held.task)
            entry |= {"time_start": held.held_at, "acknowledged": False, "worker": held.worker}
            consumer = consumers.get(held.consumer)
            found.setdefault(worker_name(consumer) if consumer else held.consumer, []).append(entry)
    return found


def task_entry(queue: Queue, run_id: str, letter: SignedMessage, task: str) -> dict[str, Any]:
    return {
        "id": run_id,
        "name": letter.message.name,
        "args": list(letter.message.args),
        "kwargs": dict(letter.message.kwargs),
        "delivery_info": where(queue, task),
    }


def where(queue: Queue, task: str) -> dict[str, str]:
    return {"exchange": queue.name, "routing_key": f"{queue.name}.{task}"}


class Scheduled(NamedTuple):
    """What has an eta, soonest first, by the consumers that will run it; of each, how many were left out."""

    entries: dict[str, list[dict[str, Any]]]
    left_out: dict[str, int]


def scheduled(queues: Queues, limit: int | None = None) -> Scheduled:
    """At most `limit` of each queue, where one is given."""
    found, consumers = Scheduled({}, {}), workers()
    for name, queue in queues.items():
        entries = [scheduled_entry(queue, data) for data in queue.storage.messages.scheduled(limit)]
        left_out = (
            0 if limit is None or len(entries) < limit else queue.storage.messages.count_scheduled() - len(entries)
        )
        for owner in [worker_name(one) for one in live(consumers, name)] or [f"{name}@nobody"]:
            found.entries[owner], found.left_out[owner] = entries, max(left_out, 0)
    return found


def scheduled_entry(queue: Queue, data: bytes) -> dict[str, Any]:
    """One message. Of one that cannot be read only its header is there, if that can."""
    try:
        letter = queue.serializer.deserialize(data)
        message, request = (
            letter.message,
            task_entry(queue, letter.message.id, letter, short_task_name(letter.message.name)),
        )
    except (InvalidMessage, AttributeError, ValueError, KeyError, TypeError):
        head = parse_header(data) or Header("?", 0, "?")
        request = {
            "id": head.run_id,
            "name": head.task,
            "args": [],
            "kwargs": {},
            "delivery_info": where(queue, head.short_name),
        }
        return {"eta": None, "priority": None, "request": request}
    return {"eta": utc(message.eta), "priority": message.priority, "request": request}


def utc(eta: datetime | None) -> str | None:
    return eta.replace(tzinfo=UTC).isoformat() if eta else None


def stats(queues: Queues) -> dict[str, dict[str, Any]]:
    """Each live consumer: its pool, memory and what it has worked off."""
    known = workers()
    return {
        worker_name(one): {
            "pid": one.pid,
            "uptime": round((now() - one.started_at).total_seconds()),
            "total": one.processed,
            "failed": one.failed,
            "pool": {"implementation": one.worker_type, "max-concurrency": one.worker_count},
            "rusage": {"rss_bytes": one.rss_bytes, "cpu_percent": one.cpu_percent},
            "queue": one.queue,
            "code_version": one.code_version,
        }
        for name in queues
        for one in present(known, name)
    }
