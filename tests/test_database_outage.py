"""The database that stores alerts is unavailable: the notices during the outage, and the alerts stored afterwards."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from browsers import create_app_with_people
from receivers import WebhookReceiver, run_webhook_receiver

import tasks
from admin.alerts import channels, database_outage, delivery
from admin.alerts.database_outage import DatabaseOutage
from config import parse_quiet_hours
from engine.exceptions import BrokerUnavailable
from engine.models import now
from engine.monitor import alerts
from engine.monitor.alerts import Alert

MINUTE = timedelta(minutes=1)


@pytest.fixture
def receiver(sqlite_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookReceiver]:
    with run_webhook_receiver() as made, create_app_with_people().app_context():
        tasks.light.storage.results.delete(database_outage.KEY)
        monkeypatch.setattr(channels, "settings", replace(channels.settings, alert_webhook_url=made.url))
        yield made
        tasks.light.storage.results.delete(database_outage.KEY)


def test_one_of_two_watchers_reports_an_outage_after_a_minute(receiver: WebhookReceiver) -> None:
    at, both = now(), (DatabaseOutage(), DatabaseOutage())
    for minutes in (0, 0.5, 0.9):
        for notice in both:
            notice.update(at + minutes * MINUTE)
    assert receiver.posts == []
    for minutes in (1, 2, 3):
        for notice in both:
            notice.update(at + minutes * MINUTE)
    assert receiver.texts == ["The database is unavailable. http://127.0.0.1:8000/"]
    for notice in both:
        notice.finish(at + 12 * MINUTE)
    [alert] = Alert.select()
    assert (alert.rule, alert.began_at, alert.ended_at) == ("database", at, at + 12 * MINUTE)
    assert delivery.deliver_due(at + 12 * MINUTE) == 1
    assert receiver.texts[1].startswith("Resolved after 12 min: The database is unavailable.")
    assert [(notice.event, notice.state) for notice in alerts.newest_notices(9)] == [
        ("resolved", "sent"),
        ("fired", "sent"),
    ]
    for notice in both:
        notice.update(at + 20 * MINUTE)
        notice.finish(at + 20.5 * MINUTE)
    assert Alert.select().count() == 1  # too short for a notice


def test_notice_is_retried_while_the_receiver_is_unavailable(receiver: WebhookReceiver) -> None:
    at, outage = now(), DatabaseOutage(timedelta(0))
    receiver.status = 503
    outage.update(at)
    outage.update(at + MINUTE)
    receiver.status = 200
    outage.update(at + 2 * MINUTE)
    outage.update(at + 3 * MINUTE)
    assert len(receiver.posts) == 3


def test_outage_is_reported_once_without_the_broker(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_args: object, **_more: object) -> bool:
        raise BrokerUnavailable("no answer")

    monkeypatch.setattr(tasks.light.storage.results, "put_new", away)
    at, notice = now(), DatabaseOutage(timedelta(0))
    for minutes in range(5):
        notice.update(at + minutes * MINUTE)
    assert len(receiver.posts) == 1
    notice.finish(at + 5 * MINUTE)
    assert [notice.event for notice in alerts.newest_notices(9)] == ["resolved", "fired"]


def test_outage_notice_waits_in_quiet_hours(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    all_day = parse_quiet_hours("00:00-23:59:59.999999")
    monkeypatch.setattr(delivery, "settings", replace(delivery.settings, alert_quiet_hours=all_day))
    DatabaseOutage(timedelta(0)).update(now())
    assert receiver.posts == []
