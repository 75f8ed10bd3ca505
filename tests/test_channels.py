"""Webhook and mail, against real servers: what arrives, signed and encrypted; and what is never told."""

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
from receivers import Hook, Mailbox, certificate_in, hook, mailbox

from admin.alerts import channels, delivery
from admin.alerts.channels import NotSent
from config import settings
from engine.models import now
from engine.monitor import alerts
from engine.monitor.alerts import Notice, Signal

SECRET = "a secret of sixteen"
Setting = Callable[..., None]


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """Changes settings for the length of a test."""

    def change(**values: Any) -> None:
        changed = replace(channels.settings, **values)
        for module in ("admin.alerts.channels", "admin.alerts.text", "admin.alerts.delivery"):
            monkeypatch.setattr(f"{module}.settings", changed)

    return change


@pytest.fixture
def inside(app: Flask) -> Iterator[Flask]:
    with app.app_context():
        yield app


@pytest.fixture
def receiver(setting: Setting) -> Iterator[Hook]:
    with hook() as made:
        setting(alert_webhook_url=made.url, alert_webhook_secret=SECRET)
        yield made


def fired(channel: str = "webhook", rule: str = "unserved", subject: str = "heavy", **facts: Any) -> Notice:
    at = now()
    alerts.fire(Signal(rule, subject, facts.pop("value", 1), {"waiting": 3, **facts}), at, [channel], at)
    return alerts.newest(1)[0]


