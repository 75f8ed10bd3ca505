"""The queues and the broker that carries them; one queue with what comes next; pause, resume, purge."""

from typing import NamedTuple

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

import tasks
from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.display import labels
from admin.display.numbers import number
from admin.operations.queues import get_queue
from admin.operations.registry import perform
from admin.pages import confirm, live_refresh
from admin.pages.blueprint import blueprint
from admin.pages.confirm import Question
from admin.problems import trouble_in_words
from engine.broker.messages import Requester
from engine.exceptions import BrokerAway
from engine.models import Run, WorkerProcess, now
from engine.monitor import broker_health, consumers, queue_contents, status
from engine.monitor.queue_contents import Flow, Waiting
from engine.monitor.registered_tasks import registered
from engine.monitor.status import QueueFacts
from engine.queues.queue import Queue

HEAD = 10


class Broker(NamedTuple):
    """`trouble`: why it cannot be asked; then the rest is empty."""

    trouble: str | None
    health: broker_health.Health | None
    facts: list[QueueFacts]


def look(queues: dict[str, Queue], workers: list[WorkerProcess]) -> Broker:
    try:
        health = broker_health.health(next(iter(queues.values())))
        return Broker(None, health, status.queue_facts(queues, workers))
    except BrokerAway as error:
        return Broker(trouble_in_words(error), None, [])


@blueprint.get("/queues")
@needs("viewer")
def queues() -> ResponseReturnValue:
    as_of = now()
    broker = look(tasks.queues, consumers.workers())
    flows = queue_contents.flows(tasks.queues, as_of) if broker.facts else {}
    return live_refresh.page(
        "queues/queues.html",
        as_of=as_of,
        broker=broker,
        flows=flows,
        flow_minutes=queue_contents.FLOW_MINUTES,
        task_pauses={facts.name: paused_tasks(tasks.queues[facts.name]) for facts in broker.facts},
    )


@blueprint.get("/queues/<name>")
@needs("viewer")
def queue(name: str) -> ResponseReturnValue:
    as_of, queue, workers = now(), get_queue(name), consumers.workers()
    broker = look({name: queue}, workers)
    facts = broker.facts[0] if broker.facts else None
    return live_refresh.page(
        "queues/queue.html",
        as_of=as_of,
        name=name,
        trouble=broker.trouble,
        facts=facts,
        flow=queue_contents.flows([name], as_of)[name] if facts else Flow(0, 0),
        flow_minutes=queue_contents.FLOW_MINUTES,
        head=queue_contents.head(queue, facts, HEAD) if facts else [],
        workers=consumers.present(workers, name),
        lease=consumers.LEASE,
        task_pauses=paused_tasks(queue) if facts else {},
    )


def paused_tasks(queue: Queue) -> dict[str, dict[str, object]]:
    """Those of the queue's tasks of which nothing is started, each with who, when and why."""
    known = {task.name for task in registered({queue.name: queue})}
    return {task: info for task, info in queue.pauses().items() if task in known}


@blueprint.route("/queues/<name>/pause", methods=["POST", "DELETE"])
@needs("operator")
def queue_pause(name: str) -> ResponseReturnValue:
    get_queue(name)
    if request.method == "DELETE":
        return resume(name)
    perform(current_actor(), "queues.pause", queue=name, reason=request.form.get("reason", "").strip()[:500] or None)
    flash(_("The queue %(queue)s is paused: nothing more of it is started until it is resumed.", queue=name))
    return redirect(url_for("pages.queue", name=name), 303)


@blueprint.post("/queues/<name>/resume")
@needs("operator")
def queue_resume(name: str) -> ResponseReturnValue:
    get_queue(name)
    return resume(name)


def resume(name: str) -> ResponseReturnValue:
    if perform(current_actor(), "queues.resume", queue=name):
        flash(_("The queue %(queue)s goes on.", queue=name))
    else:
        flash(_("The queue %(queue)s was not paused.", queue=name))
    return redirect(url_for("pages.queue", name=name), 303)


@blueprint.get("/queues/<name>/purge")
@needs("admin")
def queue_purge(name: str) -> ResponseReturnValue:
    return confirm.ask(purge_question(name))


@blueprint.post("/queues/<name>/purge")
@needs("admin")
def queue_purge_now(name: str) -> ResponseReturnValue:
    question = purge_question(name)
    if not question.answered:
        return confirm.ask(question, wrong=True)
    purged = perform(current_actor(), "queues.purge", queue=name)
    flash(labels.counted("%(num)s run was cancelled.", "%(num)s runs were cancelled.", purged))
    return redirect(url_for("pages.queue", name=name), 303)


def purge_question(name: str) -> Question:
    queue = get_queue(name)
    facts = status.facts_of(queue, consumers.live(consumers.workers(), name))
    return Question(
        title=_("Purge %(queue)s?", queue=name),
        statement=_("Everything that waits in the queue %(queue)s is cancelled.", queue=name),
        facts=[(_("Waiting now"), number(facts.waiting))],
        consequences=[
            _("What runs goes on, and what is scheduled for later stays."),
            _("Each run is kept in the history as cancelled, and can be retried from there."),
        ],
        button=_("Purge %(queue)s", queue=name),
        back=url_for("pages.queue", name=name),
        back_button=_("Keep them"),
        word=name,
        page="pages.queues",
    )


@blueprint.app_template_filter("arguments")
def arguments(run: Waiting) -> str:
    """1, key="value": as much of it as a line holds."""
    text = labels.as_call(Run(task="", args=run.args, kwargs=run.kwargs))[1:-1]
    return text if len(text) <= 200 else text[:199] + "…"


@blueprint.app_template_filter("asked_by")
def asked_by(asker: Requester) -> str:
    return labels.asker(Run(asked_by_kind=asker.kind, asked_by=asker.name))
