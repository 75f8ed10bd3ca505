"""Questions about queues, consumers and tasks. Nothing here writes."""

import inspect
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from config import settings
from engine import counts, history_lag, write_probe
from engine.database import database
from engine.delivery import BrokerAway, Header, header
from engine.messages import Letter, Unreadable, bare
from engine.outages import DATABASE_ERRORS, first_line, reason_of
from engine.queues import Queue, RunTask
from engine.records import Tick, WorkerProcess, now

logger = logging.getLogger(__name__)
LEASE = timedelta(seconds=settings.lease_seconds)

#: A consumer may call a tick its own up to this long after the full minute before the schedule counts as late.
SCHEDULE_LATE = timedelta(seconds=15)

Queues = Mapping[str, Queue]


class QueueFacts(NamedTuple):
    """One queue at a glance. `worker_count` and `busy_count` count the workers of its live consumers."""

    name: str
    waiting: int
    scheduled: int
    oldest_waiting_ms: float | None
    paused: dict[str, Any] | None
    worker_count: int
    busy_count: int
    live: bool
    wanted: bool  # whether WORKERS_<QUEUE> asks for any


class TaskFacts(NamedTuple):
    """A registered task. `schedule` is its cron expression; `parameters` are those a caller may give.

    Limits in seconds, 0 for none; `rate_limit` such as 10/m, empty for none.
    """

    name: str
    queue: str
    doc: str
    priority: float | None
    retries: int
    retry_delay: int
    schedule: str | None
    parameters: list[inspect.Parameter]
    soft_limit: float
    hard_limit: float
    rate_limit: str
    unique: bool
    retry_backoff: float
    periodic: bool
    catch_up: bool


class Told(Exception):
    """An error that people are told of. Its sentence has its values by name, so that others can say it in a language.

    Whoever gathers sentences to translate finds them as first arguments of these exceptions.
    """

    def __init__(self, sentence: str, **values: Any) -> None:
        super().__init__(sentence % values)
        self.sentence, self.values = sentence, values


class UnknownTask(Told, LookupError):
    """No queue has a task of this name."""


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


def queue_facts(queues: Queues, consumers: list[WorkerProcess]) -> list[QueueFacts]:
    return [facts_of(queue, live(consumers, name)) for name, queue in queues.items()]


def facts_of(queue: Queue, serving: list[WorkerProcess]) -> QueueFacts:
    storage = queue.storage
    oldest = storage.oldest_waiting()
    return QueueFacts(
        name=queue.name,
        waiting=storage.queue_size(),
        scheduled=storage.schedule_size(),
        oldest_waiting_ms=None if oldest is None else max(now().timestamp() - oldest, 0) * 1000,
        paused=queue.pauses().get(""),
        worker_count=sum(one.worker_count for one in serving),
        busy_count=sum(len(one.running) for one in serving),
        live=bool(serving),
        wanted=settings.workers.get(queue.name, 1) > 0,
    )


def readiness(queues: Queues) -> list[str]:
    """Why the service is not ready, a sentence each; empty when it is."""
    reasons = []
    if without_broker := broker_error(queues):
        reasons.append(unavailable("broker", without_broker))
    try:
        if error := write_probe.database_error():
            return [*reasons, unavailable("database", error)]
        consumers = workers()
    except DATABASE_ERRORS as error:
        return [*reasons, unavailable("database", error)]
    for name in queues:
        if settings.workers.get(name, 1) and not live(consumers, name):
            quiet = ": its consumer is quiet" if present(consumers, name) else ""
            reasons.append(f"no live worker on {name}{quiet}")
    return reasons + late_schedules(queues, consumers) + ([] if without_broker else late_history(queues))


def late_history(queues: Queues) -> list[str]:
    try:
        return history_lag.too_long(queues)
    except BrokerAway:
        return []  # it has gone at this moment, which the next answer will say


def broker_error(queues: Queues) -> Exception | None:
    """Return why the broker cannot be used, None when it can."""
    if error := write_probe.broker_error(next(iter(queues.values()))):
        return error
    try:
        for queue in queues.values():
            queue.storage.queue_size()
    except BrokerAway as error:
        return error
    return None


