"""What can be asked and done of queues, and asked of the broker."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Who
from admin.operations.arguments import JSONObject
from admin.operations.queries import read
from admin.operations.registry import Outcome, action
from admin.problems import BadInput
from engine.control import queues as queue_control
from engine.models import now
from engine.monitor import broker_health, consumers, queue_contents, status
from engine.monitor.queue_contents import Waiting
from engine.queues.queue import Queue as TaskQueue


class Queue(NamedTuple):
    """At a glance; `in_per_minute` and `out_per_minute` are runs."""

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
    """First to last."""

    head: list[Waiting]


@read("queues.list", "/queues")
def queues() -> Queues:
    """Every queue: what waits and since when, what comes in and goes out a minute, who serves it."""
    return Queues(queues_of(tasks.queues))


@read("queues.show", "/queues/{queue}")
def queue(queue: str) -> Queue:
    """One queue."""
    return queues_of({queue: get_queue(queue)})[0]


def queues_of(task_queues: Mapping[str, TaskQueue]) -> list[Queue]:
    flows = queue_contents.flows(task_queues, now())
    return [Queue(*facts, *flows[facts.name]) for facts in status.queue_facts(task_queues, consumers.workers())]


@read("queues.head", "/queues/{queue}/head")
def head(queue: str, limit: Annotated[int, {"minimum": 1, "maximum": 1000}] = 10) -> Head:
    """The next runs of a queue."""
    task_queue = get_queue(queue)
    facts = status.facts_of(task_queue, consumers.live(consumers.workers(), queue))
    return Head(queue_contents.head(task_queue, facts, limit))


@read("queues.broker", "/broker")
def broker() -> JSONObject:
    """The broker itself: version, memory or file, persistence, and how long a ping takes."""
    return broker_health.health(next(iter(tasks.queues.values())))._asdict()


@action("queues.pause", "operator", in_transaction=False)
def pause_queue(actor: Who, queue: str, reason: str | None = None) -> Outcome[None]:
    """Hand out nothing more of this queue until it is resumed; what runs goes on."""
    queue_control.pause(queue_named(queue), by=actor.asker, reason=reason)
    return Outcome(target=queue, after={"reason": reason})


@action("queues.resume", "operator", in_transaction=False)
def resume_queue(actor: Who, queue: str) -> Outcome[bool]:
    """Hand out the queue's runs again; gives back whether it was paused."""
    return Outcome(queue_control.resume(queue_named(queue)), queue)


@action("queues.purge", "admin", danger=True, in_transaction=False)
def purge_queue(actor: Who, queue: str) -> Outcome[int]:
    """Cancel everything that waits in the queue; gives back how many runs that were."""
    purged = queue_control.purge(queue_named(queue), actor.asker)
    return Outcome(purged, queue, after={"cancelled": purged})


def queue_named(name: str) -> TaskQueue:
    if name not in tasks.queues:
        raise BadInput(
            "queue", _("one of %(allowed)s is needed, not %(given)s", allowed=", ".join(tasks.queues), given=repr(name))
        )
    return tasks.queues[name]


def get_queue(name: str) -> TaskQueue:
    return tasks.queues.get(name) or abort(404, _("There is no queue of this name."))
