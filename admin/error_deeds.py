"""What is decided about a group of errors."""

from datetime import datetime

from flask_babel import gettext as _

from admin.perform import Outcome, action
from admin.problems import BadInput, Refused
from admin.who import Who
from engine import errors
from engine.records import ErrorGroup, now


@action("errors.resolve", "operator")
def resolve(who: Who, error_id: str) -> Outcome:
    """Call a group of errors mended; it opens by itself when it fails again."""
    before = state_of(error_id)
    if not errors.resolve(error_id, who.name):
        raise Refused(_("It is resolved already."))
    return Outcome(target=error_id, before=before, after={"state": "resolved"})


@action("errors.reopen", "operator")
def reopen(who: Who, error_id: str) -> Outcome:
    """Take back that a group of errors is resolved or snoozed."""
    before = state_of(error_id)
    if not errors.reopen(error_id):
        raise Refused(_("It is open already."))
    return Outcome(target=error_id, before=before, after={"state": "open"})


@action("errors.snooze", "operator")
def snooze(who: Who, error_id: str, until: datetime) -> Outcome:
    """Leave a group of errors out of the open ones until an instant."""
    if until <= now():
        raise BadInput("until", _("an instant in the future is needed"))
    before = state_of(error_id)
    if not errors.snooze(error_id, until, who.name):
        raise Refused(_("It is resolved, so there is nothing to snooze."))
    return Outcome(target=error_id, before=before, after={"snoozed_until": until.isoformat()})


def state_of(error_id: str) -> dict[str, str | None]:
    """As the audit keeps it. Raises Refused where there is no such group."""
    group = ErrorGroup.get_or_none(ErrorGroup.id == error_id)
    if group is None:
        raise Refused(_("There is no such group of errors."))
    return {"state": group.state, "snoozed_until": group.snoozed_until and group.snoozed_until.isoformat()}
