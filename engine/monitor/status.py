"""State of queues and schedules: summary, readiness, recent problems. Read-only."""

import logging
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from config import FILE_QUEUES, settings
from engine.book_folder import read_folder_id
from engine.database import database
from engine.exceptions import BrokerUnavailable
from engine.history import lag as history_lag
from engine.history import run_counts
from engine.models import Consumer, Tick, now
from engine.monitor import write_probe
from engine.monitor.consumers import list_consumers, live_consumers, running_consumers
from engine.monitor.registered_tasks import periodic_tasks
from engine.outages import DATABASE_ERRORS, error_reason, first_line
from engine.queues.queue import Queue, Queues

logger = logging.getLogger(__name__)

#: A scheduler may check up to this long after the full minute before the schedule counts as late.
SCHEDULE_LATE_AFTER = timedelta(seconds=15)


class QueueStatus(NamedTuple):
    """Summary of a queue. `worker_count` and `busy_count` count the workers of its live consumers."""

    name: str
    waiting: int
    scheduled: int
    oldest_waiting_ms: float | None
    paused: dict[str, Any] | None
    worker_count: int
    busy_count: int
    live: bool
    wanted: bool  # True if WORKERS_<QUEUE> is above 0


def queue_statuses(queues: Queues, consumers: list[Consumer]) -> list[QueueStatus]:
    return [queue_status(queue, live_consumers(consumers, name)) for name, queue in queues.items()]


def queue_status(queue: Queue, serving: list[Consumer]) -> QueueStatus:
    storage = queue.storage
    oldest = storage.messages.oldest_waiting()
    return QueueStatus(
        name=queue.name,
        waiting=storage.messages.count_waiting(),
        scheduled=storage.messages.count_scheduled(),
        oldest_waiting_ms=None if oldest is None else max(now().timestamp() - oldest, 0) * 1000,
        paused=queue.pauses().get(""),
        worker_count=sum(consumer.worker_count for consumer in serving),
        busy_count=sum(len(consumer.running) for consumer in serving),
        live=bool(serving),
        wanted=settings.workers.get(queue.name, 1) > 0,
    )


def check_readiness(queues: Queues) -> list[str]:
    reasons = []
    if without_broker := broker_error(queues):
        reasons.append(unavailable_text("broker", without_broker))
    try:
        if error := write_probe.database_error():
            return [*reasons, unavailable_text("database", error)]
        consumers = list_consumers()
    except DATABASE_ERRORS as error:
        return [*reasons, unavailable_text("database", error)]
    for name in queues:
        if settings.workers.get(name, 1) and not live_consumers(consumers, name):
            quiet = ": its consumer is quiet" if running_consumers(consumers, name) else ""
            reasons.append(f"no live worker on {name}{quiet}")
    reasons += consumers_without_books(consumers)
    return reasons + late_schedules(queues, consumers) + ([] if without_broker else behind_queues(queues))


def consumers_without_books(consumers: list[Consumer]) -> list[str]:
    """Return the consumers that see another folder of books than this process, if this one has any."""
    if (own := read_folder_id()) is None:
        return []
    blind = [
        consumer
        for queue in FILE_QUEUES
        for consumer in live_consumers(consumers, queue)
        if consumer.book_folder != own
    ]
    return [
        f"consumer {consumer.id} of {consumer.queue} does not see the books of this server: share DATA_DIR"
        for consumer in blind
    ]


def behind_queues(queues: Queues) -> list[str]:
    try:
        return history_lag.queues_behind(queues)
    except BrokerUnavailable:
        return []  # the broker failed just now; the next check reports it


def broker_error(queues: Queues) -> Exception | None:
    if error := write_probe.broker_error(next(iter(queues.values()))):
        return error
    try:
        for queue in queues.values():
            queue.storage.messages.count_waiting()
    except BrokerUnavailable as error:
        return error
    return None


