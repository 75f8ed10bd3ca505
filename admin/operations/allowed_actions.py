"""What may be done with a run, and why the rest may not be done now."""

from collections.abc import Sequence
from typing import NamedTuple

from flask import url_for
from flask_babel import gettext as _

import tasks
from admin.auth.identity import Who
from admin.operations.registry import ACTIONS
from engine.exceptions import UnknownTask
from engine.models import ENDED, Run, State
from engine.monitor.diagnosis import Cause
from engine.monitor.registered_tasks import find


class Offer(NamedTuple):
    """A button, or a `link` to a form. `reason`: why not, in a sentence; None where it can be done."""

    label: str
    url: str
    reason: str | None
    link: bool = False
    primary: bool = False


def offers(run: Run, actor: Who | None, causes: Sequence[Cause] = ()) -> list[Offer]:
    """The foremost last, where the eye ends."""
    ended = run.state in ENDED
    failed = ended and run.state != State.SUCCEEDED
    return [
        Offer(_("Delete…"), url_for("pages.run_delete", run_id=run.id), not_delete(run, actor), link=True),
        Offer(_("Cancel"), url_for("pages.run_cancel", run_id=run.id), not_cancel(run, actor, causes)),
        Offer(
            _("Run again…"),
            url_for("pages.run_again", run_id=run.id),
            not_again(run, actor),
            True,
            ended and not failed,
        ),
        Offer(_("Retry"), url_for("pages.run_retry", run_id=run.id), not_retry(run, actor, causes), primary=failed),
    ]


def not_retry(run: Run, actor: Who | None, causes: Sequence[Cause]) -> str | None:
    lost = any(cause.kind == "lost" for cause in causes)
    if run.state not in ENDED and not lost:
        return _("Only a run that has ended can be retried.")
    return not_allowed(actor, "runs.retry") or (None if run.state == State.DEAD else not_known(run))


def not_again(run: Run, actor: Who | None) -> str | None:
    return not_allowed(actor, "runs.again") or not_known(run)


def not_cancel(run: Run, actor: Who | None, causes: Sequence[Cause]) -> str | None:
    if run.state in ENDED:
        return _("What has ended cannot be cancelled.")
    if any(cause.facts.get("cancelled_by") for cause in causes):
        return _("It is being interrupted already.")
    return not_allowed(actor, "runs.cancel")


def not_delete(run: Run, actor: Who | None) -> str | None:
    if run.state not in ENDED:
        return _("A run that has not ended must be cancelled first.")
    return not_allowed(actor, "runs.delete")


def not_allowed(actor: Who | None, action: str) -> str | None:
    role = ACTIONS[action].role
    if actor is None or not actor.may(role):
        return {"operator": _("This takes the role operator.")}.get(role, _("This takes the role admin."))
    return None


def not_known(run: Run) -> str | None:
    try:
        find(tasks.queues, run.task)
    except UnknownTask:
        return _("This program has no task named %(task)s.", task=run.task)
    return None
