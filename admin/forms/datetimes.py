"""Typed dates and times in the time zone of the page."""

from datetime import UTC, datetime

from flask_babel import gettext as _

from admin.i18n import current_zone
from admin.problems import InvalidInput


def parse_local_datetime(name: str, text: str) -> datetime | None:
    """Return `2026-11-24T18:30` as UTC, None for an empty text. Without an offset it is in the viewer's zone.

    Raises InvalidInput.
    """
    if not text.strip():
        return None
    try:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else current_zone().localize(at)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(name, _("must be a date and time such as 2026-11-24T18:30")) from error


def zone_name() -> str:
    return str(current_zone())
