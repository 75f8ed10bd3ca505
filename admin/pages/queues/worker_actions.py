"""Actions on a consumer from its page: quiet, wake, stop, restart, dump."""

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

#: Seconds that a page waits for the stack traces. A consumer polls for commands twice a second.
DUMP_SECONDS = 2.5


@blueprint.route("/workers/<worker_id>/quiet", methods=["POST", "DELETE"])
@requires_role("admin")
def worker_quiet(worker_id: str) -> ResponseReturnValue:
    if request.method == "DELETE":
        return worker_wake(worker_id)
    execute(current_actor(), "workers.quiet", worker=worker_id)
    flash(
        _("Consumer %(name)s is quiet. It finishes running tasks and takes no new ones.", name=worker_name(worker_id))
    )
    return redirect_to_worker(worker_id)


@blueprint.post("/workers/<worker_id>/wake")
@requires_role("admin")
def worker_wake(worker_id: str) -> ResponseReturnValue:
    execute(current_actor(), "workers.wake", worker=worker_id)
    flash(_("Consumer %(name)s takes tasks again.", name=worker_name(worker_id)))
    return redirect_to_worker(worker_id)


@blueprint.post("/workers/<worker_id>/dump")
@requires_role("admin")
def worker_dump(worker_id: str) -> ResponseReturnValue:
    asked_at, consumer = now(), get_worker(worker_id)
    execute(current_actor(), "workers.dump", worker=worker_id)
    if not remote_control.wait_for_dump(tasks.queues[consumer.queue], consumer.id, asked_at, DUMP_SECONDS):
        flash(_("Stack traces requested. They appear on this page when the consumer responds."), "error")
    return redirect(url_for("pages.worker", worker_id=worker_id) + "#stacks", 303)


def worker_name(worker_id: str) -> str:
    return consumers.full_worker_name(get_worker(worker_id))


def redirect_to_worker(worker_id: str) -> ResponseReturnValue:
    return redirect(url_for("pages.worker", worker_id=worker_id), 303)


def stop_question(consumer: Consumer) -> Confirmation:
    return Confirmation(
        title=_("Stop this consumer?"),
        statement=_("%(name)s takes no more runs until you start it again.", name=consumers.full_worker_name(consumer)),
        consequences=[
            *running_consequences(consumer.running),
            _("Under “make run” the consumer stays stopped. Docker or systemd may start it again."),
        ],
        warning=only_worker_warning(consumer),
        button=_("Stop"),
        back=url_for("pages.worker", worker_id=consumer.id),
        back_button=_("Keep it running"),
        page="pages.workers",
    )


def restart_question(consumer: Consumer) -> Confirmation:
    return Confirmation(
        title=_("Restart this consumer?"),
        statement=_("%(name)s restarts with the deployed code.", name=consumers.full_worker_name(consumer)),
        consequences=running_consequences(consumer.running),
        button=_("Restart"),
        back=url_for("pages.worker", worker_id=consumer.id),
        back_button=_("Keep it running"),
        page="pages.workers",
    )


def running_consequences(running: list[object]) -> list[str]:
    if not running:
        return [_("The consumer is idle.")]
    return [
        ngettext_capped(
            "The consumer is running %(num)s task. If it does not end within a few seconds, it returns to the queue.",
            "The consumer is running %(num)s tasks. Those that do not end within a few seconds return to the queue.",
            len(running),
        )
    ]


def only_worker_warning(consumer: Consumer) -> str | None:
    rest = [
        other
        for other in consumers.live_consumers(consumers.list_consumers(), consumer.queue)
        if other.id != consumer.id
    ]
    return None if rest else _("No other consumer serves %(queue)s. New runs will wait.", queue=consumer.queue)


class Ending(NamedTuple):
    """`question`: the confirmation page. `done`: the notice afterwards, with `%(name)s` for the consumer."""

    question: Callable[[Consumer], Confirmation]
    done: LazyString


ENDINGS = {
    "stop": Ending(
        stop_question,
        lazy_gettext("Stopping %(name)s. It exits within seconds, when its running tasks end."),
    ),
    "restart": Ending(
        restart_question,
        lazy_gettext("Restarting %(name)s. Tasks still running after the grace period return to the queue."),
    ),
}


def add_pages(verb: str, ending: Ending) -> None:
    """Register the confirmation page and the page that executes the action."""

    @blueprint.get(f"/workers/<worker_id>/{verb}", endpoint=f"worker_{verb}")
    @requires_role("admin")
    def ask(worker_id: str) -> ResponseReturnValue:
        return confirm.render_confirmation(ending.question(get_worker(worker_id)))

    @blueprint.post(f"/workers/<worker_id>/{verb}", endpoint=f"worker_{verb}_now")
    @requires_role("admin")
    def end(worker_id: str) -> ResponseReturnValue:
        execute(current_actor(), f"workers.{verb}", worker=worker_id)
        flash(str(ending.done) % {"name": worker_name(worker_id)})
        return redirect_to_worker(worker_id)


for verb, ending in ENDINGS.items():
    add_pages(verb, ending)
