"""The JSON API, and what a load balancer asks. Query parameters that a request does not know are ignored."""

import re
from threading import BoundedSemaphore
from typing import Any

from flask import Blueprint, request
from werkzeug.exceptions import ServiceUnavailable

import tasks
from admin import WEB_THREADS
from admin.access import current, from_loopback, needs, open_to_all
from admin.perform import perform, perform_at_once
from admin.problems import RETRY_AFTER, BadInput
from admin.sessions import CLEANUP
from admin.who import known
from config import settings
from engine.control import wait_for
from engine.database import release
from engine.inspect import readiness, warnings
from engine.queues import BrokerAway
from engine.records import now
from reading.sessions import cleanup_result, cleanup_statistics

LONGEST_WAIT_SECONDS = 30

blueprint = Blueprint("api", __name__)

waiting = BoundedSemaphore(WEB_THREADS // 2)


@blueprint.get("/healthz")
@blueprint.get("/healthcheck")
@open_to_all
def health() -> Any:
    return {"status": "ok"}


@blueprint.get("/readyz")
@open_to_all
def ready() -> Any:
    """Reasons and warnings are for this machine and for a viewer."""
    reasons, is_trusted = readiness(tasks.queues), from_loopback() or known() is not None
    if reasons:
        raise NotReady(reasons) if is_trusted else ServiceUnavailable(retry_after=RETRY_AFTER)
    return {"status": "ok", "warnings": warnings(tasks.queues)} if is_trusted else {"status": "ok"}


class NotReady(ServiceUnavailable):
    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons), retry_after=RETRY_AFTER)
        self.reasons = reasons


@blueprint.get("/api/v1/admin/reading-sessions/cleanup-stats")
@needs("viewer")
def cleanup_stats() -> Any:
    return cleanup_statistics(now(), hours_of(request.args.getlist("hours")))


def hours_of(given: list[str]) -> int:
    """The one value of the parameter, 24 without one. Raises BadInput."""
    value, *others = given or ["24"]
    if not others and re.fullmatch("[0-9]{1,9}", value) and 1 <= int(value) <= 168:
        return int(value)
    raise BadInput("hours", f"one whole number from 1 to 168 is needed, not {', '.join(map(repr, given))}")


@blueprint.post("/api/v1/admin/reading-sessions/cleanup")
@needs("operator")
def cleanup() -> Any:
    """Run the cleanup and answer with its result, or with 202 when that takes too long or too many wait already."""
    run = perform_at_once(current(), "tasks.run", name=CLEANUP)
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
def cleanup_async() -> Any:
    return accepted(perform(current(), "tasks.run", name=CLEANUP).id)


def accepted(run_id: str) -> Any:
    message = f"Cleanup task started with ID: {run_id}. Its page is /runs/{run_id}"
    return {"task_id": run_id, "status": "PENDING", "message": message}, 202
