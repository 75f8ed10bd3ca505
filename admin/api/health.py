"""Health checks for load balancers and orchestrators."""

from flask.typing import ResponseReturnValue
from werkzeug.exceptions import ServiceUnavailable

import tasks
from admin.api.blueprint import blueprint
from admin.auth.access import is_local_request, public
from admin.auth.identity import current_actor_if_readable
from admin.problems import RETRY_AFTER
from engine.monitor.status import broker_warnings, check_readiness


@blueprint.get("/healthz")
@blueprint.get("/healthcheck")
@public
def health() -> ResponseReturnValue:
    return {"status": "ok"}


@blueprint.get("/readyz")
@public
def ready() -> ResponseReturnValue:
    """Check readiness. Only local requests and viewers get reasons and warnings."""
    reasons, is_trusted = check_readiness(tasks.queues), is_local_request() or current_actor_if_readable() is not None
    if reasons:
        raise NotReady(reasons) if is_trusted else ServiceUnavailable(retry_after=RETRY_AFTER)
    return {"status": "ok", "warnings": broker_warnings(tasks.queues)} if is_trusted else {"status": "ok"}


class NotReady(ServiceUnavailable):
    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons), retry_after=RETRY_AFTER)
        self.reasons = reasons
