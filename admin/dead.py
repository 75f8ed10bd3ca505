"""What died: why, how often it was tried, the message that was kept of it; another chance, or none."""

from typing import Any

from flask import Response, abort, flash, redirect, request, url_for
from flask_babel import gettext as _

import tasks
from admin import asking_twice, live
from admin.access import needs
from admin.asking_twice import Question
from admin.console import ROWS, blueprint
from admin.perform import perform
from admin.problems import BadInput, trouble_in_words
from admin.who import current
from engine import dead_letters
from engine.dead_letters import Opened, Place
from engine.queues import BrokerAway, Queue
from engine.records import Run, now

#: Of a message's text so much is shown; all of it can be saved.
LONGEST = 12_000


@blueprint.get("/dead")
@needs("viewer")
def dead() -> Any:
    before, trouble, page, total = place_of(request.args.get("before", "")), None, dead_letters.Page([], None), 0
    try:
        page, total = dead_letters.page(tasks.queues, ROWS, before), dead_letters.count(tasks.queues)
    except BrokerAway as error:
        trouble = trouble_in_words(error)
    older = page.older and f"{page.older.at!r}_{page.older.run_id}"
    return live.page(
        "dead.html", as_of=now(), rows=page.rows, older=older, first=before is None, total=total, trouble=trouble
    )


def place_of(text: str) -> Place | None:
    if not text:
        return None
    at, _separator, run_id = text.partition("_")
    try:
        return Place(float(at), run_id)
    except ValueError as error:
        raise BadInput("before", _("this is no place in the list")) from error


@blueprint.get("/dead/<run_id>")
@needs("viewer")
def dead_message(run_id: str) -> Any:
    queue, data = kept(run_id)
    return live.page(
        "dead_message.html",
        as_of=now(),
        run_id=run_id,
        queue=queue.name,
        run=Run.get_or_none(Run.id == run_id),
        opened=dead_letters.opened(queue, data),
        longest=LONGEST,
    )


@blueprint.get("/dead/<run_id>/message")
@needs("viewer")
def dead_message_raw(run_id: str) -> Any:
    """The bytes as they are."""
    _queue, data = kept(run_id)
    return Response(
        data, content_type="application/octet-stream", headers={"Content-Disposition": 'attachment; filename="message"'}
    )


@blueprint.post("/dead/<run_id>/requeue")
@needs("operator")
def dead_requeue(run_id: str) -> Any:
    perform(current(), "dead.requeue", run_id=run_id)
    flash(_("It is back in its queue."))
    on_record = Run.select().where(Run.id == run_id).exists()
    return redirect(url_for("pages.run", run_id=run_id) if on_record else url_for("pages.dead"), 303)


@blueprint.get("/dead/<run_id>/discard")
@needs("admin")
def dead_discard(run_id: str) -> Any:
    queue, data = kept(run_id)
    opened = dead_letters.opened(queue, data)
    return asking_twice.ask(
        Question(
            title=_("Discard this message?"),
            statement=_("What was asked for is given up for good; only its line in the history stays."),
            facts=[(_("Task"), task_of(opened)), (_("Run"), run_id), (_("Queue"), queue.name)],
            button=_("Discard it"),
            back=url_for("pages.dead_message", run_id=run_id),
            back_button=_("Keep it"),
            page="pages.dead",
        )
    )


@blueprint.post("/dead/<run_id>/discard")
@needs("admin")
def dead_discard_now(run_id: str) -> Any:
    perform(current(), "dead.discard", run_id=run_id)
    flash(_("It is discarded."))
    return redirect(url_for("pages.dead"), 303)


def kept(run_id: str) -> tuple[Queue, bytes]:
    """The message of a dead run, or 404."""
    return dead_letters.find(tasks.queues, run_id) or abort(404, _("No dead run of this id is kept."))


def task_of(opened: Opened) -> str:
    return opened.head.get("task", _("unreadable")).rpartition(".")[2]
