"""The JSON API, and what a load balancer asks. Query parameters that a request does not know are ignored."""

import re
from threading import BoundedSemaphore

from flask import request
from flask.typing import ResponseReturnValue

from admin import WEB_THREADS
from admin.api.blueprint import blueprint
from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.operations.registry import perform, perform_at_once
from admin.operations.sessions import CLEANUP
from admin.problems import BadInput
from config import settings
from engine.control.runs import wait_for
from engine.database import release
from engine.exceptions import BrokerAway
from engine.models import now
from reading.sessions import cleanup_result, cleanup_statistics

LONGEST_WAIT_SECONDS = 30

waiting = BoundedSemaphore(WEB_THREADS // 2)


@blueprint.get("/api/v1/admin/reading-sessions/cleanup-stats")
@needs("viewer")
def cleanup_stats() -> ResponseReturnValue:
    return cleanup_statistics(now(), hours_of(request.args.getlist("hours")))


def hours_of(texts: list[str]) -> int:
    """The one value of the parameter, 24 without one. Raises BadInput."""
    value, *extra = texts or ["24"]
    if not extra and re.fullmatch("[0-9]{1,9}", value) and 1 <= int(value) <= 168:
        return int(value)
    raise BadInput("hours", f"one whole number from 1 to 168 is needed, not {', '.join(map(repr, texts))}")


@blueprint.post("/api/v1/admin/reading-sessions/cleanup")
@needs("operator")
def cleanup() -> ResponseReturnValue:
    """Run the cleanup and answer with its result, or with 202 when that takes too long or too many wait already."""
    run = perform_at_once(current_actor(), "tasks.run", name=CLEANUP)
    if not waiting.acquire(blocking=False):
        return accepted(run.id)
    try:
        release()  # nobody else should lack the connection while this one waits
        outcome = wait_for(run, LONGEST_WAIT_SECONDS)
    except BrokerAway:
        outcome = None  # the run is safe in the broker, whose return need not be waited for
    finally:
        waiting.release()
    if outcome is None:
        return accepted(run.id)
    return outcome.value or cleanup_result(now() - settings.abandoned_after, 0, 0.0, outcome.error)


@blueprint.post("/api/v1/admin/reading-sessions/cleanup-async")
@needs("operator")
def cleanup_async() -> ResponseReturnValue:
    return accepted(perform(current_actor(), "tasks.run", name=CLEANUP).id)


def accepted(run_id: str) -> ResponseReturnValue:
    message = f"Cleanup task started with ID: {run_id}. Its page is /runs/{run_id}"
    return {"task_id": run_id, "status": "PENDING", "message": message}, 202
