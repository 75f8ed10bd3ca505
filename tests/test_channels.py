"""Webhook and mail against real servers: content, signature, encryption, and data that is never sent."""

import hashlib
import hmac
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from receivers import Mailbox, WebhookReceiver, create_certificate, run_mailbox, run_webhook_receiver

from admin.alerts import channels, delivery
from admin.alerts.channels import DeliveryFailed
from config import settings
from engine.models import now
from engine.monitor import alerts
from engine.monitor.alerts import Notice, Signal

SECRET = "a secret of sixteen"
ChangeSettings = Callable[..., None]


@pytest.fixture
def change_settings(monkeypatch: pytest.MonkeyPatch) -> ChangeSettings:
    """Return a function that changes settings for the length of a test."""

    def change(**values: Any) -> None:
        changed = replace(channels.settings, **values)
        for module in ("admin.alerts.channels", "admin.alerts.text", "admin.alerts.delivery"):
            monkeypatch.setattr(f"{module}.settings", changed)

    return change


@pytest.fixture
def app_context(app: Flask) -> Iterator[Flask]:
    with app.app_context():
        yield app


@pytest.fixture
def receiver(change_settings: ChangeSettings) -> Iterator[WebhookReceiver]:
    with run_webhook_receiver() as made:
        change_settings(alert_webhook_url=made.url, alert_webhook_secret=SECRET)
        yield made


def create_notice(channel: str = "webhook", rule: str = "unserved", subject: str = "heavy", **facts: Any) -> Notice:
    at = now()
    alerts.open_alert(Signal(rule, subject, facts.pop("value", 1), {"waiting": 3, **facts}), at, [channel], at)
    return alerts.newest_notices(1)[0]


