"""Delivery of notices: quiet hours, claims and retries."""

import logging
from datetime import datetime, timedelta
from typing import NamedTuple

from admin.alerts import channels
from admin.alerts.channels import DeliveryFailed
from config import settings
from engine.database import release_connection
from engine.models import now
from engine.monitor import alerts
from engine.monitor.alerts import Notice

logger = logging.getLogger(__name__)


def notify_at(as_of: datetime) -> datetime:
    """Return when a notice may be sent: now, or at the end of the quiet hours."""
    quiet = settings.alert_quiet_hours
    if quiet is None:
        return as_of
    local = as_of.astimezone(quiet.zone)
    clock = local.time().replace(tzinfo=None)
    through_midnight = quiet.begin > quiet.end
    inside = clock >= quiet.begin or clock < quiet.end if through_midnight else quiet.begin <= clock < quiet.end
    if not inside:
        return as_of
    tomorrow = timedelta(days=1 if through_midnight and clock >= quiet.begin else 0)
    # If the clock is set back during quiet hours, they end in the repeated hour.
    ends = datetime.combine(local.date() + tomorrow, quiet.end.replace(fold=local.fold), quiet.zone)
    return ends.astimezone(as_of.tzinfo)


# --- delivery ------------------------------------------------------------------------------------------------


def deliver_due(as_of: datetime) -> int:
    """Send the due notices that no other watcher has claimed. Return the number sent.

    A channel that fails is skipped until the next call, so that the watcher waits for it only once.
    """
    count, failed = 0, set()
    for notice in alerts.due_notices(as_of):
        if notice.channel in failed:
            continue
        if deliver_notice(notice):
            count += 1
        elif notice.error:
            failed.add(notice.channel)
    return count


def deliver_notice(notice: Notice, *, only_try: bool = False) -> bool:
    if not alerts.claim_notice(notice, now()):
        return False
    release_connection()  # a slow receiver must not hold a database connection
    try:
        channels.send_notice(notice)
    except DeliveryFailed as error:
        given_up = alerts.record_failure(notice, now(), str(error), give_up=only_try)
        after = "given up" if given_up else f"try {notice.tries}"
        logger.warning("Could not send notice %s via %s (%s): %s", notice.id, notice.channel, after, error)
        notice.error = str(error)
        return False
    alerts.record_sent(notice, now())
    logger.info("Sent notice %s via %s", notice.id, notice.channel)
    return True


class ChannelResult(NamedTuple):
    channel: str
    error: str | None


def send_test() -> list[ChannelResult]:
    """Send a test through each channel now, also in quiet hours."""
    at = now()
    notices = alerts.queue_notices(alerts.TEST, None, channels.configured_channels(), at, at)
    return [
        ChannelResult(
            notice.channel, None if deliver_notice(notice, only_try=True) else notice.error or "another watcher sent it"
        )
        for notice in notices
    ]
