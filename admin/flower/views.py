"""Flower's API with its paths, parameters and keys.

Roles and audit log apply: a viewer reads, an operator runs and revokes, an admin shuts down workers.
"""

from datetime import UTC, datetime
from typing import NoReturn

from flask import Response, abort, request
from flask_babel import gettext as _

import tasks
from admin.api.blueprint import blueprint
from admin.api.cleanup import MAX_WAIT_SECONDS, waiting_requests
from admin.api.routes import json_response
from admin.auth.access import requires_role
from admin.flower.serializers import STATES, exception_text, full_name, serialize_tasks, serialize_worker, states_for
from admin.operations.arguments import parse_number
from admin.problems import InvalidInput
from engine.broker.messages import short_task_name
from engine.database import release_connection
from engine.exceptions import BrokerUnavailable
from engine.history.writer import flush_events_now
from engine.models import ENDED, Consumer, Run, now
from engine.monitor import celery_inspect, consumers, registered_tasks
from engine.monitor.consumers import LEASE_TIME
from engine.queues.queue import Queue
from engine.search import filters
from engine.search.query_plan import RunQuery, TimeRange
from engine.search.run_search import search_runs

#: Flower keeps 10,000 tasks in memory, so at most the newest 10,000 are sorted. USUAL: the default page.
MOST, USUAL = 10_000, 1_000
#: Most scheduled runs in the answer about one worker. The number of the others is added.
MAX_SCHEDULED = 1_000

SORTED_BY = {"name": "task", "state": "state", "received": "enqueued_at", "started": "started_at"}
MINUTE = "%Y-%m-%d %H:%M"


# --- tasks ---------------------------------------------------------------------------------------------------


@blueprint.get("/api/tasks")
@requires_role("viewer")
def flower_tasks() -> Response:
    if request.args.get("search"):
        raise InvalidInput("search", _("must be left out: search with `q` of /api/v1/admin/runs"))
    limit, offset = whole_number("limit", USUAL), whole_number("offset", 0)
    size, order = min(limit + offset, MOST), request.args.get("sort_by") or ""
    runs = newest_runs(requested_runs(), MOST if order else size)
    rows = sort_tasks(runs, order, size) if order else runs
    return json_response(serialize_tasks(rows[offset:size]))


def requested_runs() -> RunQuery:
    args = {name: request.args.get(name, "") for name in ("state", "taskname", "workername")}
    filled = {name: value for name, value in args.items() if value not in ("", "All")}
    worker = filled.get("workername", "").partition("@")[2]
    return RunQuery(
        states=states_for(filled["state"]) if "state" in filled else None,
        tasks=frozenset({short_task_name(filled["taskname"])}) if "taskname" in filled else None,
        queues=frozenset({filled["workername"].partition("@")[0]}) if "workername" in filled else None,
        enqueued=TimeRange(minute_of("received_start"), minute_of("received_end")),
        row_filters=(filters.contains(Run.worker, [f" on {worker}:"]),) if "workername" in filled else (),
    )


def newest_runs(query: RunQuery, size: int) -> list[Run]:
    """Return the newest matching runs, reading as many pages as needed."""
    rows: list[Run] = []
    before: str | None = ""
    while before is not None and len(rows) < size:
        page = search_runs(query, min(size - len(rows), USUAL), before)
        rows, before = rows + page.rows, page.older
    return rows


def sort_tasks(runs: list[Run], order: str, size: int) -> list[Run]:
    field = SORTED_BY.get(order.lstrip("-"))
    if field is None:
        raise InvalidInput("sort_by", _("must be one of %(allowed)s", allowed=", ".join(SORTED_BY)))
    missing = datetime.min.replace(tzinfo=UTC)
    return sorted(runs, key=lambda run: getattr(run, field) or missing, reverse=order.startswith("-"))[:size]


def whole_number(name: str, default: int) -> int:
    """Return a parameter. A negative number counts as 0, as in Flower."""
    text = request.args.get(name) or str(default)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise InvalidInput(name, _("must be a whole number"))
    return max(int(text), 0)


def minute_of(name: str) -> datetime | None:
    text = request.args.get(name)
    return parse_time(name, text, MINUTE) if text else None


def parse_time(name: str, text: object, form: str) -> datetime:
    try:
        return datetime.strptime(str(text), form).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(name, _("must be a time such as %(example)s", example=now().strftime(form))) from error


@blueprint.get("/api/task/info/<run_id>")
@requires_role("viewer")
def flower_info(run_id: str) -> Response:
    serialized = serialize_tasks([get_run_or_404(run_id)])[run_id]
    return json_response({"worker": None, **serialized})


