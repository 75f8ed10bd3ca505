"""Queries and actions for consumers."""

from datetime import datetime
from typing import Any, NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Actor
from admin.operations.queries import register_query
from admin.operations.registry import ActionResult, register_action
from engine.control import workers as worker_control
from engine.exceptions import BrokerUnavailable, InvalidState
from engine.models import Consumer, now
from engine.monitor import consumers
from engine.monitor.consumers import LEASE_TIME
from engine.queues import remote_control
from engine.queues.remote_control import Command, Dump


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
    book_folder: str | None
    running: Any
    slots: Any
    state: str


class Workers(NamedTuple):
    workers: list[Worker]


class WorkerDetails(NamedTuple):
    """`orders`: pending commands. `dump`: the latest stack dump."""

    worker: Worker
    orders: list[Command]
    dump: Dump | None


@register_query("workers.list", "/workers")
def list_workers() -> Workers:
    """List consumers, stopped and lost ones included."""
    return Workers([with_state(consumer) for consumer in consumers.list_consumers()])


@register_query("workers.show", "/workers/{worker}")
def show_worker(worker: str) -> WorkerDetails:
    """Show a consumer by its id or name."""
    try:
        consumer = consumers.get_consumer(worker)
    except InvalidState:
        abort(404, _("No consumer with this id. Its record may have been removed."))
    dump, orders, _away = pending_commands(consumer)
    return WorkerDetails(with_state(consumer), orders, dump)


def with_state(consumer: Consumer) -> Worker:
    return Worker(
        name=consumers.full_worker_name(consumer), **consumer.__data__, state=consumer.state(now(), LEASE_TIME)
    )


@register_action("workers.quiet", "admin", in_transaction=False)
def quiet_worker(actor: Actor, worker: str) -> ActionResult[str]:
    """Quiet a consumer: it finishes running tasks and takes no new ones."""
    return send_command(actor, worker, Command.QUIET)


@register_action("workers.wake", "admin", in_transaction=False)
def wake_worker(actor: Actor, worker: str) -> ActionResult[str]:
    """Wake a quiet consumer: it takes tasks again."""
    return send_command(actor, worker, Command.WAKE)


@register_action("workers.stop", "admin", danger=True, in_transaction=False)
def stop_worker(actor: Actor, worker: str) -> ActionResult[str]:
    """Stop a consumer after its running tasks or the grace period. `make run` does not restart it."""
    return send_command(actor, worker, Command.STOP)


@register_action("workers.restart", "admin", danger=True, in_transaction=False)
def restart_worker(actor: Actor, worker: str) -> ActionResult[str]:
    """Restart a consumer with the current code."""
    return send_command(actor, worker, Command.RESTART)


@register_action("workers.dump", "admin", in_transaction=False)
def dump_worker(actor: Actor, worker: str) -> ActionResult[str]:
    """Request a stack dump of a consumer's workers."""
    return send_command(actor, worker, Command.DUMP)


def send_command(actor: Actor, worker: str, what: Command) -> ActionResult[str]:
    """Send a command to a consumer. `worker` is its id, or its name as `dewey workers list` prints it."""
    consumer = worker_control.send_command(tasks.queues, worker, what, actor.requester)
    return ActionResult(consumer.id, consumer.id)


def pending_commands(consumer: Consumer) -> tuple[Dump | None, list[Command], bool]:
    """Return the latest dump, the pending commands, and True if the broker is unavailable."""
    queue = tasks.queues.get(consumer.queue)
    if queue is None:
        return None, [], False
    try:
        orders = remote_control.pending_commands(queue, consumer.id)
        return remote_control.latest_dump(queue, consumer.id), [order.what for order in orders], False
    except BrokerUnavailable:
        return None, [], True


def get_worker(worker_id: str) -> Consumer:
    return Consumer.get_or_none(Consumer.id == worker_id) or abort(
        404, _("No consumer with this id. Its record may have been removed.")
    )
