"""Dead runs: the list, one message, re-queue, discard."""

from flask import Response, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

import tasks
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.display.labels import short_id
from admin.operations.dead_runs import get_dead_message, parse_position
from admin.operations.registry import execute
from admin.pages import confirm, live_refresh
from admin.pages.blueprint import ROWS_PER_PAGE, blueprint
from admin.pages.confirm import Confirmation
from admin.problems import outage_text
from engine.exceptions import BrokerUnavailable
from engine.models import Run, now
from engine.monitor import dead_letters
from engine.monitor.dead_letters import DecodedMessage

#: Characters of a message shown on the page. The whole message can be downloaded.
MAX_SHOWN = 12_000


@blueprint.get("/dead")
@requires_role("viewer")
def dead() -> ResponseReturnValue:
    before, error_text, page, total = (
        parse_position(request.args.get("before", "")),
        None,
        dead_letters.DeadLetterPage([], None),
        0,
    )
    try:
        page, total = dead_letters.list_dead(tasks.queues, ROWS_PER_PAGE, before), dead_letters.count_dead(tasks.queues)
    except BrokerUnavailable as error:
        error_text = outage_text(error)
    older = page.older and f"{page.older.at!r}_{page.older.run_id}"
    return live_refresh.render_page(
        "runs/dead.html",
        as_of=now(),
        rows=page.rows,
        older=older,
        first=before is None,
        total=total,
        trouble=error_text,
    )


@blueprint.get("/dead/<run_id>")
@requires_role("viewer")
def dead_message(run_id: str) -> ResponseReturnValue:
    queue, data = get_dead_message(run_id)
    return live_refresh.render_page(
        "runs/dead_message.html",
        as_of=now(),
        run_id=run_id,
        queue=queue.name,
        run=Run.get_or_none(Run.id == run_id),
        opened=dead_letters.decode_message(queue, data),
        longest=MAX_SHOWN,
    )


@blueprint.get("/dead/<run_id>/message")
@requires_role("viewer")
def dead_message_raw(run_id: str) -> ResponseReturnValue:
    """Return the raw bytes of the message."""
    _queue, data = get_dead_message(run_id)
    return Response(
        data, content_type="application/octet-stream", headers={"Content-Disposition": 'attachment; filename="message"'}
    )


@blueprint.post("/dead/<run_id>/requeue")
@requires_role("operator")
def dead_requeue(run_id: str) -> ResponseReturnValue:
    execute(current_actor(), "dead.requeue", run_id=run_id)
    flash(_("Run %(id)s re-queued.", id=short_id(run_id)))
    on_record = Run.select().where(Run.id == run_id).exists()
    return redirect(url_for("pages.run", run_id=run_id) if on_record else url_for("pages.dead"), 303)


@blueprint.get("/dead/<run_id>/discard")
@requires_role("admin")
def dead_discard(run_id: str) -> ResponseReturnValue:
    queue, data = get_dead_message(run_id)
    opened = dead_letters.decode_message(queue, data)
    return confirm.render_confirmation(
        Confirmation(
            title=_("Discard this message?"),
            statement=_("The run can never be executed after this. Its entry in the history stays."),
            facts=[(_("Task"), task_of_message(opened)), (_("Run"), run_id), (_("Queue"), queue.name)],
            button=_("Discard"),
            back=url_for("pages.dead_message", run_id=run_id),
            back_button=_("Keep it"),
            page="pages.dead",
        )
    )


@blueprint.post("/dead/<run_id>/discard")
@requires_role("admin")
def dead_discard_now(run_id: str) -> ResponseReturnValue:
    execute(current_actor(), "dead.discard", run_id=run_id)
    flash(_("Run %(id)s discarded.", id=short_id(run_id)))
    return redirect(url_for("pages.dead"), 303)


def task_of_message(opened: DecodedMessage) -> str:
    return opened.head.get("task", _("unreadable")).rpartition(".")[2]
