"""The next runs of a queue, their obstacles, and its throughput."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from peewee import fn

from engine.broker.message_header import parse_header
from engine.broker.messages import Requester, short_task_name
from engine.exceptions import InvalidMessage
from engine.history.run_counts import MINUTE, full_minute
from engine.models import ENDED, Run, RunCount, State
from engine.monitor.registered_tasks import registered_classes
from engine.monitor.status import QueueStatus
from engine.queues.queue import Queue

#: Minutes over which throughput is averaged, including the current one.
THROUGHPUT_MINUTES = 5


class WaitingRun(NamedTuple):
    """A message in the queue. `unreadable`: the reason. `hindrance`: task_paused, unknown_task or None."""

    run_id: str | None
    task: str | None
    args: list[Any]
    kwargs: dict[str, Any]
    priority: float | None
    attempt: int
    asked_by: Requester | None
    since: datetime | None  # in its queue, or due
    unreadable: str | None
    hindrance: str | None


class Throughput(NamedTuple):
    enqueued_per_min: float
    finished_per_min: float


def next_runs(queue: Queue, facts: QueueStatus, limit: int = 10) -> list[WaitingRun]:
    if not facts.waiting:
        return []
    messages = [describe_message(queue, data) for data in queue.storage.messages.waiting(limit)]
    since = waiting_since([message.run_id for message in messages if message.run_id])
    paused, tasks = queue.pauses(), {task.__name__ for task in registered_classes(queue)}
    return [
        message._replace(
            since=since.get(message.run_id or "", message.since), hindrance=blocking_reason(message, paused, tasks)
        )
        for message in messages
    ]


def waiting_since(run_ids: list[str]) -> dict[str, datetime]:
    """Return since when each run waits: its enqueue or, if later, its due time. Unrecorded runs are left out."""
    rows = Run.select(Run.id, Run.enqueued_at, Run.due_at).where(Run.id.in_(run_ids))
    return {run.id: max(run.enqueued_at, run.due_at or run.enqueued_at) for run in rows}


def describe_message(queue: Queue, data: bytes) -> WaitingRun:
    try:
        letter = queue.serializer.deserialize_message(queue.name, data)
    except (InvalidMessage, ValueError, KeyError, TypeError) as error:
        head = parse_header(data)
        name, run_id = (head.short_name, head.run_id) if head else (None, None)
        return WaitingRun(run_id, name, [], {}, None, 0, None, None, str(error), None)
    message, envelope = letter.message, letter.envelope
    return WaitingRun(
        message.id, short_task_name(message.name), list(message.args), dict(message.kwargs), message.priority,
        envelope.attempt, envelope.asked_by, envelope.enqueued_at, None, None,
    )  # fmt: skip


def blocking_reason(message: WaitingRun, paused: Collection[str], tasks: Collection[str]) -> str | None:
    if message.task in paused:
        return "task_paused"
    return "unknown_task" if message.task not in tasks and not message.unreadable else None


def load_throughput(queues: Collection[str], as_of: datetime) -> dict[str, Throughput]:
    since = full_minute(as_of) - timedelta(minutes=THROUGHPUT_MINUTES - 1)
    came, went = count_enqueued(queues, since), count_ended(since)
    return {name: Throughput(came[name] / THROUGHPUT_MINUTES, went[name] / THROUGHPUT_MINUTES) for name in queues}


def count_enqueued(queues: Collection[str], since: datetime) -> Counter[str]:
    # Naming all states lets the index use one range per state. Else SQLite would read the whole queue.
    recent = Run.queue.in_(list(queues)) & Run.state.in_(list(State)) & (Run.enqueued_at >= since)
    rows: Any = Run.select(Run.queue, fn.COUNT(Run.id)).where(recent).group_by(Run.queue).tuples()
    return Counter(dict(rows))


def count_ended(since: datetime) -> Counter[str]:
    ended = (RunCount.span == MINUTE) & RunCount.what.in_(ENDED) & (RunCount.start >= int(since.timestamp()))
    rows: Any = RunCount.select(RunCount.queue, fn.SUM(RunCount.count)).where(ended).group_by(RunCount.queue).tuples()
    return Counter({queue: int(count) for queue, count in rows})
