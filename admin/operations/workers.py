"""What can be asked and done of consumers."""

from datetime import datetime
from typing import Any, NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Who
from admin.operations.queries import read
from admin.operations.registry import Outcome, action
from engine.control import workers as worker_control
from engine.exceptions import BrokerAway, NotPossible
from engine.models import WorkerProcess, now
from engine.monitor import consumers
from engine.monitor.consumers import LEASE
from engine.queues import remote_control
from engine.queues.remote_control import Dump, What


class Worker(NamedTuple):
    """The columns of a consumer, with its name and state."""

    name: str
    id: str
    queue: str
    host: str
    pid: int
    code_version: str
    worker_type: str
    worker_count: int
    periodic: bool
    started_at: datetime
    beat_at: datetime
    stopped_at: datetime | None
    quiet_at: datetime | None
    scheduler_at: datetime | None
    rss_bytes: int
    cpu_percent: float
    processed: int
    failed: int
    running: Any
    slots: Any
    state: str


class Workers(NamedTuple):
    workers: list[Worker]


class WorkerInFull(NamedTuple):
    """`orders`: what it has not done yet; `dump`: where its code was when that was last asked."""

    worker: Worker
    orders: list[What]
    dump: Dump | None


@read("workers.list", "/workers")
def workers() -> Workers:
    """Every consumer on record, those that are gone included."""
    return Workers([with_state(consumer) for consumer in consumers.workers()])


@read("workers.show", "/workers/{worker}")
def worker(worker: str) -> WorkerInFull:
    """One consumer, by its id or its name."""
    try:
        consumer = consumers.find(worker)
    except NotPossible:
        abort(404, _("No consumer has this id, or it has been gone for too long."))
    dump, orders, _away = asked_of(consumer)
    return WorkerInFull(with_state(consumer), orders, dump)


def with_state(consumer: WorkerProcess) -> Worker:
    return Worker(name=consumers.worker_name(consumer), **consumer.__data__, state=consumer.state(now(), LEASE))


@action("workers.quiet", "admin", in_transaction=False)
def quiet_worker(actor: Who, worker: str) -> Outcome[str]:
    """Have a consumer finish what it runs and take nothing new."""
    return order(actor, worker, What.QUIET)


@action("workers.wake", "admin", in_transaction=False)
def wake_worker(actor: Who, worker: str) -> Outcome[str]:
    """Have a quiet consumer take runs again."""
    return order(actor, worker, What.WAKE)


@action("workers.stop", "admin", danger=True, in_transaction=False)
def stop_worker(actor: Who, worker: str) -> Outcome[str]:
    """Have a consumer end, once what it runs has ended or its time is up; nobody starts it again."""
    return order(actor, worker, What.STOP)


@action("workers.restart", "admin", danger=True, in_transaction=False)
def restart_worker(actor: Who, worker: str) -> Outcome[str]:
    """Have a consumer start anew, with the code that is there now."""
    return order(actor, worker, What.RESTART)


@action("workers.dump", "admin", in_transaction=False)
def dump_worker(actor: Who, worker: str) -> Outcome[str]:
    """Have a consumer tell where the code of its workers is right now."""
    return order(actor, worker, What.DUMP)


def order(actor: Who, worker: str, what: What) -> Outcome[str]:
    """`worker` is a consumer's id, or its name as `flask workers list` shows it."""
    consumer = worker_control.order(tasks.queues, worker, what, actor.asker)
    return Outcome(consumer.id, consumer.id)


def asked_of(consumer: WorkerProcess) -> tuple[Dump | None, list[What], bool]:
    """Its last dump, the orders that it has not taken yet, and whether the broker is away."""
    queue = tasks.queues.get(consumer.queue)
    if queue is None:
        return None, [], False
    try:
        orders = remote_control.pending(queue, consumer.id)
        return remote_control.last_dump(queue, consumer.id), [order.what for order in orders], False
    except BrokerAway:
        return None, [], True


def get_worker(worker_id: str) -> WorkerProcess:
    return WorkerProcess.get_or_none(WorkerProcess.id == worker_id) or abort(
        404, _("No consumer has this id, or it has been gone for too long.")
    )