def unavailable(server: str, error: Exception) -> str:
    """Name the server and its own message. The address of one that cannot be reached goes to the log alone."""
    logger.warning("Not ready: %s: %s", server, first_line(error))
    reason = error.reason if isinstance(error, BrokerAway) else reason_of(error)
    return f"the {server} is unavailable: {reason}" if reason else f"the {server} is unavailable"


def warnings(queues: Queues) -> list[str]:
    """What does not stop the service now and should not stay so, a sentence each."""
    return list(next(iter(queues.values())).storage.warnings())


def late_schedules(queues: Queues, consumers: list[WorkerProcess]) -> list[str]:
    return [f"the schedule of {name} is late" for name in unwatched(queues, consumers)]


def unwatched(queues: Queues, consumers: list[WorkerProcess]) -> list[str]:
    """Queues whose clock nobody watches: no scheduler of a live consumer has looked at it within the last seconds."""
    return [name for name, lag in clock_lags(queues, consumers).items() if lag > SCHEDULE_LATE]


def clock_lags(queues: Queues, consumers: list[WorkerProcess]) -> dict[str, timedelta]:
    """By queue with a clock that a live consumer is to watch: for how long no scheduler has looked at it."""
    lags, at = {}, now()
    for name, queue in queues.items():
        watchers = [one for one in present(consumers, name) if one.periodic]
        if periodic(queue) and settings.workers.get(name, 1) and watchers:
            looked = max((one.scheduler_at for one in watchers if one.scheduler_at), default=None)
            lags[name] = at - (looked or max(one.started_at for one in watchers))
    return lags


class Missed(NamedTuple):
    """Ticks of a task that nobody made up for: how many, and the last of them."""

    task: str
    ticks: int
    last: datetime


class Troubles(NamedTuple):
    """What the records tell of things gone wrong."""

    missed: list[Missed]
    dropped: int  # events that never became history
    loudest: tuple[str, int] | None  # the group of errors that failed most often, and how often that was


TROUBLES = """SELECT 'missed', tick.task, COUNT(*), MAX(tick.due_at) FROM dewey_ticks AS tick
    WHERE tick.state = 'missed' AND tick.due_at >= {param} AND NOT EXISTS (
        SELECT 1 FROM dewey_ticks AS later
        WHERE later.task = tick.task AND later.state = 'late' AND later.due_at > tick.due_at
    ) GROUP BY tick.task
    UNION ALL
    SELECT 'dropped', '', COALESCE(SUM(dropped), 0), NULL FROM dewey_history_cursors
    UNION ALL
    SELECT 'loudest', what, count, NULL FROM (
        SELECT what, SUM(count) AS count FROM dewey_run_counts
        WHERE span = 60 AND start >= {param}
          AND what IN (SELECT 'error:' || id FROM dewey_errors WHERE last_seen_at >= {param})
        GROUP BY what ORDER BY 2 DESC, 1 LIMIT 1
    ) AS loudest
"""


def troubles(since: datetime, failures_since: datetime) -> Troubles:
    """In one statement; missed ticks from the one instant on, failures from the other, which is a full minute."""
    given = [since, int(failures_since.timestamp()), failures_since]
    values = [Tick.due_at.db_value(one) if isinstance(one, datetime) else one for one in given]
    rows = database.execute_sql(TROUBLES.format(param=database.param), values).fetchall()
    missed = [
        Missed(task, count, Tick.due_at.python_value(last)) for kind, task, count, last in rows if kind == "missed"
    ]
    dropped = sum(int(count) for kind, _task, count, _last in rows if kind == "dropped")
    loud = [(what.removeprefix(counts.ERROR), int(count)) for kind, what, count, _last in rows if kind == "loudest"]
    return Troubles(sorted(missed), dropped, loud[0] if loud and loud[0][1] > 0 else None)


# --- tasks ---------------------------------------------------------------------------------------------------


def periodic(queue: Queue) -> list[type[RunTask]]:
    return list(queue._registry._periodic_tasks)


