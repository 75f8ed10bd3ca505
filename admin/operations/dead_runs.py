"""Queries and actions for dead runs."""

from datetime import datetime
from typing import NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Actor
from admin.operations.queries import Cursor, Limit, register_query
from admin.operations.registry import ActionResult, register_action
from admin.problems import InvalidInput
from engine.broker.parsing import parse_timestamp
from engine.control import runs
from engine.models import Run
from engine.monitor import dead_letters
from engine.monitor.dead_letters import DecodedMessage, PagePosition
from engine.queues.queue import Queue


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
    """`run`: its history record, None if it was removed."""

    id: str
    queue: str
    run: Run | None
    message: DecodedMessage


@register_query("dead.list", "/dead")
def list_dead(before: Cursor = "", limit: Limit = 30) -> DeadPage:
    """List dead runs, newest first."""
    page = dead_letters.list_dead(tasks.queues, limit, parse_position(before))
    older = page.older and f"{page.older.at!r}_{page.older.run_id}"
    return DeadPage([dead_run_data(letter) for letter in page.rows], older, dead_letters.count_dead(tasks.queues))


def dead_run_data(letter: dead_letters.DeadLetter) -> DeadRun:
    run = letter.run
    if run is None:
        return DeadRun(letter.run_id, letter.queue, letter.at, None, None, None)
    return DeadRun(letter.run_id, letter.queue, letter.at, run.task, run.deliveries, run.error)


@register_query("dead.show", "/dead/{run_id}")
def show_dead_message(run_id: str) -> DeadMessage:
    """Show the message of a dead run, as far as it is readable."""
    queue, data = get_dead_message(run_id)
    return DeadMessage(run_id, queue.name, Run.get_or_none(Run.id == run_id), dead_letters.decode_message(queue, data))


@register_action("dead.requeue", "operator", in_transaction=False)
def requeue_dead(actor: Actor, run_id: str) -> ActionResult[str]:
    """Re-queue a dead run with its own message."""
    runs.requeue_dead_run(tasks.queues, run_id)
    return ActionResult(run_id, run_id)


@register_action("dead.discard", "admin", danger=True, in_transaction=False)
def discard_dead(actor: Actor, run_id: str) -> ActionResult[str]:
    """Discard a dead run and its message for good."""
    runs.discard_dead_run(tasks.queues, run_id, actor.requester)
    return ActionResult(run_id, run_id)


def parse_position(text: str) -> PagePosition | None:
    if not text:
        return None
    at, _separator, run_id = text.partition("_")
    try:
        return PagePosition(parse_timestamp(at), run_id)
    except ValueError as error:
        raise InvalidInput("before", _("must be a `next` value of this list")) from error


def get_dead_message(run_id: str) -> tuple[Queue, bytes]:
    """Return the queue and message of a dead run. Raises NotFound."""
    return dead_letters.find_dead(tasks.queues, run_id) or abort(404, _("No dead run with this id."))
