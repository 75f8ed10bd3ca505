"""/alerts: the state of each rule, the notices sent, and the test from the browser."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from browsers import Browser
from budget import measure_cost
from receivers import WebhookReceiver, run_webhook_receiver

from admin.alerts import channels, delivery, text
from admin.alerts.watcher import AlertWatcher
from config import parse_quiet_hours
from engine.models import now
from engine.monitor import alerts
from engine.monitor.alert_rules import RULES
from engine.monitor.alerts import Notice, Signal
from models import AuditEntry


def plain_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def rule_text(html: str, rule: str) -> str:
    match = re.search(rf'<tr id="rule-{rule}">.*?</tr>', html, re.DOTALL)
    return plain_text(match[0]) if match else ""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookReceiver]:
    with run_webhook_receiver() as made:
        changed = replace(
            channels.settings, alert_webhook_url=made.url, alert_quiet_hours=parse_quiet_hours("22:00-07:00")
        )
        for module in ("admin.alerts.channels", "admin.alerts.text", "admin.pages.system.alerts"):
            monkeypatch.setattr(f"{module}.settings", changed)
        yield made


def test_alerts_page_warns_when_no_watcher_or_channel_exists(operator: Browser) -> None:
    html = operator.get("/alerts").text
    assert "No alert watcher is running" in html and "dewey watch" in html
    assert "ALERT_WEBHOOK_URL" in html
    assert rule_text(html, "unserved") == "No worker not watched a queue has had no live worker for a minute –"
    assert "No notices yet." in html
    assert "Send test notice" not in html


def test_rules_show_the_last_check_and_their_notices(any_db_operator: Browser, receiver: WebhookReceiver) -> None:
    watch = AlertWatcher(lambda rule: timedelta(0))
    watch.check(now())
    delivery.deliver_due(now())
    html = any_db_operator.get("/alerts").text
    assert "No alert watcher" not in html and "watcher: " in html
    text = rule_text(html, "unserved")
    assert (
        text.startswith("No worker firing for")
        and "Queue heavy has no live worker." in text
        and "Queue light has no live worker." in text
    )
    assert rule_text(html, "oldest") == "Waits too long OK a run has waited for more than 15 min –"
    assert "webhook: 127.0.0.1 · quiet hours 22:00–07:00 UTC" in plain_text(html)
    notices = re.findall(r'<tr id="notice-\d+">.*?</tr>', html, re.DOTALL)
    assert len(notices) == 3 and all("has no live worker" in notice for notice in notices)
    assert "hunter2" not in html and "secret-path" not in html
    measure_cost(any_db_operator, "/alerts")


def test_late_failed_and_dropped_notices_are_labelled(operator: Browser, receiver: WebhookReceiver) -> None:
    at = now()
    for subject, state, tries in (("a", "waiting", 3), ("b", "failed", 9), ("c", "dropped", 0), ("d", "sent", 1)):
        alerts.open_alert(Signal("unserved", subject, 1, {"waiting": 0}), at, ["webhook"], at)
        newest = Notice.id == alerts.newest_notices(1)[0].id
        error = "the receiver returned 503" if tries > 1 else None
        Notice.update(state=state, tries=tries, error=error, due_at=at + timedelta(minutes=5)).where(newest).execute()
    text = plain_text(operator.get("/alerts").text)
    assert re.search(r"Queue a has no live worker\. the receiver returned 503 pending 3 tries in 5 min", text)
    assert "Queue b has no live worker. the receiver returned 503 failed 9 tries" in text
    assert "Queue c has no live worker. dropped" in text and "Queue d has no live worker. sent" in text


def test_test_notice_is_sent_from_the_page(sign_in_as: Callable[[str], Browser], receiver: WebhookReceiver) -> None:
    viewer, operator = sign_in_as("viewer"), sign_in_as("operator")
    assert "Send test notice" not in viewer.get("/alerts").text
    assert viewer.send("/alerts/tests").status_code == 403
    assert "Send test notice" in operator.get("/alerts").text
    answer = operator.send("/alerts/tests")
    assert answer.status_code == 303
    assert "webhook: test notice sent." in operator.get("/alerts").text
    assert [post.json["event"] for post in receiver.posts] == ["test"]
    receiver.status = 500
    operator.send("/alerts/tests")
    html = operator.get("/alerts").text
    assert "webhook: the receiver returned 500" in html and "Test: this channel" in html
    entry = AuditEntry.select().order_by(AuditEntry.id.desc()).first()
    assert (entry.action, entry.after) == ("alerts.test", {"webhook": "the receiver returned 500"})


def test_firing_rules_come_first_and_link_to_their_page(any_db_operator: Browser) -> None:
    for rule, subject in (("abandoned", ""), ("failing", "a_task")):
        alerts.open_alert(Signal(rule, subject, 3, {"failed": 3, "finished": 4}), now(), [], now())
    html = any_db_operator.get("/alerts").text
    assert re.findall(r'<tr id="rule-([a-z]+)">', html)[:2] == [
        rule_name for rule_name in RULES if rule_name in ("abandoned", "failing")
    ]
    for link in re.findall(r'<b><a href="([^"]+)"', html):
        assert any_db_operator.get(link.replace("&amp;", "&")).status_code == 200, link
    assert html.count('<b><a href="/') == 2


def test_every_rule_has_a_name_and_a_page(operator: Browser) -> None:
    assert set(text.TEXTS) == set(RULES)


def test_notices_are_paged(operator: Browser) -> None:
    at = now()
    for number in range(40):
        alerts.open_alert(Signal("unserved", f"q{number}", 1, {"waiting": 0}), at, ["webhook"], at)
    first = operator.get("/alerts").text
    link = re.search(r'href="([^"]+)" rel="next"', first)
    assert link
    second = operator.get(link[1].replace("&amp;", "&")).text
    ids = [set(re.findall(r'id="notice-(\d+)"', html)) for html in (first, second)]
    assert len(ids[0] | ids[1]) == 40 and not ids[0] & ids[1]