def find(queues: Queues, name: str) -> tuple[Queue, type[RunTask]]:
    """The task of this name, which may be bare, `tasks.<name>` or `app.tasks.<name>`. Raises UnknownTask."""
    for queue in queues.values():
        for task_class in queue._registry._registry.values():
            if name in accepted_names(task_class.__name__):
                return queue, task_class
    raise UnknownTask("there is no task named %(name)s", name=repr(name))


def accepted_names(name: str) -> tuple[str, str, str]:
    return name, f"tasks.{name}", f"app.tasks.{name}"


def registered(queues: Queues) -> list[TaskFacts]:
    return [
        describe(queue, task_class) for queue in queues.values() for task_class in queue._registry._registry.values()
    ]


def describe(queue: Queue, task_class: type[RunTask]) -> TaskFacts:
    return TaskFacts(
        name=task_class.__name__,
        queue=queue.name,
        doc=inspect.getdoc(task_class.function) or "",
        priority=task_class.default_priority,
        retries=task_class.default_retries,
        retry_delay=task_class.default_retry_delay,
        schedule=getattr(task_class.schedule, "expression", None),
        parameters=parameters(task_class),
        soft_limit=float(task_class.default_timeout or settings.soft_time_limit),
        hard_limit=queue.time_limit(task_class.__name__),
        rate_limit=task_class.rate_limit,
        unique=task_class.unique,
        retry_backoff=task_class.default_retry_backoff or 0,
        periodic=task_class.schedule is not None,
        catch_up=task_class.catch_up,
    )


def parameters(task_class: type[RunTask]) -> list[inspect.Parameter]:
    """What a caller may pass: the function's parameters without the `task` that Huey fills in."""
    signature = inspect.signature(task_class.function)
    return [one for one in signature.parameters.values() if not (task_class.context and one.name == "task")]


def next_tick(queues: Queues, name: str, after: datetime) -> datetime | None:
    """When the clock starts this task next; None for one that it does not start, or that decides in its own way."""
    _, task_class = find(queues, name)
    return task_class.schedule.next(after) if hasattr(task_class.schedule, "next") else None


# --- Celery's inspect: worker name → … -----------------------------------------------------------------------


def worker_name(consumer: WorkerProcess) -> str:
    return f"{consumer.queue}@{consumer.host}:{consumer.pid}"


def active(queues: Queues) -> dict[str, list[dict[str, Any]]]:
    """What runs now, by consumer."""
    known = workers()
    consumers = {one.id: one for name in queues for one in present(known, name)}
    found: dict[str, list[dict[str, Any]]] = {worker_name(one): [] for one in consumers.values()}
    for queue in queues.values():
        for held in queue.storage.held():
            data = queue.storage.message(held.run_id)
            if data is None:  # settled since
                continue
            entry = task_entry(queue, held.run_id, queue.serializer.deserialize(data), held.task)
            entry |= {"time_start": held.held_at, "acknowledged": False, "worker": held.worker}
            consumer = consumers.get(held.consumer)
            found.setdefault(worker_name(consumer) if consumer else held.consumer, []).append(entry)
    return found


def task_entry(queue: Queue, run_id: str, letter: Letter, task: str) -> dict[str, Any]:
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
        entries = [scheduled_entry(queue, data) for data in queue.storage.scheduled_items(limit)]
        left_out = 0 if limit is None or len(entries) < limit else queue.storage.schedule_size() - len(entries)
        for owner in [worker_name(one) for one in live(consumers, name)] or [f"{name}@nobody"]:
            found.entries[owner], found.left_out[owner] = entries, max(left_out, 0)
    return found


def scheduled_entry(queue: Queue, data: bytes) -> dict[str, Any]:
    """One message. Of one that cannot be read only its header is there, if that can."""
    try:
        letter = queue.serializer.deserialize(data)
        message, request = letter.message, task_entry(queue, letter.message.id, letter, bare(letter.message.name))
    except (Unreadable, AttributeError, ValueError, KeyError, TypeError):
        head = header(data) or Header("?", 0, "?")
        request = {
            "id": head.run_id,
            "name": head.task,
            "args": [],
            "kwargs": {},
            "delivery_info": where(queue, head.bare),
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
