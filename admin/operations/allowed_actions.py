"""The buttons of a run, and the reason why one is disabled."""

from collections.abc import Sequence
from typing import NamedTuple

from flask import url_for
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Actor
from admin.operations.registry import ACTIONS
from engine.exceptions import UnknownTask
from engine.models import ENDED, Run, State
from engine.monitor.diagnosis import Cause
from engine.monitor.registered_tasks import find_task


class RunAction(NamedTuple):
    """A button, or a `link` to a form. `reason`: why it is disabled, None if it is enabled."""

    label: str
    url: str
    reason: str | None
    link: bool = False
    primary: bool = False


def run_actions(run: Run, actor: Actor | None, causes: Sequence[Cause] = ()) -> list[RunAction]:
    """Return the buttons, the most important one last."""
    ended = run.state in ENDED
    failed = ended and run.state != State.SUCCEEDED
    return [
        RunAction(_("Delete…"), url_for("pages.run_delete", run_id=run.id), why_not_delete(run, actor), link=True),
        RunAction(_("Cancel"), url_for("pages.run_cancel", run_id=run.id), why_not_cancel(run, actor, causes)),
        RunAction(
            _("Run again…"),
            url_for("pages.run_again", run_id=run.id),
            why_not_again(run, actor),
            True,
            ended and not failed,
        ),
        RunAction(
            _("Retry"), url_for("pages.run_retry", run_id=run.id), why_not_retry(run, actor, causes), primary=failed
        ),
    ]


def why_not_retry(run: Run, actor: Actor | None, causes: Sequence[Cause]) -> str | None:
    lost = any(cause.kind == "lost" for cause in causes)
    if run.state not in ENDED and not lost:
        return _("Only a run that has ended can be retried.")
    return why_not_allowed(actor, "runs.retry") or (None if run.state == State.DEAD else why_not_known(run))


def why_not_again(run: Run, actor: Actor | None) -> str | None:
    return why_not_allowed(actor, "runs.again") or why_not_known(run)


def why_not_cancel(run: Run, actor: Actor | None, causes: Sequence[Cause]) -> str | None:
    if run.state in ENDED:
        return _("The run has ended and cannot be cancelled.")
    if any(cause.facts.get("cancelled_by") for cause in causes):
        return _("The run is already being interrupted.")
    return why_not_allowed(actor, "runs.cancel")


def why_not_delete(run: Run, actor: Actor | None) -> str | None:
    if run.state not in ENDED:
        return _("Cancel the run first. Only an ended run can be deleted.")
    return why_not_allowed(actor, "runs.delete")


def why_not_allowed(actor: Actor | None, action: str) -> str | None:
    role = ACTIONS[action].role
    if actor is None or not actor.may(role):
        return {"operator": _("Requires the operator role.")}.get(role, _("Requires the admin role."))
    return None


def why_not_known(run: Run) -> str | None:
    try:
        find_task(tasks.queues, run.task)
    except UnknownTask:
        return _("The code of the web server has no task %(task)s.", task=run.task)
    return None