def at_port(box: Mailbox, user: str = "", scheme: str = "smtp", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{user}{host}:{box.port}"


# --- webhook -------------------------------------------------------------------------------------------------


def test_a_webhook_says_what_slack_shows_and_what_a_program_reads(
    inside: Flask, receiver: Hook, setting: Setting
) -> None:
    setting(environment="production", console_url="https://dewey.example.org")
    notice = fired()
    channels.send(notice)
    [post] = receiver.posts
    link = "https://dewey.example.org/workers"
    assert post.path == "/services/T0/a-secret-path?key=hunter2"
    assert post.headers["Content-Type"] == "application/json; charset=utf-8"
    began_at = notice.facts["began_at"]
    assert post.json == {
        "text": f"[production] Nobody serves heavy; 3 runs wait. {link}",
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


def test_a_receiver_can_tell_that_it_was_dewey_and_when(inside: Flask, receiver: Hook) -> None:
    channels.send(fired())
    [post] = receiver.posts
    at, given = (part.partition("=")[2] for part in post.headers["Dewey-Signature"].split(","))
    assert abs(time.time() - int(at)) < 30
    expected = hmac.new(SECRET.encode(), f"{at}.".encode() + post.body, hashlib.sha256).hexdigest()
    assert given == expected
    other = hmac.new(SECRET.encode(), f"{int(at) + 1}.".encode() + post.body, hashlib.sha256).hexdigest()
    assert given != other


def test_without_a_secret_nothing_is_signed(inside: Flask, receiver: Hook, setting: Setting) -> None:
    setting(alert_webhook_secret="")
    channels.send(fired())
    assert "Dewey-Signature" not in receiver.posts[0].headers


@pytest.mark.parametrize(("status", "location"), [(500, ""), (404, ""), (302, "/elsewhere"), (307, "/elsewhere")])
def test_another_answer_than_yes_is_not_sent_and_a_redirect_leads_nowhere(
    inside: Flask, receiver: Hook, status: int, location: str
) -> None:
    receiver.status, receiver.location = status, location
    with pytest.raises(NotSent, match=f"the receiver answers {status}"):
        channels.send(fired())
    assert len(receiver.posts) == 1


def test_what_went_wrong_names_no_secret(
    inside: Flask, setting: Setting, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    setting(
        alert_webhook_url=f"http://127.0.0.1:{port}/hunter2?key=hunter2",
        alert_email_to=("ops@example.org",),
        alert_email_from="dewey@example.org",
        smtp_url=f"smtp://me:hunter2@127.0.0.1:{port}",
    )
    with caplog.at_level("DEBUG"):
        for tried in delivery.try_channels():
            assert tried.error == "Connection refused"
    told = caplog.text + "".join(capsys.readouterr()) + "".join(one.error or "" for one in alerts.newest(9))
    assert "Connection refused" in told
    assert "hunter2" not in told and "hunter2" not in repr(channels.settings)


def test_in_the_language_that_is_set(inside: Flask, receiver: Hook, setting: Setting) -> None:
    setting(language="ru")
    channels.send(fired(waiting=0))
    assert "heavy" in receiver.texts[0] and "Nobody" not in receiver.texts[0]


# --- mail ----------------------------------------------------------------------------------------------------


def test_a_mail_goes_to_everybody_named(inside: Flask, setting: Setting) -> None:
    with mailbox() as box:
        setting(
            alert_email_to=("ann@example.org", "bob@example.org"),
            alert_email_from="dewey@example.org",
            smtp_url=at_port(box),
            environment="production",
            console_url="https://dewey.example.org",
        )
        channels.send(fired("email"))
    [mail], [to] = box.mails, box.to
    assert to == ["ann@example.org", "bob@example.org"]
    assert (mail["From"], mail["To"]) == ("dewey@example.org", "ann@example.org, bob@example.org")
    assert mail["Subject"] == "[production] Dewey: No worker"
    told = ["Nobody serves heavy; 3 runs wait.", "", "https://dewey.example.org/workers"]
    assert mail.get_content().splitlines() == told
    assert mail["Auto-Submitted"] == "auto-generated" and mail["Date"] and mail["Message-ID"]


def test_a_password_goes_only_over_an_encrypted_line(
    inside: Flask, setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certificate_in(tmp_path)
    to = {"alert_email_to": ("ann@example.org",), "alert_email_from": "dewey@example.org"}
    with mailbox(certificate, login=True) as box:
        setting(**to, smtp_url=at_port(box, "dewey:hunter%202@", host="localhost"))
        with pytest.raises(NotSent, match="certificate is not trusted"):
            channels.send(fired("email"))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        channels.send(fired("email", subject="light"))
    assert (box.users, box.encrypted) == (["dewey"], [True])
    assert len(box.mails) == 1
    monkeypatch.setattr(channels, "is_loopback", lambda host: False)
    with mailbox(login=True) as box:
        setting(**to, smtp_url=at_port(box, "dewey:hunter%202@"))
        with pytest.raises(NotSent, match="does not encrypt, so it gets no password"):
            channels.send(fired("email", subject="normal"))
        assert not box.users and not box.mails


def test_a_mail_server_that_refuses_is_told_by_its_number(inside: Flask, setting: Setting) -> None:
    with mailbox() as box:
        box.answer = "554 hunter2 is not welcome"
        setting(alert_email_to=("a@example.org",), alert_email_from="d@example.org", smtp_url=at_port(box))
        with pytest.raises(NotSent, match=r"^the mail server answers 554$"):
            channels.send(fired("email"))


# --- when ----------------------------------------------------------------------------------------------------


def test_while_the_receiver_is_away_it_is_tried_again_with_growing_pauses(inside: Flask, receiver: Hook) -> None:
    notice, pauses = fired(), []
    receiver.status = 503
    for _ in range(9):
        notice = alerts.newest(1)[0]
        assert delivery.send(notice) is False
        after = alerts.newest(1)[0]
        pauses.append(round((after.due_at - now()).total_seconds()))
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert after.error == "the receiver answers 503" and after.tries == 9
    assert delivery.deliver(now()) == 0  # not due
    receiver.status = 200
    assert delivery.deliver(now() + timedelta(minutes=11)) == 1
    assert alerts.newest(1)[0].state == "sent"
    assert len(receiver.posts) == 10


def test_a_channel_that_fails_keeps_nobody_waiting(inside: Flask, receiver: Hook) -> None:
    for number in range(5):
        fired(subject=f"queue {number}")
    receiver.status = 503
    assert delivery.deliver(now()) == 0
    assert len(receiver.posts) == 1
    receiver.status = 200
    assert delivery.deliver(now()) == 4
    assert delivery.deliver(now() + timedelta(minutes=1)) == 1


def test_after_a_day_it_is_given_up(inside: Flask, receiver: Hook) -> None:
    receiver.status = 503
    notice = fired()
    Notice.update(created_at=now() - timedelta(hours=25)).where(Notice.id == notice.id).execute()
    delivery.send(alerts.newest(1)[0])
    assert alerts.newest(1)[0].state == "failed"
    assert delivery.deliver(now() + timedelta(days=1)) == 0


def test_of_two_who_send_one_does(inside: Flask, receiver: Hook) -> None:
    fired()
    [mine], [theirs] = alerts.due(now()), alerts.due(now())
    assert [delivery.send(mine), delivery.send(theirs)] == [True, False]
    assert len(receiver.posts) == 1


def test_what_somebody_died_over_is_sent_by_another_when_the_claim_has_lapsed(inside: Flask, receiver: Hook) -> None:
    notice = fired()
    assert alerts.claim(notice, now())
    assert delivery.deliver(now() + timedelta(seconds=100)) == 0
    assert delivery.deliver(now() + alerts.CLAIM + timedelta(seconds=1)) == 1
    assert [post.json["id"] for post in receiver.posts] == [notice.id]


def test_resolved_comes_after_what_it_resolves(inside: Flask, receiver: Hook) -> None:
    fired()
    receiver.status = 503
    delivery.deliver(now())
    [alert] = alerts.open_alerts()
    alerts.resolve(alert, now() + timedelta(minutes=12), now())
    receiver.status = 200
    receiver.posts.clear()
    assert delivery.deliver(now()) == 0  # the first one pauses, and the second waits for it
    for _ in range(2):
        delivery.deliver(now() + timedelta(minutes=5))
    assert [post.json["event"] for post in receiver.posts] == ["fired", "resolved"]
    assert receiver.texts[1].startswith("Resolved after 12 min: Nobody serves heavy; 3 runs wait.")


def test_settings_are_those_of_the_program() -> None:
    assert channels.settings is settings and channels.channels() == []
