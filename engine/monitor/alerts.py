"""Alerts from their beginning to their end, and the notices about them.

Any number of watchers may run. The first to insert an alert under its key opens it. A guarded UPDATE ends it. A claim
decides who sends a notice. A notice is stored in the transaction that opens or ends its alert, so none is lost. The
claim of a crashed sender expires, so a notice may be sent twice, with the same id.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from peewee import AutoField, DoubleField, Expression, IntegerField, TextField

from engine.database import JSONTextField, UTCDateTimeField, database
from engine.models import BaseModel

FIRED, WORSE, RESOLVED, TEST = "fired", "worse", "resolved", "test"
WAITING, SENT, FAILED, DROPPED = "waiting", "sent", "failed", "dropped"

#: A claimed notice must be sent within this time. Then another watcher may claim it.
CLAIM_TIME = timedelta(minutes=2)
FIRST_PAUSE, LONGEST_PAUSE, PATIENCE = timedelta(seconds=10), timedelta(minutes=10), timedelta(hours=24)
#: A growing count is notified again, but not sooner than this.
REPEAT_AFTER = timedelta(hours=1)
#: A watcher without a heartbeat for this long is not running. Its row is deleted after a day.
SILENT, BEAT_KEPT = timedelta(minutes=1), timedelta(days=1)


class Signal(NamedTuple):
    """A problem that exists now. `facts`: further JSON values of its message."""

    rule: str
    subject: str  # a queue or a task; empty for the whole system
    value: float
    facts: dict[str, int | str]

    @property
    def key(self) -> str:
        return f"{self.rule}:{self.subject}"


class Alert(BaseModel):
    """A problem over time. `value` is the one that was notified last."""

    id = AutoField()
    rule = TextField()
    subject = TextField()
    open_as = TextField(null=True, unique=True)  # its key while it is open
    value = DoubleField()
    facts = JSONTextField()
    began_at = UTCDateTimeField()
    changed_at = UTCDateTimeField()  # when `value` was notified
    ended_at = UTCDateTimeField(null=True, index=True)

    class Meta:
        table_name = "dewey_alerts"


class Notice(BaseModel):
    id = AutoField()
    alert_id = IntegerField(null=True, index=True)
    event = TextField()  # fired, worse, resolved, test
    channel = TextField()  # webhook, email
    state = TextField()  # waiting, sent, failed: given up, dropped: resolved before it was sent
    facts = JSONTextField()  # rule, subject, value, began_at and the alert's own
    created_at = UTCDateTimeField(index=True)
    due_at = UTCDateTimeField()
    tries = IntegerField(default=0)
    sent_at = UTCDateTimeField(null=True)
    error = TextField(null=True)

    class Meta:
        table_name = "dewey_notices"
        indexes = ((("state", "due_at"), False),)


class Watcher(BaseModel):
    """A process that checks the alert rules. `seen`: the worst value by rule, with its subject."""

    id = TextField(primary_key=True)  # host:pid:random
    host = TextField()
    pid = IntegerField()
    started_at = UTCDateTimeField()
    beat_at = UTCDateTimeField()
    stopped_at = UTCDateTimeField(null=True)
    seen = JSONTextField(default=dict)

    class Meta:
        table_name = "dewey_watches"


# --- alerts --------------------------------------------------------------------------------------------------


def open_alerts() -> list[Alert]:
    return list(Alert.select().where(Alert.open_as.is_null(False)).order_by(Alert.began_at, Alert.id))


def latest_alert(rule: str) -> Alert | None:
    return Alert.select().where(Alert.rule == rule).order_by(Alert.id.desc()).first()


def open_alert(signal: Signal, as_of: datetime, channels: Iterable[str], due_at: datetime) -> bool:
    row = {
        "rule": signal.rule, "subject": signal.subject, "open_as": signal.key, "value": signal.value,
        "facts": signal.facts, "began_at": as_of, "changed_at": as_of,
    }  # fmt: skip
    with database.atomic():
        same = Alert.select().where(Alert.open_as == signal.key)
        if same.exists():
            return False
        Alert.insert(**row).on_conflict_ignore().execute()
        alert = same.first()
        # Of concurrent watchers one inserts the row. The others find an alert that is not theirs.
        if alert is None or alert.began_at != as_of or Notice.select().where(Notice.alert_id == alert.id).exists():
            return False
        queue_notices(FIRED, alert, channels, as_of, due_at)
    return True


def escalate(alert: Alert, signal: Signal, as_of: datetime, channels: Iterable[str], due_at: datetime) -> bool:
    unchanged = (Alert.id == alert.id) & (Alert.changed_at == alert.changed_at) & Alert.open_as.is_null(False)
    with database.atomic():
        changes = {"value": signal.value, "facts": signal.facts, "changed_at": as_of}
        if not Alert.update(**changes).where(unchanged).execute():
            return False
        alert.value, alert.facts, alert.changed_at = signal.value, signal.facts, as_of
        queue_notices(WORSE, alert, channels, as_of, due_at)
    return True


def resolve_alert(alert: Alert, as_of: datetime, due_at: datetime) -> bool:
    """Close the alert and notify the channels that were notified of it. Notices that were never tried are dropped."""
    with database.atomic():
        is_open = (Alert.id == alert.id) & Alert.open_as.is_null(False)
        if not Alert.update(ended_at=as_of, open_as=None).where(is_open).execute():
            return False
        alert.ended_at = as_of
        own = Notice.alert_id == alert.id
        Notice.update(state=DROPPED).where(own & (Notice.state == WAITING) & (Notice.tries == 0)).execute()
        notices = Notice.select(Notice.channel).where(own & (Notice.state != DROPPED))
        channels = [notice.channel for notice in notices.distinct().order_by(Notice.channel)]
        queue_notices(RESOLVED, alert, channels, as_of, due_at)
    return True


# --- notices -------------------------------------------------------------------------------------------------


def queue_notices(
    event: str, alert: Alert | None, channels: Iterable[str], as_of: datetime, due_at: datetime
) -> list[Notice]:
    facts = alert_facts(alert) if alert else {}
    return [
        Notice.create(
            alert_id=alert and alert.id,
            event=event,
            channel=channel,
            state=WAITING,
            facts=facts,
            created_at=as_of,
            due_at=due_at,
        )
        for channel in channels
    ]


def alert_facts(alert: Alert) -> dict[str, object]:
    return {
        **alert.facts,
        "rule": alert.rule,
        "subject": alert.subject,
        "value": alert.value,
        "began_at": alert.began_at.isoformat(),
        "ended_at": alert.ended_at and alert.ended_at.isoformat(),
    }


def due_notices(as_of: datetime, limit: int = 50) -> list[Notice]:
    """Return the notices to send now, oldest first, at most one per alert and channel."""
    waiting = list(Notice.select().where(Notice.state == WAITING).order_by(Notice.id).limit(10 * limit))
    first: dict[tuple[int, str], int] = {}
    for notice in waiting:
        first.setdefault((notice.alert_id or -notice.id, notice.channel), notice.id)
    heads = set(first.values())
    return [notice for notice in waiting if notice.id in heads and notice.due_at <= as_of][:limit]


def claim_notice(notice: Notice, as_of: datetime) -> bool:
    due_at, tries = as_of + CLAIM_TIME, notice.tries + 1
    if not Notice.update(due_at=due_at, tries=tries).where(never_attempted(notice)).execute():
        return False
    notice.due_at, notice.tries = due_at, tries
    return True


def newest_notices(limit: int) -> list[Notice]:
    return list(Notice.select().order_by(Notice.id.desc()).limit(limit))


def never_attempted(notice: Notice) -> Expression:
    return (Notice.id == notice.id) & (Notice.state == WAITING) & (Notice.tries == notice.tries)


def record_sent(notice: Notice, as_of: datetime) -> None:
    Notice.update(state=SENT, sent_at=as_of, error=None).where(never_attempted(notice)).execute()


def record_failure(notice: Notice, as_of: datetime, error: str, *, give_up: bool = False) -> bool:
    given_up = give_up or as_of - notice.created_at > PATIENCE
    pause = min(FIRST_PAUSE * 2 ** min(notice.tries - 1, 16), LONGEST_PAUSE)
    state = FAILED if given_up else WAITING
    Notice.update(state=state, due_at=as_of + pause, error=error[:500]).where(never_attempted(notice)).execute()
    return given_up


# --- watchers ------------------------------------------------------------------------------------------------


def record_heartbeat(watcher: Watcher) -> None:
    row = {field.name: getattr(watcher, field.name) for field in Watcher._meta.sorted_fields}
    changing = [Watcher.beat_at, Watcher.stopped_at, Watcher.seen]
    Watcher.insert(**row).on_conflict(conflict_target=[Watcher.id], preserve=changing).execute()
    Watcher.delete().where(Watcher.beat_at < watcher.beat_at - BEAT_KEPT).execute()


def list_watchers() -> Sequence[Watcher]:
    return list(Watcher.select().order_by(Watcher.beat_at.desc(), Watcher.id))


def is_watched(as_of: datetime) -> list[Watcher]:
    return [watcher for watcher in list_watchers() if not watcher.stopped_at and as_of - watcher.beat_at <= SILENT]


def delete_older(before: datetime) -> None:
    Notice.delete().where((Notice.created_at < before) & (Notice.state != WAITING)).execute()
    Alert.delete().where(Alert.ended_at < before).execute()
