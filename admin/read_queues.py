"""What programs ask about what carries the work: queues, the broker, consumers, and what died."""

from datetime import datetime
from typing import Annotated, Any, NamedTuple, get_type_hints

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.dead import kept, place_of
from admin.queues_page import queue_named
from admin.reads import Cursor, Limit, read
from admin.schemas import columns
from admin.workers_page import asked_of
from engine import broker_health, dead_letters, inspect, queue_head, roster
from engine.control import NotPossible
from engine.dead_letters import Opened
from engine.inspect import LEASE, QueueFacts
from engine.queue_head import Waiting
from engine.records import Run, WorkerProcess, now
from engine.steer_workers import Dump, What

#: A queue at a glance, and its runs per minute.
Queue = NamedTuple("Queue", [*get_type_hints(QueueFacts).items(), ("in_per_minute", float), ("out_per_minute", float)])
Worker = NamedTuple("Worker", [("name", str), *columns(WorkerProcess).items(), ("state", str)])


class Queues(NamedTuple):
    queues: list[Queue]


class Head(NamedTuple):
    """First to last."""

    head: list[Waiting]


class Workers(NamedTuple):
    workers: list[Worker]


class WorkerInFull(NamedTuple):
    """`orders`: what it has not done yet; `dump`: where its code was when that was last asked."""

    worker: Worker
    orders: list[What]
    dump: Dump | None


class DeadRun(NamedTuple):
    id: str
    queue: str
    at: datetime
    task: str | None
    deliveries: int | None
    error: str | None


class DeadPage(NamedTuple):
    dead: list[DeadRun]
    next: str | None
    total: int


class DeadMessage(NamedTuple):
    """`run`: its record, where the history still has it."""

    id: str
    queue: str
    run: Run | None
    message: Opened


@read("queues.list", "/queues")
def queues() -> Queues:
    """Every queue: what waits and since when, what comes in and goes out a minute, who serves it."""
    return Queues(queues_of(tasks.queues))


@read("queues.show", "/queues/{queue}")
def queue(queue: str) -> Queue:
    """One queue."""
    return queues_of({queue: queue_named(queue)})[0]


def queues_of(asked: dict[str, Any]) -> list[Queue]:
    flows = queue_head.flows(asked, now())
    return [Queue(*one, *flows[one.name]) for one in inspect.queue_facts(asked, inspect.workers())]


@read("queues.head", "/queues/{queue}/head")
def head(queue: str, limit: Annotated[int, {"minimum": 1, "maximum": 1000}] = 10) -> Head:
    """The next runs of a queue."""
    asked = queue_named(queue)
    facts = inspect.facts_of(asked, inspect.live(inspect.workers(), queue))
    return Head(queue_head.head(asked, facts, limit))


@read("queues.broker", "/broker")
def broker() -> dict[str, Any]:
    """The broker itself: version, memory or file, persistence, and how long a ping takes."""
    return broker_health.health(next(iter(tasks.queues.values())))._asdict()


# --- workers -------------------------------------------------------------------------------------------------


@read("workers.list", "/workers")
def workers() -> Workers:
    """Every consumer on record, those that are gone included."""
    return Workers([told(one) for one in inspect.workers()])


@read("workers.show", "/workers/{worker}")
def worker(worker: str) -> WorkerInFull:
    """One consumer, by its id or its name."""
    try:
        found = roster.find(worker)
    except NotPossible:
        abort(404, _("No consumer has this id, or it has been gone for too long."))
    dump, orders, _away = asked_of(found)
    return WorkerInFull(told(found), orders, dump)


def told(consumer: WorkerProcess) -> Worker:
    return Worker(name=inspect.worker_name(consumer), **consumer.__data__, state=consumer.state(now(), LEASE))


# --- dead ----------------------------------------------------------------------------------------------------


@read("dead.list", "/dead")
def dead(before: Cursor = "", limit: Limit = 30) -> DeadPage:
    """Runs that took down too many workers, or whose message cannot be read; newest first."""
    page = dead_letters.page(tasks.queues, limit, place_of(before))
    older = page.older and f"{page.older.at!r}_{page.older.run_id}"
    return DeadPage([dead_run(one) for one in page.rows], older, dead_letters.count(tasks.queues))


def dead_run(one: dead_letters.Dead) -> DeadRun:
    run = one.run
    return DeadRun(one.run_id, one.queue, one.at, run and run.task, run and run.deliveries, run and run.error)


@read("dead.show", "/dead/{run_id}")
def dead_message(run_id: str) -> DeadMessage:
    """The message of a dead run, as far as it can be read."""
    found, data = kept(run_id)
    return DeadMessage(run_id, found.name, Run.get_or_none(Run.id == run_id), dead_letters.opened(found, data))
