"""How long values of the former format are accepted that their signature does not bind to a key."""

from datetime import timedelta

from config import settings
from engine.models import HistoryCursor, now
from engine.outages import DATABASE_ERRORS


def accepts_old_values(queue: str) -> bool:
    """Return true until the results of the former code have expired, counted from the upgrade.

    The first consumer of the new code notes the time: see `engine.history.upgrade`.
    """
    end = now() - timedelta(seconds=settings.result_ttl_seconds)
    is_recent = HistoryCursor.signed_from.is_null() | (HistoryCursor.upgraded_at > end)
    try:
        return HistoryCursor.select().where(HistoryCursor.stream.startswith(f"{queue}:") & is_recent).exists()
    except DATABASE_ERRORS:
        return False
