"""When people are told, and the sending: by whoever claims it first, and again while the receiver is away."""

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
    """When people may be told: at once, or when the quiet hours end. What is over by then is not told at all."""
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
    # When the clock is set back while it is quiet, its second pass through the hour ends it.
    ends = datetime.combine(local.date() + tomorrow, quiet.end.replace(fold=local.fold), quiet.zone)
    return ends.astimezone(as_of.tzinfo)


# --- delivery ------------------------------------------------------------------------------------------------


def deliver_due(as_of: datetime) -> int:
    """Send what is due and nobody else sends; gives back how many were sent.

    A channel that fails is left alone until the next time: whoever watches must not wait for it once a notice.
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
    release_connection()  # a receiver may take its time, and nobody should lack the connection meanwhile
    try:
        channels.send_notice(notice)
    except DeliveryFailed as error:
        given_up = alerts.record_failure(notice, now(), str(error), give_up=only_try)
        after = "given up" if given_up else f"try {notice.tries}"
        logger.warning("Notice %s could not be sent by %s (%s): %s", notice.id, notice.channel, after, error)
        notice.error = str(error)
        return False
    alerts.record_sent(notice, now())
    logger.info("Notice %s was sent by %s", notice.id, notice.channel)
    return True


class ChannelResult(NamedTuple):
    channel: str
    error: str | None


def send_test() -> list[ChannelResult]:
    """Send a test by each, now, quiet hours or not."""
    at = now()
    notices = alerts.queue_notices(alerts.TEST, None, channels.configured_channels(), at, at)
    return [
        ChannelResult(
            notice.channel, None if deliver_notice(notice, only_try=True) else notice.error or "somebody else sent it"
        )
        for notice in notices
    ]
