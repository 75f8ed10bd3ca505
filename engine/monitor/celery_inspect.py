"""The output of `celery inspect` in its shape: worker name → entries. Read-only."""

from datetime import UTC, datetime
from typing import NamedTuple, TypedDict

from engine.broker.message_header import Header, parse_header
from engine.broker.messages import SignedMessage, short_task_name
from engine.exceptions import InvalidMessage
from engine.models import now
from engine.monitor.consumers import full_worker_name, list_consumers, live_consumers, running_consumers
from engine.queues.queue import Queue, Queues


class DeliveryInfo(TypedDict):
    exchange: str
    routing_key: str


class TaskEntry(TypedDict):
    id: str
    name: str
    args: list[object]
    kwargs: dict[str, object]
    delivery_info: DeliveryInfo


class ActiveEntry(TaskEntry):
    time_start: float  # Unix seconds
    acknowledged: bool
    worker: str


class ScheduledEntry(TypedDict):
    eta: str | None  # ISO 8601
    priority: float | None
    request: TaskEntry


Pool = TypedDict("Pool", {"implementation": str, "max-concurrency": int})


class ResourceUsage(TypedDict):
    rss_bytes: int
    cpu_percent: float


class ConsumerStats(TypedDict):
    pid: int
    uptime: int  # seconds
    total: int
    failed: int
    pool: Pool
    rusage: ResourceUsage
    queue: str
    code_version: str


def active(queues: Queues) -> dict[str, list[ActiveEntry]]:
    recorded = list_consumers()
    consumers = {consumer.id: consumer for name in queues for consumer in running_consumers(recorded, name)}
    entries: dict[str, list[ActiveEntry]] = {full_worker_name(consumer): [] for consumer in consumers.values()}
    for queue in queues.values():
        for held in queue.storage.deliveries.held():
            data = queue.storage.messages.get(held.run_id) or b""
            try:
                letter = queue.serializer.deserialize_message(queue.name, data)
            except InvalidMessage:  # also a run that has settled since
                continue
            task = task_entry(queue, held.run_id, letter, held.task)
            entry = ActiveEntry(**task, time_start=held.held_at, acknowledged=False, worker=held.worker)
            consumer = consumers.get(held.consumer)
            entries.setdefault(full_worker_name(consumer) if consumer else held.consumer, []).append(entry)
    return entries


def task_entry(queue: Queue, run_id: str, letter: SignedMessage, task: str) -> TaskEntry:
    return {
        "id": run_id,
        "name": letter.message.name,
        "args": list(letter.message.args),
        "kwargs": dict(letter.message.kwargs),
        "delivery_info": delivery_info(queue, task),
    }


def delivery_info(queue: Queue, task: str) -> DeliveryInfo:
    return {"exchange": queue.name, "routing_key": f"{queue.name}.{task}"}


class Scheduled(NamedTuple):
    """Runs with an eta, soonest first, by the consumers that will run them. `left_out`: number beyond the limit."""

    entries: dict[str, list[ScheduledEntry]]
    left_out: dict[str, int]


def scheduled(queues: Queues, limit: int | None = None) -> Scheduled:
    result, consumers = Scheduled({}, {}), list_consumers()
    for name, queue in queues.items():
        entries = [scheduled_entry(queue, data) for data in queue.storage.messages.scheduled(limit)]
        left_out = (
            0 if limit is None or len(entries) < limit else queue.storage.messages.count_scheduled() - len(entries)
        )
        for owner in [full_worker_name(consumer) for consumer in live_consumers(consumers, name)] or [f"{name}@none"]:
            result.entries[owner], result.left_out[owner] = entries, max(left_out, 0)
    return result


def scheduled_entry(queue: Queue, data: bytes) -> ScheduledEntry:
    """Return the entry of a message. An unreadable one has only its header, if that can be parsed."""
    try:
        letter = queue.serializer.deserialize_message(queue.name, data)
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
            "delivery_info": delivery_info(queue, head.short_name),
        }
        return {"eta": None, "priority": None, "request": request}
    return {"eta": to_utc(message.eta), "priority": message.priority, "request": request}


def to_utc(eta: datetime | None) -> str | None:
    return eta.replace(tzinfo=UTC).isoformat() if eta else None


def stats(queues: Queues) -> dict[str, ConsumerStats]:
    recorded = list_consumers()
    return {
        full_worker_name(consumer): {
            "pid": consumer.pid,
            "uptime": round((now() - consumer.started_at).total_seconds()),
            "total": consumer.processed,
            "failed": consumer.failed,
            "pool": {"implementation": consumer.worker_type, "max-concurrency": consumer.worker_count},
            "rusage": {"rss_bytes": consumer.rss_bytes, "cpu_percent": consumer.cpu_percent},
            "queue": consumer.queue,
            "code_version": consumer.code_version,
        }
        for name in queues
        for consumer in running_consumers(recorded, name)
    }
