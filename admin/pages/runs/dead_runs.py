"""What died: why, how often it was tried, the message that was kept of it; another chance, or none."""

from flask import Response, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

import tasks
from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.operations.dead_runs import get_dead_message, place_of
from admin.operations.registry import perform
from admin.pages import confirm, live_refresh
from admin.pages.blueprint import ROWS, blueprint
from admin.pages.confirm import Question
from admin.problems import trouble_in_words
from engine.exceptions import BrokerAway
from engine.models import Run, now
from engine.monitor import dead_letters
from engine.monitor.dead_letters import Opened

#: Of a message's text so much is shown; all of it can be saved.
LONGEST = 12_000


@blueprint.get("/dead")
@needs("viewer")
def dead() -> ResponseReturnValue:
    before, error_text, page, total = place_of(request.args.get("before", "")), None, dead_letters.Page([], None), 0
    try:
        page, total = dead_letters.page(tasks.queues, ROWS, before), dead_letters.count(tasks.queues)
    except BrokerAway as error:
        error_text = trouble_in_words(error)
    older = page.older and f"{page.older.at!r}_{page.older.run_id}"
    return live_refresh.page(
        "runs/dead.html",
        as_of=now(),
        rows=page.rows,
        older=older,
        first=before is None,
        total=total,
        trouble=error_text,
    )


@blueprint.get("/dead/<run_id>")
@needs("viewer")
def dead_message(run_id: str) -> ResponseReturnValue:
    queue, data = get_dead_message(run_id)
    return live_refresh.page(
        "runs/dead_message.html",
        as_of=now(),
        run_id=run_id,
        queue=queue.name,
        run=Run.get_or_none(Run.id == run_id),
        opened=dead_letters.opened(queue, data),
        longest=LONGEST,
    )


@blueprint.get("/dead/<run_id>/message")
@needs("viewer")
def dead_message_raw(run_id: str) -> ResponseReturnValue:
    """The bytes as they are."""
    _queue, data = get_dead_message(run_id)
    return Response(
        data, content_type="application/octet-stream", headers={"Content-Disposition": 'attachment; filename="message"'}
    )


@blueprint.post("/dead/<run_id>/requeue")
@needs("operator")
def dead_requeue(run_id: str) -> ResponseReturnValue:
    perform(current_actor(), "dead.requeue", run_id=run_id)
    flash(_("It is back in its queue."))
    on_record = Run.select().where(Run.id == run_id).exists()
    return redirect(url_for("pages.run", run_id=run_id) if on_record else url_for("pages.dead"), 303)


@blueprint.get("/dead/<run_id>/discard")
@needs("admin")
def dead_discard(run_id: str) -> ResponseReturnValue:
    queue, data = get_dead_message(run_id)
    opened = dead_letters.opened(queue, data)
    return confirm.ask(
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
def dead_discard_now(run_id: str) -> ResponseReturnValue:
    perform(current_actor(), "dead.discard", run_id=run_id)
    flash(_("It is discarded."))
    return redirect(url_for("pages.dead"), 303)


def task_of(opened: Opened) -> str:
    return opened.head.get("task", _("unreadable")).rpartition(".")[2]
