"""Flower's commands: run a task, wait for it, revoke it; shut a worker down."""

from datetime import datetime, timedelta

import orjson
from flask import Response, request
from flask_babel import gettext as _
from werkzeug.exceptions import BadRequest

import tasks
from admin.api.blueprint import blueprint
from admin.api.cleanup import LONGEST_WAIT_SECONDS
from admin.api.routes import in_json
from admin.auth.access import needs, takes_any_body
from admin.auth.identity import current_actor
from admin.flower.views import after_waiting, get_run_or_404, result_of, state_of, time_of, timeout_of, worker_not_found
from admin.operations.arguments import read_number
from admin.operations.registry import perform
from admin.problems import BadInput
from engine.exceptions import NotPossible
from engine.models import Run, now
from engine.monitor import registered_tasks
from engine.queues.queue import Queue

MICROSECOND = "%Y-%m-%d %H:%M:%S.%f"


@blueprint.post("/api/task/async-apply/<name>")
@blueprint.post("/api/task/send-task/<name>", endpoint="flower_send")
@needs("operator")
@takes_any_body
def flower_async_apply(name: str) -> Response:
    run_id = enqueued(name)[0]
    return in_json({"task-id": run_id, "state": state_of(Run.get_or_none(Run.id == run_id))})


@blueprint.post("/api/task/apply/<name>")
@needs("operator")
@takes_any_body
def flower_apply(name: str) -> Response:
    """Run it and wait for its end: as long as `timeout` says, and no longer than 30 seconds."""
    options = sent()
    seconds = timeout_of(options.get("timeout")) if "timeout" in options else float(LONGEST_WAIT_SECONDS)
    run_id, queue = enqueued(name)
    return in_json(result_of(after_waiting(run_id, queue, seconds), run_id))


def enqueued(name: str) -> tuple[str, Queue]:
    """The id of a new run, and its queue."""
    queue, task = registered_tasks.find(tasks.queues, name)
    body = sent()
    args, kwargs = body.pop("args", []), body.pop("kwargs", {})
    body.pop("timeout", None)
    if body.pop("queue", queue.name) != queue.name:
        raise BadInput("queue", _("%(task)s has its queue: %(queue)s", task=task.__name__, queue=queue.name))
    options = {"eta": eta_of(body), "priority": body.pop("priority", None)}
    for unknown in body:
        raise BadInput(unknown, _("no task is run with this option here"))
    run = perform(current_actor(), "tasks.run", name=task.__name__, args=args, arguments=kwargs, **options)
    return run.id, queue


def sent() -> dict[str, object]:
    """The JSON in the body, whatever its sender calls it: curl and many a script say that it is a form."""
    try:
        options = orjson.loads(request.get_data() or b"{}")
    except ValueError as error:
        raise BadRequest(_("This is no JSON: %(why)s", why=str(error))) from error
    if not isinstance(options, dict):
        raise BadInput("body", _("an object of names and values is needed"))
    return options


def eta_of(options: dict[str, object]) -> datetime | None:
    """An eta as Flower takes it (UTC), or so many seconds from now."""
    eta, countdown = options.pop("eta", None), read_number("countdown", options.pop("countdown", None))
    if eta is not None:
        return time_of("eta", eta, MICROSECOND)
    return now() + timedelta(seconds=countdown) if countdown else None


@blueprint.post("/api/task/revoke/<run_id>")
@needs("operator")
@takes_any_body
def flower_revoke(run_id: str) -> Response:
    return cancelled(run_id, "Revoked")


@blueprint.post("/api/task/abort/<run_id>")
@needs("operator")
@takes_any_body
def flower_abort(run_id: str) -> Response:
    return cancelled(run_id, "Aborted")


def cancelled(run_id: str, word: str) -> Response:
    """A task that has ended by now is none the worse for it, here as there."""
    try:
        perform(current_actor(), "runs.cancel", run_id=run_id)
    except NotPossible:
        get_run_or_404(run_id)
    return in_json({"message": f"{word} '{run_id}'"})


@blueprint.post("/api/worker/shutdown/<name>")
@needs("admin")
@takes_any_body
def flower_shutdown(name: str) -> Response:
    try:
        perform(current_actor(), "workers.stop", worker=name)
    except NotPossible:
        worker_not_found(name)
    return in_json({"message": "Shutting down!"})
