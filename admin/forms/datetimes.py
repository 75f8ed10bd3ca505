"""A date and time that a person types: the wall clock of the zone that the pages show."""

from datetime import UTC, datetime

from flask_babel import gettext as _

from admin.i18n import current_zone
from admin.problems import InvalidInput


def parse_local_datetime(name: str, text: str) -> datetime | None:
    """`2026-11-24T18:30` in the viewer's zone, as UTC; None for nothing. An offset of its own comes first.

    Raises InvalidInput.
    """
    if not text.strip():
        return None
    try:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else current_zone().localize(at)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(name, _("a date and time is needed, such as 2026-11-24T18:30")) from error


def zone_name() -> str:
    return str(current_zone())