@blueprint.get("/api/task/types")
@requires_role("viewer")
def flower_types() -> Response:
    return json_response(
        {"task-types": sorted(full_name(fact.name) for fact in registered_tasks.list_tasks(tasks.queues))}
    )


@blueprint.get("/api/task/result/<run_id>")
@requires_role("viewer")
def flower_result(run_id: str) -> Response:
    """Return the result of a run. An unknown run is PENDING, as in Celery."""
    run = Run.get_or_none(Run.id == run_id)
    if run and run.state not in ENDED and (seconds := parse_timeout(request.args.get("timeout"))):
        run = wait_for_end(run_id, tasks.queues[run.queue], seconds)
    return json_response(result_data(run, run_id))


def result_data(run: Run | None, run_id: str) -> dict[str, object]:
    state = celery_state(run)
    fields: dict[str, object] = {"task-id": run_id, "state": state}
    if run is None or run.state not in ENDED:
        return fields
    if state == "SUCCESS":
        return {**fields, "result": run.result}
    if state == "REVOKED":
        return {**fields, "result": "TaskRevokedError('revoked')"}
    traceback = serialize_tasks([run])[run_id]["traceback"]
    return {**fields, "result": exception_text(run.error), "traceback": traceback}


def celery_state(run: Run | None) -> str:
    """Return the state of Celery's result backend: PENDING until the start."""
    state = STATES[run.state] if run else "PENDING"
    return "PENDING" if state == "RECEIVED" else state


def parse_timeout(value: object) -> float:
    try:
        return min(max(parse_number("timeout", None if value is None else str(value)) or 0.0, 0.0), MAX_WAIT_SECONDS)
    except InvalidInput:
        raise InvalidInput("timeout", _("must be a number")) from None


def wait_for_end(run_id: str, queue: Queue, seconds: float) -> Run | None:
    """Wait for the end of a run, and return it. At most half of the web threads wait."""
    if waiting_requests.acquire(blocking=False):
        try:
            release_connection()  # a waiting request must not hold a database connection
            queue.storage.results.wait(run_id, seconds)
            flush_events_now(queue)
        except BrokerUnavailable:
            pass  # the client can repeat the request
        finally:
            waiting_requests.release()
    run: Run | None = Run.get_or_none(Run.id == run_id)
    return run


def get_run_or_404(run_id: str) -> Run:
    run: Run | None = Run.get_or_none(Run.id == run_id)
    return run or abort(404, _("No run with this id. The history may have removed it."))


# --- workers and queues --------------------------------------------------------------------------------------


@blueprint.get("/api/workers")
@requires_role("viewer")
def flower_workers() -> Response:
    by_name = {consumers.full_worker_name(consumer): consumer for consumer in reversed(consumers.list_consumers())}
    if flag("status"):
        return json_response(
            {name: consumer.state(now(), LEASE_TIME) in ("live", "late") for name, consumer in by_name.items()}
        )
    present = {name: consumer for name, consumer in by_name.items() if is_present(consumer)}
    name = request.args.get("workername")
    if name:
        return json_response({name: describe_worker(present.get(name) or worker_not_found(name)) | claimed_count(name)})
    return json_response({name: describe_worker(consumer) for name, consumer in present.items()})


def flag(name: str) -> bool:
    return request.args.get(name, "").lower() in ("1", "true", "yes", "on")


def is_present(consumer: Consumer) -> bool:
    return consumer.queue in tasks.queues and consumer.state(now(), LEASE_TIME) in ("live", "late")


def worker_not_found(name: str) -> NoReturn:
    abort(404, _("No worker %(name)s.", name=name))


def describe_worker(consumer: Consumer) -> dict[str, object]:
    return serialize_worker(consumer, tasks.queues[consumer.queue], registered_tasks.list_tasks(tasks.queues))


def claimed_count(name: str) -> dict[str, object]:
    """Return the running and scheduled runs of one worker."""
    active, scheduled = celery_inspect.active(tasks.queues), celery_inspect.scheduled(tasks.queues, MAX_SCHEDULED)
    figures = {
        "active": active.get(name, []),
        "scheduled": scheduled.entries.get(name, []),
        "reserved": [],
        "revoked": [],
    }
    return figures | ({"scheduled_left_out": left_out} if (left_out := scheduled.left_out.get(name)) else {})


@blueprint.get("/api/queues/length")
@requires_role("viewer")
def flower_queues() -> Response:
    lengths = [
        {"name": name, "messages": queue.storage.messages.count_waiting()} for name, queue in tasks.queues.items()
    ]
    return json_response({"active_queues": lengths})
