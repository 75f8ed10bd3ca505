"""The endpoints of the cleanup. Unknown query parameters are ignored."""

import re
from threading import BoundedSemaphore

from flask import request
from flask.typing import ResponseReturnValue

from admin import WEB_THREADS
from admin.api.blueprint import blueprint
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.operations.registry import execute, execute_if_ready
from admin.operations.sessions import CLEANUP
from admin.problems import InvalidInput
from config import settings
from engine.control.runs import wait_for_result
from engine.database import release_connection
from engine.exceptions import BrokerUnavailable
from engine.models import now
from reading.sessions import cleanup_result, cleanup_statistics

MAX_WAIT_SECONDS = 30

waiting_requests = BoundedSemaphore(WEB_THREADS // 2)


@blueprint.get("/api/v1/admin/reading-sessions/cleanup-stats")
@requires_role("viewer")
def cleanup_stats() -> ResponseReturnValue:
    return cleanup_statistics(now(), parse_hours(request.args.getlist("hours")))


def parse_hours(texts: list[str]) -> int:
    """Return the value of the parameter, 24 without one. Raises InvalidInput."""
    value, *extra = texts or ["24"]
    if not extra and re.fullmatch("[0-9]{1,9}", value) and 1 <= int(value) <= 168:
        return int(value)
    raise InvalidInput("hours", f"must be one whole number from 1 to 168, not {', '.join(map(repr, texts))}")


@blueprint.post("/api/v1/admin/reading-sessions/cleanup")
@requires_role("operator")
def cleanup() -> ResponseReturnValue:
    """Run the cleanup and return its result, or 202 if it takes too long or too many requests wait."""
    run = execute_if_ready(current_actor(), "tasks.run", name=CLEANUP)
    if not waiting_requests.acquire(blocking=False):
        return accepted_response(run.id)
    try:
        release_connection()  # a waiting request must not hold a database connection
        outcome = wait_for_result(run, MAX_WAIT_SECONDS)
    except BrokerUnavailable:
        outcome = None  # the broker stores the run
    finally:
        waiting_requests.release()
    if outcome is None:
        return accepted_response(run.id)
    return outcome.value or cleanup_result(now() - settings.abandoned_after, 0, 0.0, outcome.error)


@blueprint.post("/api/v1/admin/reading-sessions/cleanup-async")
@requires_role("operator")
def cleanup_async() -> ResponseReturnValue:
    return accepted_response(execute(current_actor(), "tasks.run", name=CLEANUP).id)


def accepted_response(run_id: str) -> ResponseReturnValue:
    message = f"Cleanup task started with ID: {run_id}. Its page is /runs/{run_id}"
    return {"task_id": run_id, "status": "PENDING", "message": message}, 202
