"""Queues and broker; one queue with its next runs; pause, resume, purge."""

from typing import NamedTuple

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

import tasks
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.display import labels
from admin.display.numbers import format_number
from admin.operations.queues import get_queue
from admin.operations.registry import execute
from admin.pages import confirm, live_refresh
from admin.pages.blueprint import blueprint
from admin.pages.confirm import Confirmation
from admin.problems import outage_text
from engine.broker.messages import Requester
from engine.exceptions import BrokerUnavailable
from engine.models import Consumer, Run, now
from engine.monitor import broker_health, consumers, queue_contents, status
from engine.monitor.queue_contents import Throughput, WaitingRun
from engine.monitor.registered_tasks import list_tasks
from engine.monitor.status import QueueStatus
from engine.queues.queue import Queue

HEAD_SIZE = 10


class BrokerStatus(NamedTuple):
    """`error`: error text if the broker is unavailable. The other fields are empty then."""

    error: str | None
    health: broker_health.Health | None
    facts: list[QueueStatus]


def load_broker_status(queues: dict[str, Queue], workers: list[Consumer]) -> BrokerStatus:
    try:
        health = broker_health.check_health(next(iter(queues.values())))
        return BrokerStatus(None, health, status.queue_statuses(queues, workers))
    except BrokerUnavailable as error:
        return BrokerStatus(outage_text(error), None, [])


@blueprint.get("/queues")
@requires_role("viewer")
def queues() -> ResponseReturnValue:
    as_of = now()
    broker = load_broker_status(tasks.queues, consumers.list_consumers())
    flows = queue_contents.load_throughput(tasks.queues, as_of) if broker.facts else {}
    return live_refresh.render_page(
        "queues/queues.html",
        as_of=as_of,
        broker=broker,
        flows=flows,
        flow_minutes=queue_contents.THROUGHPUT_MINUTES,
        task_pauses={facts.name: paused_tasks(tasks.queues[facts.name]) for facts in broker.facts},
    )


@blueprint.get("/queues/<name>")
@requires_role("viewer")
def queue(name: str) -> ResponseReturnValue:
    as_of, queue, workers = now(), get_queue(name), consumers.list_consumers()
    broker = load_broker_status({name: queue}, workers)
    facts = broker.facts[0] if broker.facts else None
    return live_refresh.render_page(
        "queues/queue.html",
        as_of=as_of,
        name=name,
        error=broker.error,
        facts=facts,
        flow=queue_contents.load_throughput([name], as_of)[name] if facts else Throughput(0, 0),
        flow_minutes=queue_contents.THROUGHPUT_MINUTES,
        head=queue_contents.next_runs(queue, facts, HEAD_SIZE) if facts else [],
        workers=consumers.running_consumers(workers, name),
        lease=consumers.LEASE_TIME,
        task_pauses=paused_tasks(queue) if facts else {},
    )


def paused_tasks(queue: Queue) -> dict[str, dict[str, object]]:
    """Return the queue's paused tasks by name, each with author, time and reason."""
    registered = {task.name for task in list_tasks({queue.name: queue})}
    return {task: info for task, info in queue.pauses().items() if task in registered}


@blueprint.route("/queues/<name>/pause", methods=["POST", "DELETE"])
@requires_role("operator")
def queue_pause(name: str) -> ResponseReturnValue:
    get_queue(name)
    if request.method == "DELETE":
        return resume(name)
    execute(current_actor(), "queues.pause", queue=name, reason=request.form.get("reason", "").strip() or None)
    flash(_("Queue %(queue)s is paused. No run starts until you resume it.", queue=name))
    return redirect(url_for("pages.queue", name=name), 303)


@blueprint.post("/queues/<name>/resume")
@requires_role("operator")
def queue_resume(name: str) -> ResponseReturnValue:
    get_queue(name)
    return resume(name)


def resume(name: str) -> ResponseReturnValue:
    if execute(current_actor(), "queues.resume", queue=name):
        flash(_("Queue %(queue)s resumed.", queue=name))
    else:
        flash(_("Queue %(queue)s was not paused.", queue=name))
    return redirect(url_for("pages.queue", name=name), 303)


@blueprint.get("/queues/<name>/purge")
@requires_role("admin")
def queue_purge(name: str) -> ResponseReturnValue:
    return confirm.render_confirmation(purge_question(name))


@blueprint.post("/queues/<name>/purge")
@requires_role("admin")
def queue_purge_now(name: str) -> ResponseReturnValue:
    question = purge_question(name)
    if not question.is_confirmed:
        return confirm.render_confirmation(question, wrong=True)
    purged = execute(current_actor(), "queues.purge", queue=name)
    flash(labels.ngettext_capped("%(num)s run cancelled.", "%(num)s runs cancelled.", purged))
    return redirect(url_for("pages.queue", name=name), 303)


def purge_question(name: str) -> Confirmation:
    queue = get_queue(name)
    facts = status.queue_status(queue, consumers.live_consumers(consumers.list_consumers(), name))
    return Confirmation(
        title=_("Purge queue %(queue)s?", queue=name),
        statement=_("All waiting runs in queue %(queue)s will be cancelled.", queue=name),
        facts=[(_("Waiting now"), format_number(facts.waiting))],
        consequences=[
            _("Running and scheduled runs are not affected."),
            _("Each run stays in the history as cancelled. You can retry it from there."),
        ],
        button=_("Purge %(queue)s", queue=name),
        back=url_for("pages.queue", name=name),
        back_button=_("Keep them"),
        word=name,
        page="pages.queues",
    )


@blueprint.app_template_filter("arguments")
def arguments_text(run: WaitingRun) -> str:
    """Return the arguments as `1, key="value"`, at most 200 characters."""
    text = labels.call_text(Run(task="", args=run.args, kwargs=run.kwargs))[1:-1]
    return text if len(text) <= 200 else text[:199] + "…"


@blueprint.app_template_filter("requested_by")
def requested_by_text(asker: Requester) -> str:
    return labels.requester_text(Run(asked_by_kind=asker.kind, asked_by=asker.name))
