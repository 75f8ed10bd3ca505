"""The alert about an unavailable database, which stores all other alerts. A key in the broker lets one watcher send it.

If the broker is unavailable too, every watcher sends the alert. The alert is stored when the database is back.
"""

import logging
from datetime import datetime, timedelta

import tasks
from admin.alerts import channels
from admin.alerts.channels import DeliveryFailed
from admin.alerts.delivery import notify_at
from engine.database import database
from engine.exceptions import BrokerUnavailable
from engine.monitor import alerts
from engine.monitor.alerts import FIRED, RESOLVED, SENT, Alert, Notice

logger = logging.getLogger(__name__)

RULE, KEY = "database", "alert: the database is away"
GRACE_PERIOD = timedelta(minutes=1)
#: The alert is repeated after this time, in case its sender crashed.
REPEAT_AFTER = timedelta(hours=1)


class DatabaseOutage:
    """An outage of the database, as seen by one watcher."""

    def __init__(self, patience: timedelta = GRACE_PERIOD) -> None:
        self.patience = patience
        self.forget()

    def forget(self) -> None:
        self.since: datetime | None = None
        self.notified_at: datetime | None = None
        self.pending_channels: list[str] = []
        self.alone = False  # sent without a key in the broker

    def update(self, as_of: datetime) -> None:
        self.since = self.since or as_of
        is_time = as_of - self.since >= self.patience and notify_at(as_of) == as_of
        if is_time and (self.notified_at is None or as_of - self.notified_at > REPEAT_AFTER) and self.claim_notice():
            self.notified_at, self.pending_channels = as_of, channels.configured_channels()
        self.pending_channels = [channel for channel in self.pending_channels if not notify(channel, self.since)]

    def claim_notice(self) -> bool:
        try:
            return bool(tasks.light.storage.results.put_new(KEY, b"1", ttl=REPEAT_AFTER.total_seconds()))
        except BrokerUnavailable:
            self.alone = True
            return True

    def finish(self, as_of: datetime) -> None:
        """Store the alert that was sent and queue its `resolved` notices."""
        since, is_mine = self.since, self.claim_record()
        self.forget()
        if since and is_mine:
            record_outage(since, as_of)

    def claim_record(self) -> bool:
        try:
            return bool(tasks.light.storage.results.delete(KEY)) or self.alone
        except BrokerUnavailable:
            return self.notified_at is not None


def record_outage(since: datetime, until: datetime) -> None:
    with database.atomic():
        alert = Alert.create(rule=RULE, subject="", value=1, facts={}, began_at=since, changed_at=since, ended_at=until)
        for notice in alerts.queue_notices(FIRED, alert, channels.configured_channels(), since, since):
            Notice.update(state=SENT, tries=1, sent_at=since).where(Notice.id == notice.id).execute()
        alerts.queue_notices(RESOLVED, alert, channels.configured_channels(), until, notify_at(until))


def notify(channel: str, since: datetime) -> bool:
    """Send the alert. False if that failed."""
    facts = {"rule": RULE, "subject": "", "value": 1, "began_at": since.isoformat(), "ended_at": None}
    try:
        channels.send_notice(Notice(id=0, event=FIRED, channel=channel, facts=facts))
    except DeliveryFailed as error:
        logger.warning("Could not send the alert about the database via %s: %s", channel, error)
        return False
    logger.info("Sent the alert about the database via %s", channel)
    return True