def smtp_url(box: Mailbox, user: str = "", scheme: str = "smtp", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{user}{host}:{box.port}"


# --- webhook -------------------------------------------------------------------------------------------------


def test_webhook_body_serves_slack_and_programs(
    app_context: Flask, receiver: WebhookReceiver, change_settings: ChangeSettings
) -> None:
    change_settings(environment="production", console_url="https://dewey.example.org")
    notice = create_notice()
    channels.send_notice(notice)
    [post] = receiver.posts
    link = "https://dewey.example.org/workers"
    assert post.path == "/services/T0/a-secret-path?key=hunter2"
    assert post.headers["Content-Type"] == "application/json; charset=utf-8"
    began_at = notice.facts["began_at"]
    assert post.json == {
        "text": f"[production] Queue heavy has no live worker. 3 runs are waiting. {link}",
        "id": notice.id,
        "event": "fired",
        "environment": "production",
        "url": link,
        "rule": "unserved",
        "subject": "heavy",
        "value": 1.0,
        "began_at": began_at,
        "ended_at": None,
    }


def test_webhook_is_signed_with_a_timestamp(app_context: Flask, receiver: WebhookReceiver) -> None:
    channels.send_notice(create_notice())
    [post] = receiver.posts
    at, signature = (part.partition("=")[2] for part in post.headers["Dewey-Signature"].split(","))
    assert abs(time.time() - int(at)) < 30
    expected = hmac.new(SECRET.encode(), f"{at}.".encode() + post.body, hashlib.sha256).hexdigest()
    assert signature == expected
    other = hmac.new(SECRET.encode(), f"{int(at) + 1}.".encode() + post.body, hashlib.sha256).hexdigest()
    assert signature != other


def test_webhook_without_a_secret_is_unsigned(
    app_context: Flask, receiver: WebhookReceiver, change_settings: ChangeSettings
) -> None:
    change_settings(alert_webhook_secret="")
    channels.send_notice(create_notice())
    assert "Dewey-Signature" not in receiver.posts[0].headers


@pytest.mark.parametrize(("status", "location"), [(500, ""), (404, ""), (302, "/elsewhere"), (307, "/elsewhere")])
def test_error_or_redirect_of_the_receiver_is_not_sent(
    app_context: Flask, receiver: WebhookReceiver, status: int, location: str
) -> None:
    receiver.status, receiver.location = status, location
    with pytest.raises(DeliveryFailed, match=f"the receiver returned {status}"):
        channels.send_notice(create_notice())
    assert len(receiver.posts) == 1


def test_send_errors_contain_no_secret(
    app_context: Flask,
    change_settings: ChangeSettings,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    change_settings(
        alert_webhook_url=f"http://127.0.0.1:{port}/hunter2?key=hunter2",
        alert_email_to=("ops@example.org",),
        alert_email_from="dewey@example.org",
        smtp_url=f"smtp://me:hunter2@127.0.0.1:{port}",
    )
    with caplog.at_level("DEBUG"):
        for tried in delivery.send_test():
            assert tried.error == "Connection refused"
    output = (
        caplog.text + "".join(capsys.readouterr()) + "".join(notice.error or "" for notice in alerts.newest_notices(9))
    )
    assert "Connection refused" in output
    assert "hunter2" not in output and "hunter2" not in repr(channels.settings)


def test_notice_is_in_the_configured_language(
    app_context: Flask, receiver: WebhookReceiver, change_settings: ChangeSettings
) -> None:
    change_settings(language="ru")
    channels.send_notice(create_notice(waiting=0))
    assert "heavy" in receiver.texts[0] and "live worker" not in receiver.texts[0]


# --- mail ----------------------------------------------------------------------------------------------------


def test_mail_goes_to_all_recipients(app_context: Flask, change_settings: ChangeSettings) -> None:
    with run_mailbox() as box:
        change_settings(
            alert_email_to=("ann@example.org", "bob@example.org"),
            alert_email_from="dewey@example.org",
            smtp_url=smtp_url(box),
            environment="production",
            console_url="https://dewey.example.org",
        )
        channels.send_notice(create_notice("email"))
    [mail], [to] = box.mails, box.to
    assert to == ["ann@example.org", "bob@example.org"]
    assert (mail["From"], mail["To"]) == ("dewey@example.org", "ann@example.org, bob@example.org")
    assert mail["Subject"] == "[production] Dewey: No worker"
    expected = ["Queue heavy has no live worker. 3 runs are waiting.", "", "https://dewey.example.org/workers"]
    assert mail.get_content().splitlines() == expected
    assert mail["Auto-Submitted"] == "auto-generated" and mail["Date"] and mail["Message-ID"]


def test_password_is_sent_only_over_an_encrypted_connection(
    app_context: Flask, change_settings: ChangeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = create_certificate(tmp_path)
    to = {"alert_email_to": ("ann@example.org",), "alert_email_from": "dewey@example.org"}
    with run_mailbox(certificate, login=True) as box:
        change_settings(**to, smtp_url=smtp_url(box, "dewey:hunter%202@", host="localhost"))
        with pytest.raises(DeliveryFailed, match="certificate is not trusted"):
            channels.send_notice(create_notice("email"))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        channels.send_notice(create_notice("email", subject="light"))
    assert (box.users, box.encrypted) == (["dewey"], [True])
    assert len(box.mails) == 1
    monkeypatch.setattr(channels, "is_loopback", lambda host: False)
    with run_mailbox(login=True) as box:
        change_settings(**to, smtp_url=smtp_url(box, "dewey:hunter%202@"))
        with pytest.raises(DeliveryFailed, match="does not support encryption, so no password was sent"):
            channels.send_notice(create_notice("email", subject="normal"))
        assert not box.users and not box.mails


def test_mail_server_error_is_reported_by_its_code(app_context: Flask, change_settings: ChangeSettings) -> None:
    with run_mailbox() as box:
        box.answer = "554 hunter2 is not welcome"
        change_settings(alert_email_to=("a@example.org",), alert_email_from="d@example.org", smtp_url=smtp_url(box))
        with pytest.raises(DeliveryFailed, match=r"^the mail server returned 554$"):
            channels.send_notice(create_notice("email"))


# --- timing --------------------------------------------------------------------------------------------------


def test_unavailable_receiver_is_retried_with_growing_pauses(app_context: Flask, receiver: WebhookReceiver) -> None:
    notice, pauses = create_notice(), []
    receiver.status = 503
    for _ in range(9):
        notice = alerts.newest_notices(1)[0]
        assert delivery.deliver_notice(notice) is False
        after = alerts.newest_notices(1)[0]
        pauses.append(round((after.due_at - now()).total_seconds()))
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert after.error == "the receiver returned 503" and after.tries == 9
    assert delivery.deliver_due(now()) == 0  # not due
    receiver.status = 200
    assert delivery.deliver_due(now() + timedelta(minutes=11)) == 1
    assert alerts.newest_notices(1)[0].state == "sent"
    assert len(receiver.posts) == 10


def test_failing_notice_does_not_delay_the_others(app_context: Flask, receiver: WebhookReceiver) -> None:
    for number in range(5):
        create_notice(subject=f"queue {number}")
    receiver.status = 503
    assert delivery.deliver_due(now()) == 0
    assert len(receiver.posts) == 1
    receiver.status = 200
    assert delivery.deliver_due(now()) == 4
    assert delivery.deliver_due(now() + timedelta(minutes=1)) == 1


def test_notice_is_abandoned_after_a_day(app_context: Flask, receiver: WebhookReceiver) -> None:
    receiver.status = 503
    notice = create_notice()
    Notice.update(created_at=now() - timedelta(hours=25)).where(Notice.id == notice.id).execute()
    delivery.deliver_notice(alerts.newest_notices(1)[0])
    assert alerts.newest_notices(1)[0].state == "failed"
    assert delivery.deliver_due(now() + timedelta(days=1)) == 0


def test_concurrent_senders_send_a_notice_once(app_context: Flask, receiver: WebhookReceiver) -> None:
    create_notice()
    [first_copy], [second_copy] = alerts.due_notices(now()), alerts.due_notices(now())
    assert [delivery.deliver_notice(first_copy), delivery.deliver_notice(second_copy)] == [True, False]
    assert len(receiver.posts) == 1


def test_lapsed_claim_is_sent_by_another_watcher(app_context: Flask, receiver: WebhookReceiver) -> None:
    notice = create_notice()
    assert alerts.claim_notice(notice, now())
    assert delivery.deliver_due(now() + timedelta(seconds=100)) == 0
    assert delivery.deliver_due(now() + alerts.CLAIM_TIME + timedelta(seconds=1)) == 1
    assert [post.json["id"] for post in receiver.posts] == [notice.id]


def test_resolved_notice_follows_its_fired_notice(app_context: Flask, receiver: WebhookReceiver) -> None:
    create_notice()
    receiver.status = 503
    delivery.deliver_due(now())
    [alert] = alerts.open_alerts()
    alerts.resolve_alert(alert, now() + timedelta(minutes=12), now())
    receiver.status = 200
    receiver.posts.clear()
    assert delivery.deliver_due(now()) == 0  # the first notice backs off, and the second waits for it
    for _ in range(2):
        delivery.deliver_due(now() + timedelta(minutes=5))
    assert [post.json["event"] for post in receiver.posts] == ["fired", "resolved"]
    assert receiver.texts[1].startswith("Resolved after 12 min: Queue heavy has no live worker. 3 runs are waiting.")


def test_channels_use_the_program_settings() -> None:
    assert channels.settings is settings and channels.configured_channels() == []
