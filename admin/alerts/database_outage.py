"""The database is away, where all alerts are noted. People are told all the same, once: the broker settles by whom.

Where the broker is away too, everybody who watches tells: better twice than never. What was told is noted afterwards.
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
#: While it lasts it is told again, should whoever told it have died over that.
REPEAT_AFTER = timedelta(hours=1)


class DatabaseOutage:
    """One absence of the database, as one watching process sees it."""

    def __init__(self, patience: timedelta = GRACE_PERIOD) -> None:
        self.patience = patience
        self.forget()

    def forget(self) -> None:
        self.since: datetime | None = None
        self.told_at: datetime | None = None
        self.untold: list[str] = []
        self.alone = False  # told without asking the broker

    def goes_on(self, as_of: datetime) -> None:
        self.since = self.since or as_of
        is_time = as_of - self.since >= self.patience and notify_at(as_of) == as_of
        if is_time and (self.told_at is None or as_of - self.told_at > REPEAT_AFTER) and self.is_mine_to_tell():
            self.told_at, self.untold = as_of, channels.configured_channels()
        self.untold = [channel for channel in self.untold if not notify(channel, self.since)]

    def is_mine_to_tell(self) -> bool:
        try:
            return bool(tasks.light.storage.results.put_new(KEY, b"1", ttl=REPEAT_AFTER.total_seconds()))
        except BrokerUnavailable:
            self.alone = True
            return True

    def ends(self, as_of: datetime) -> None:
        """Note what was told, and have its end told as any other."""
        since, is_mine = self.since, self.is_mine_to_note()
        self.forget()
        if since and is_mine:
            record_outage(since, as_of)

    def is_mine_to_note(self) -> bool:
        try:
            return bool(tasks.light.storage.results.delete(KEY)) or self.alone
        except BrokerUnavailable:
            return self.told_at is not None


def record_outage(since: datetime, until: datetime) -> None:
    with database.atomic():
        alert = Alert.create(rule=RULE, subject="", value=1, facts={}, began_at=since, changed_at=since, ended_at=until)
        for notice in alerts.queue_notices(FIRED, alert, channels.configured_channels(), since, since):
            Notice.update(state=SENT, tries=1, sent_at=since).where(Notice.id == notice.id).execute()
        alerts.queue_notices(RESOLVED, alert, channels.configured_channels(), until, notify_at(until))


def notify(channel: str, since: datetime) -> bool:
    """Returns whether it was sent."""
    facts = {"rule": RULE, "subject": "", "value": 1, "began_at": since.isoformat(), "ended_at": None}
    try:
        channels.send_notice(Notice(id=0, event=FIRED, channel=channel, facts=facts))
    except DeliveryFailed as error:
        logger.warning("That the database is away could not be sent by %s: %s", channel, error)
        return False
    logger.info("That the database is away was sent by %s", channel)
    return True
