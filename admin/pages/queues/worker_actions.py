"""The orders that a consumer can be given from its page: quiet, wake, stop, restart, dump."""

from collections.abc import Callable
from typing import NamedTuple

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString

import tasks
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.display.labels import ngettext_capped
from admin.operations.registry import execute
from admin.operations.workers import get_worker
from admin.pages import confirm
from admin.pages.blueprint import blueprint
from admin.pages.confirm import Confirmation
from engine.models import Consumer, now
from engine.monitor import consumers
from engine.queues import remote_control

#: So long a page waits for the answer of a consumer's workers; the consumer looks for orders twice a second.
DUMP_SECONDS = 2.5


@blueprint.route("/workers/<worker_id>/quiet", methods=["POST", "DELETE"])
@requires_role("admin")
def worker_quiet(worker_id: str) -> ResponseReturnValue:
    if request.method == "DELETE":
        return worker_wake(worker_id)
    execute(current_actor(), "workers.quiet", worker=worker_id)
    flash(_("It takes nothing new from now on; what runs goes on."))
    return redirect_to_worker(worker_id)


@blueprint.post("/workers/<worker_id>/wake")
@requires_role("admin")
def worker_wake(worker_id: str) -> ResponseReturnValue:
    execute(current_actor(), "workers.wake", worker=worker_id)
    flash(_("It takes runs again."))
    return redirect_to_worker(worker_id)


@blueprint.post("/workers/<worker_id>/dump")
@requires_role("admin")
def worker_dump(worker_id: str) -> ResponseReturnValue:
    asked_at, consumer = now(), get_worker(worker_id)
    execute(current_actor(), "workers.dump", worker=worker_id)
    if not remote_control.wait_for_dump(tasks.queues[consumer.queue], consumer.id, asked_at, DUMP_SECONDS):
        flash(_("It has not answered yet; the answer will stand here."), "error")
    return redirect(url_for("pages.worker", worker_id=worker_id) + "#stacks", 303)


def redirect_to_worker(worker_id: str) -> ResponseReturnValue:
    return redirect(url_for("pages.worker", worker_id=worker_id), 303)


def stop_question(consumer: Consumer) -> Confirmation:
    return Confirmation(
        title=_("Stop this consumer?"),
        statement=_("%(name)s serves no more, until somebody starts it.", name=consumers.full_worker_name(consumer)),
        consequences=[
            *running_consequences(consumer.running),
            _("Under “make run” it stays stopped. Docker and systemd may be set up to start it again."),
        ],
        warning=only_worker_warning(consumer),
        button=_("Stop it"),
        back=url_for("pages.worker", worker_id=consumer.id),
        back_button=_("Let it work"),
        page="pages.workers",
    )


def restart_question(consumer: Consumer) -> Confirmation:
    return Confirmation(
        title=_("Restart this consumer?"),
        statement=_(
            "%(name)s starts anew, with the code that is there now.", name=consumers.full_worker_name(consumer)
        ),
        consequences=running_consequences(consumer.running),
        button=_("Restart it"),
        back=url_for("pages.worker", worker_id=consumer.id),
        back_button=_("Let it work"),
        page="pages.workers",
    )


def running_consequences(running: list[object]) -> list[str]:
    if not running:
        return [_("It runs nothing at the moment.")]
    return [
        ngettext_capped(
            "It runs %(num)s task, which has a few seconds to end, and else goes back to its queue.",
            "It runs %(num)s tasks, which have a few seconds to end, and else go back to their queue.",
            len(running),
        )
    ]


def only_worker_warning(consumer: Consumer) -> str | None:
    rest = [
        other
        for other in consumers.live_consumers(consumers.list_consumers(), consumer.queue)
        if other.id != consumer.id
    ]
    return None if rest else _("Nobody else serves %(queue)s: what comes in will wait.", queue=consumer.queue)


class Ending(NamedTuple):
    """What is asked before it, and said after it."""

    question: Callable[[Consumer], Confirmation]
    done: LazyString


ENDINGS = {
    "stop": Ending(
        stop_question,
        lazy_gettext("It stops as soon as what it runs has ended, within seconds, and stays stopped."),
    ),
    "restart": Ending(
        restart_question,
        lazy_gettext(
            "It restarts, and is then on the list as a new one. What outlasts its grace period goes back to the queue."
        ),
    ),
}


def add_pages(verb: str, ending: Ending) -> None:
    """Put the page that asks and the one that does it on the blueprint."""

    @blueprint.get(f"/workers/<worker_id>/{verb}", endpoint=f"worker_{verb}")
    @requires_role("admin")
    def ask(worker_id: str) -> ResponseReturnValue:
        return confirm.render_confirmation(ending.question(get_worker(worker_id)))

    @blueprint.post(f"/workers/<worker_id>/{verb}", endpoint=f"worker_{verb}_now")
    @requires_role("admin")
    def end(worker_id: str) -> ResponseReturnValue:
        execute(current_actor(), f"workers.{verb}", worker=worker_id)
        flash(str(ending.done))
        return redirect_to_worker(worker_id)


for verb, ending in ENDINGS.items():
    add_pages(verb, ending)
