"""`dewey watch`: check the alert rules every few seconds and send notices.

Any number of watchers may run, on any machines. Locks in the database make each notice be sent once.
"""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Event
from uuid import uuid4

import tasks
from admin import audit_log
from admin.alerts import channels
from admin.alerts.database_outage import DatabaseOutage
from admin.alerts.delivery import deliver_due, notify_at
from config import settings
from engine.back_off import BackOff
from engine.database import release_connection
from engine.models import now
from engine.monitor import alert_rules, alerts, health
from engine.monitor.alert_rules import RULES, Evaluation
from engine.monitor.alerts import Alert, Signal, Watcher
from engine.outages import DATABASE_ERRORS
from engine.version import host_name
from reading import sessions

logger = logging.getLogger(__name__)

CHECK_SECONDS = 10
#: The action in the audit log for forged values in the broker. One entry per alert, however many they are.
FORGED = "broker.forged"
#: An alert resolves after its condition has been clear this long, so that flapping sends one notice.
CLEAR_AFTER = timedelta(minutes=1)


class AlertWatcher:
    """The state of one watcher between checks. Everything else is in the database."""

    def __init__(
        self,
        patience: Callable[[alert_rules.Rule], timedelta] = lambda rule: rule.patience,
        calm: timedelta = CLEAR_AFTER,
    ):
        self.patience, self.clear_after = patience, calm
        self.broken_since: dict[str, datetime] = {}
        self.clear_since: dict[str, datetime] = {}
        at = now()
        self.me = Watcher(
            id=f"{host_name()}:{os.getpid()}:{uuid4().hex[:8]}",
            host=host_name(),
            pid=os.getpid(),
            started_at=at,
            beat_at=at,
        )

    def check(self, as_of: datetime) -> None:
        """Check the rules, and store new and resolved alerts. Sends nothing."""
        judged = evaluate_rules(as_of)
        standing = {f"{alert.rule}:{alert.subject}": alert for alert in alerts.open_alerts()}
        for signal in judged.signals:
            self.clear_since.pop(signal.key, None)
            since = self.broken_since.setdefault(signal.key, as_of)
            if alert := standing.get(signal.key):
                self.escalate(alert, signal, as_of)
            elif as_of - since >= self.patience(RULES[signal.rule]):
                self.open_alert(signal, as_of)
        self.resolve(standing, judged, as_of)
        self.me.beat_at, self.me.seen = as_of, judged.worst
        alerts.record_heartbeat(self.me)

    def open_alert(self, signal: Signal, as_of: datetime) -> None:
        if alerts.open_alert(signal, as_of, channels.configured_channels(), notify_at(as_of)):
            logger.warning("Alert %s", signal.key.rstrip(":"))
            if signal.rule == "forged":
                audit_log.append_entries(
                    actor_kind="cli", actor="dewey", source="cli", action=FORGED, after={"count": int(signal.value)}
                )

    def escalate(self, alert: Alert, signal: Signal, as_of: datetime) -> None:
        grown = RULES[signal.rule].counts_up and signal.value > alert.value
        if grown and as_of - alert.changed_at >= alerts.REPEAT_AFTER:
            alerts.escalate(alert, signal, as_of, channels.configured_channels(), notify_at(as_of))

    def resolve(self, standing: dict[str, Alert], judged: Evaluation, as_of: datetime) -> None:
        broken = {signal.key for signal in judged.signals}
        self.broken_since = {key: since for key, since in self.broken_since.items() if key in broken}
        for key, alert in standing.items():
            if key in broken or alert.rule in judged.unknown:
                self.clear_since.pop(key, None)
            elif as_of - self.clear_since.setdefault(key, as_of) >= self.clear_after:
                self.clear_since.pop(key)
                if alerts.resolve_alert(alert, as_of, notify_at(as_of)):
                    logger.info("Resolved: alert %s", key.rstrip(":"))

    def deregister(self) -> None:
        self.me.stopped_at = now()
        alerts.record_heartbeat(self.me)


def evaluate_rules(as_of: datetime) -> Evaluation:
    facts = health.check_health(tasks.queues, as_of)
    abandoned = sessions.count_abandoned(as_of, settings.abandoned_after)
    return alert_rules.evaluate(alert_rules.take_snapshot(facts, health.failure_rates(as_of), abandoned))


def watch_loop(watcher: AlertWatcher, ended: Event) -> None:
    logger.info(
        "Checking the alert rules every %s s. Alerts are sent to: %s",
        CHECK_SECONDS,
        ", ".join(channels.configured_channels()) or "the page Alerts",
    )
    rounds = WatchLoop(watcher)
    while not ended.is_set():
        began = time.monotonic()
        rounds.attempt()
        ended.wait(max(CHECK_SECONDS - (time.monotonic() - began), 1))
    with suppress(Exception):
        watcher.deregister()


class WatchLoop:
    """Rounds that continue after any error."""

    def __init__(self, watcher: AlertWatcher) -> None:
        self.watcher, self.blackout = watcher, DatabaseOutage()
        self.watching, self.alerting = BackOff("The alert watcher"), BackOff("The alert about the database")

    def attempt(self) -> None:
        try:
            self.watcher.check(now())
            if self.blackout.since:
                logger.info("The database is available again")
                self.blackout.finish(now())
            deliver_due(now())
            self.watching.succeeded()
        except Exception as error:
            self.watching.failed(error)  # the pause between rounds is the back-off
            if isinstance(error, DATABASE_ERRORS):
                self.alert_of_blackout()
        with suppress(Exception):  # a broken connection is discarded
            release_connection()

    def alert_of_blackout(self) -> None:
        try:
            self.blackout.update(now())
            self.alerting.succeeded()
        except Exception as error:
            self.alerting.failed(error)
