"""Queries and actions for queues and the broker."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Actor
from admin.operations.arguments import JSONObject
from admin.operations.queries import register_query
from admin.operations.registry import ActionResult, register_action
from admin.problems import InvalidInput
from engine.control import queues as queue_control
from engine.models import now
from engine.monitor import broker_health, consumers, queue_contents, status
from engine.monitor.queue_contents import WaitingRun
from engine.queues.queue import Queue as TaskQueue


class Queue(NamedTuple):
    """A queue. `in_per_minute` and `out_per_minute` count runs."""

    name: str
    waiting: int
    scheduled: int
    oldest_waiting_ms: float | None
    paused: JSONObject | None
    worker_count: int
    busy_count: int
    live: bool
    wanted: bool
    in_per_minute: float
    out_per_minute: float


class Queues(NamedTuple):
    queues: list[Queue]


class Head(NamedTuple):
    head: list[WaitingRun]


@register_query("queues.list", "/queues")
def list_queues() -> Queues:
    """List queues with their waiting runs, throughput and workers."""
    return Queues(queue_rows(tasks.queues))


@register_query("queues.show", "/queues/{queue}")
def show_queue(queue: str) -> Queue:
    """Show a queue."""
    return queue_rows({queue: get_queue(queue)})[0]


def queue_rows(task_queues: Mapping[str, TaskQueue]) -> list[Queue]:
    flows = queue_contents.load_throughput(task_queues, now())
    return [
        Queue(*facts, *flows[facts.name]) for facts in status.queue_statuses(task_queues, consumers.list_consumers())
    ]


@register_query("queues.head", "/queues/{queue}/head")
def show_head(queue: str, limit: Annotated[int, {"minimum": 1, "maximum": 1000}] = 10) -> Head:
    """List the next runs of a queue in order."""
    task_queue = get_queue(queue)
    facts = status.queue_status(task_queue, consumers.live_consumers(consumers.list_consumers(), queue))
    return Head(queue_contents.next_runs(task_queue, facts, limit))


@register_query("queues.broker", "/broker")
def show_broker() -> JSONObject:
    """Show the broker's version, memory or file, persistence and ping time."""
    return broker_health.check_health(next(iter(tasks.queues.values())))._asdict()


@register_action("queues.pause", "operator", in_transaction=False)
def pause_queue(actor: Actor, queue: str, reason: str | None = None) -> ActionResult[None]:
    """Pause a queue until it is resumed. Running tasks continue."""
    queue_control.pause_queue(find_queue(queue), by=actor.requester, reason=reason)
    return ActionResult(target=queue, after={"reason": reason})


@register_action("queues.resume", "operator", in_transaction=False)
def resume_queue(actor: Actor, queue: str) -> ActionResult[bool]:
    """Resume a queue. Returns false if it was not paused."""
    return ActionResult(queue_control.resume_queue(find_queue(queue)), queue)


@register_action("queues.purge", "admin", danger=True, in_transaction=False)
def purge_queue(actor: Actor, queue: str) -> ActionResult[int]:
    """Cancel every waiting run of a queue. Returns their number."""
    purged = queue_control.purge_queue(find_queue(queue), actor.requester)
    return ActionResult(purged, queue, after={"cancelled": purged})


def find_queue(name: str) -> TaskQueue:
    if name not in tasks.queues:
        raise InvalidInput(
            "queue", _("must be one of %(allowed)s, not %(given)s", allowed=", ".join(tasks.queues), given=repr(name))
        )
    return tasks.queues[name]


def get_queue(name: str) -> TaskQueue:
    return tasks.queues.get(name) or abort(404, _("No queue with this name."))
