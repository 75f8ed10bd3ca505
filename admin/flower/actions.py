"""Flower's commands: run a task, wait for it, revoke it, shut down a worker."""

from datetime import datetime, timedelta

import orjson
from flask import Response, request
from flask_babel import gettext as _
from werkzeug.exceptions import BadRequest

import tasks
from admin.api.blueprint import blueprint
from admin.api.cleanup import MAX_WAIT_SECONDS
from admin.api.routes import json_response
from admin.auth.access import accepts_any_body, requires_role
from admin.auth.identity import current_actor
from admin.flower.views import (
    celery_state,
    get_run_or_404,
    parse_time,
    parse_timeout,
    result_data,
    wait_for_end,
    worker_not_found,
)
from admin.operations.arguments import parse_number
from admin.operations.registry import execute
from admin.problems import InvalidInput
from engine.exceptions import InvalidState
from engine.models import Run, now
from engine.monitor import registered_tasks
from engine.queues.queue import Queue

MICROSECOND = "%Y-%m-%d %H:%M:%S.%f"


@blueprint.post("/api/task/async-apply/<name>")
@blueprint.post("/api/task/send-task/<name>", endpoint="flower_send")
@requires_role("operator")
@accepts_any_body
def flower_async_apply(name: str) -> Response:
    run_id = enqueue_task(name)[0]
    return json_response({"task-id": run_id, "state": celery_state(Run.get_or_none(Run.id == run_id))})


@blueprint.post("/api/task/apply/<name>")
@requires_role("operator")
@accepts_any_body
def flower_apply(name: str) -> Response:
    """Run a task and wait for its end, at most `timeout` and 30 seconds."""
    options = read_body()
    seconds = parse_timeout(options.get("timeout")) if "timeout" in options else float(MAX_WAIT_SECONDS)
    run_id, queue = enqueue_task(name)
    return json_response(result_data(wait_for_end(run_id, queue, seconds), run_id))


def enqueue_task(name: str) -> tuple[str, Queue]:
    """Enqueue a run. Return its id and queue."""
    queue, task = registered_tasks.find_task(tasks.queues, name)
    body = read_body()
    args, kwargs = body.pop("args", []), body.pop("kwargs", {})
    body.pop("timeout", None)
    if body.pop("queue", queue.name) != queue.name:
        raise InvalidInput("queue", _("must be %(queue)s, the queue of %(task)s", task=task.__name__, queue=queue.name))
    options = {"eta": parse_eta(body), "priority": body.pop("priority", None)}
    for unknown in body:
        raise InvalidInput(unknown, _("must be left out: this option is not supported"))
    run = execute(current_actor(), "tasks.run", name=task.__name__, args=args, arguments=kwargs, **options)
    return run.id, queue


def read_body() -> dict[str, object]:
    """Return the JSON of the body whatever its content type. curl and many scripts send it as a form."""
    try:
        options = orjson.loads(request.get_data() or b"{}")
    except ValueError as error:
        raise BadRequest(_("The body is not valid JSON: %(why)s", why=str(error))) from error
    if not isinstance(options, dict):
        raise InvalidInput("body", _("must be a JSON object"))
    return options


def parse_eta(options: dict[str, object]) -> datetime | None:
    """Return the `eta` (UTC), or now plus `countdown` seconds."""
    eta, countdown = options.pop("eta", None), parse_number("countdown", options.pop("countdown", None))
    if eta is not None:
        return parse_time("eta", eta, MICROSECOND)
    return now() + timedelta(seconds=countdown) if countdown else None


@blueprint.post("/api/task/revoke/<run_id>")
@requires_role("operator")
@accepts_any_body
def flower_revoke(run_id: str) -> Response:
    return cancel_run(run_id, "Revoked")


@blueprint.post("/api/task/abort/<run_id>")
@requires_role("operator")
@accepts_any_body
def flower_abort(run_id: str) -> Response:
    return cancel_run(run_id, "Aborted")


def cancel_run(run_id: str, word: str) -> Response:
    """Cancel a run. An ended run is not an error, as in Flower."""
    try:
        execute(current_actor(), "runs.cancel", run_id=run_id)
    except InvalidState:
        get_run_or_404(run_id)
    return json_response({"message": f"{word} '{run_id}'"})


@blueprint.post("/api/worker/shutdown/<name>")
@requires_role("admin")
@accepts_any_body
def flower_shutdown(name: str) -> Response:
    try:
        execute(current_actor(), "workers.stop", worker=name)
    except InvalidState:
        worker_not_found(name)
    return json_response({"message": "Shutting down!"})