def unavailable_text(server: str, error: Exception) -> str:
    """Name the server and its own message. The address of an unreachable server is logged only."""
    logger.warning("Not ready: %s: %s", server, first_line(error))
    reason = error.reason if isinstance(error, BrokerUnavailable) else error_reason(error)
    return f"the {server} is unavailable: {reason}" if reason else f"the {server} is unavailable"


def broker_warnings(queues: Queues) -> list[str]:
    return list(next(iter(queues.values())).storage.warnings())


def late_schedules(queues: Queues, consumers: list[Consumer]) -> list[str]:
    return [f"the schedule of {name} is late" for name in stale_schedules(queues, consumers)]


def stale_schedules(queues: Queues, consumers: list[Consumer]) -> list[str]:
    return [name for name, lag in scheduler_lags(queues, consumers).items() if lag > SCHEDULE_LATE_AFTER]


def scheduler_lags(queues: Queues, consumers: list[Consumer]) -> dict[str, timedelta]:
    lags, at = {}, now()
    for name, queue in queues.items():
        watchers = [consumer for consumer in running_consumers(consumers, name) if consumer.periodic]
        if watchers and periodic_tasks(queue) and settings.workers.get(name, 1):
            lags[name] = at - last_looked(watchers)
    return lags


def last_looked(watchers: list[Consumer]) -> datetime:
    """Return the last check of a scheduler. Before its first check, the start of its consumer counts."""
    looks = [consumer.scheduler_at for consumer in watchers if consumer.scheduler_at]
    return max(looks or [consumer.started_at for consumer in watchers])


class MissedTicks(NamedTuple):
    task: str
    ticks: int
    last: datetime


class Problems(NamedTuple):
    missed: list[MissedTicks]
    dropped: int  # events that were never stored
    rejected: int  # events and other values of the broker that were set aside
    loudest: tuple[str, int] | None  # the error group with the most failures, and their number


PROBLEMS_SQL = """SELECT 'missed', tick.task, COUNT(*), MAX(tick.due_at) FROM dewey_ticks AS tick
    WHERE tick.state = 'missed' AND tick.due_at >= {param} AND NOT EXISTS (
        SELECT 1 FROM dewey_ticks AS later
        WHERE later.task = tick.task AND later.state = 'late' AND later.due_at > tick.due_at
    ) GROUP BY tick.task
    UNION ALL
    SELECT 'dropped', '', COALESCE(SUM(dropped), 0), NULL FROM dewey_history_cursors
    UNION ALL
    SELECT 'rejected', '', COALESCE(SUM(rejected), 0), NULL FROM dewey_history_cursors
    UNION ALL
    SELECT 'loudest', what, count, NULL FROM (
        SELECT what, SUM(count) AS count FROM dewey_run_counts
        WHERE span = 60 AND start >= {param}
          AND what IN (SELECT 'error:' || id FROM dewey_errors WHERE last_seen_at >= {param})
        GROUP BY what ORDER BY 2 DESC, 1 LIMIT 1
    ) AS loudest
"""


def load_problems(since: datetime, failures_since: datetime) -> Problems:
    """Return missed ticks after `since`, failures after `failures_since` (a full minute), and the numbers of
    dropped and rejected events. One statement.
    """
    parameters = [
        Tick.due_at.db_value(since),
        int(failures_since.timestamp()),
        Tick.due_at.db_value(failures_since),
    ]
    missed, totals, loudest = [], {"dropped": 0, "rejected": 0}, None
    for kind, name, count, last in database.execute_sql(
        PROBLEMS_SQL.format(param=database.param), parameters
    ).fetchall():
        if kind == "missed":
            missed.append(MissedTicks(name, count, Tick.due_at.python_value(last)))
        elif kind in totals:
            totals[kind] = int(count)
        elif count > 0:
            loudest = name.removeprefix(run_counts.ERROR_PREFIX), int(count)
    return Problems(sorted(missed), totals["dropped"], totals["rejected"], loudest)
