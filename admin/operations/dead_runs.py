"""What can be asked and done of dead runs."""

from datetime import datetime
from typing import NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Who
from admin.operations.queries import Cursor, Limit, read
from admin.operations.registry import Outcome, action
from admin.problems import BadInput
from engine.control import runs
from engine.models import Run
from engine.monitor import dead_letters
from engine.monitor.dead_letters import Opened, Place
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
    """`run`: its record, where the history still has it."""

    id: str
    queue: str
    run: Run | None
    message: Opened


@read("dead.list", "/dead")
def dead(before: Cursor = "", limit: Limit = 30) -> DeadPage:
    """Runs that took down too many workers, or whose message cannot be read; newest first."""
    page = dead_letters.page(tasks.queues, limit, place_of(before))
    older = page.older and f"{page.older.at!r}_{page.older.run_id}"
    return DeadPage([dead_run(letter) for letter in page.rows], older, dead_letters.count(tasks.queues))


def dead_run(letter: dead_letters.Dead) -> DeadRun:
    run = letter.run
    if run is None:
        return DeadRun(letter.run_id, letter.queue, letter.at, None, None, None)
    return DeadRun(letter.run_id, letter.queue, letter.at, run.task, run.deliveries, run.error)


@read("dead.show", "/dead/{run_id}")
def dead_message(run_id: str) -> DeadMessage:
    """The message of a dead run, as far as it can be read."""
    queue, data = get_dead_message(run_id)
    return DeadMessage(run_id, queue.name, Run.get_or_none(Run.id == run_id), dead_letters.opened(queue, data))


@action("dead.requeue", "operator", in_transaction=False)
def requeue_dead(actor: Who, run_id: str) -> Outcome[str]:
    """Give a dead run another chance, with its own message."""
    runs.requeue(tasks.queues, run_id)
    return Outcome(run_id, run_id)


@action("dead.discard", "admin", danger=True, in_transaction=False)
def discard_dead(actor: Who, run_id: str) -> Outcome[str]:
    """Give up the message of a dead run for good."""
    runs.discard(tasks.queues, run_id, actor.asker)
    return Outcome(run_id, run_id)


def place_of(text: str) -> Place | None:
    if not text:
        return None
    at, _separator, run_id = text.partition("_")
    try:
        return Place(float(at), run_id)
    except ValueError as error:
        raise BadInput("before", _("this is no place in the list")) from error


def get_dead_message(run_id: str) -> tuple[Queue, bytes]:
    """The message of a dead run, or 404."""
    return dead_letters.find(tasks.queues, run_id) or abort(404, _("No dead run of this id is kept."))
