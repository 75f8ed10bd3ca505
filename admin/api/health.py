"""What a load balancer and an orchestrator ask."""

from flask.typing import ResponseReturnValue
from werkzeug.exceptions import ServiceUnavailable

import tasks
from admin.api.blueprint import blueprint
from admin.auth.access import from_loopback, open_to_all
from admin.auth.identity import current_actor_if_readable
from admin.problems import RETRY_AFTER
from engine.monitor.status import readiness, warnings


@blueprint.get("/healthz")
@blueprint.get("/healthcheck")
@open_to_all
def health() -> ResponseReturnValue:
    return {"status": "ok"}


@blueprint.get("/readyz")
@open_to_all
def ready() -> ResponseReturnValue:
    """Reasons and warnings are for this machine and for a viewer."""
    reasons, is_trusted = readiness(tasks.queues), from_loopback() or current_actor_if_readable() is not None
    if reasons:
        raise NotReady(reasons) if is_trusted else ServiceUnavailable(retry_after=RETRY_AFTER)
    return {"status": "ok", "warnings": warnings(tasks.queues)} if is_trusted else {"status": "ok"}


class NotReady(ServiceUnavailable):
    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons), retry_after=RETRY_AFTER)
        self.reasons = reasons
