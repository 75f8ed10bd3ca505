"""A date and time that a person types: the wall clock of the zone that the pages show."""

from datetime import UTC, datetime

from flask_babel import gettext as _

from admin.i18n import zone
from admin.problems import BadInput


def typed(name: str, text: str) -> datetime | None:
    """`2026-11-24T18:30` in the viewer's zone, as UTC; None for nothing. An offset of its own comes first.

    Raises BadInput.
    """
    if not text.strip():
        return None
    try:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else zone().localize(at)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadInput(name, _("a date and time is needed, such as 2026-11-24T18:30")) from error


def zone_name() -> str:
    return str(zone())
