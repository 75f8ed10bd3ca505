"""/alerts: how each rule stands, who was told of what, and a test from the browser."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from browsers import Browser
from budget import cost_of
from receivers import Hook, hook

from admin.alerts import channels, delivery, text
from admin.alerts.watcher import Watch
from config import parse_quiet_hours
from engine.models import now
from engine.monitor import alerts
from engine.monitor.alert_rules import RULES
from engine.monitor.alerts import Notice, Signal
from models import AuditEntry


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def rule_of(html: str, rule: str) -> str:
    found = re.search(rf'<tr id="rule-{rule}">.*?</tr>', html, re.DOTALL)
    return text_of(found[0]) if found else ""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with hook() as made:
        changed = replace(
            channels.settings, alert_webhook_url=made.url, alert_quiet_hours=parse_quiet_hours("22:00-07:00")
        )
        for module in ("admin.alerts.channels", "admin.alerts.text", "admin.pages.system.alerts"):
            monkeypatch.setattr(f"{module}.settings", changed)
        yield made


def test_where_nobody_watches_and_nobody_is_told_the_page_says_so(operator: Browser) -> None:
    html = operator.get("/alerts").text
    assert "Nobody looks whether something is wrong" in html and "flask watch" in html
    assert "ALERT_WEBHOOK_URL" in html
    assert rule_of(html, "unserved") == "No worker not watched a queue has no live worker for a minute –"
    assert "Nobody had to be told of anything yet." in html
    assert "Send a test" not in html


def test_each_rule_stands_with_what_the_watch_saw_and_the_notices_below(either: Browser, receiver: Hook) -> None:
    watch = Watch(lambda rule: timedelta(0))
    watch.look(now())
    delivery.deliver(now())
    html = either.get("/alerts").text
    assert "Nobody looks" not in html and "watched by" in html
    told = rule_of(html, "unserved")
    assert told.startswith("No worker firing for") and "Nobody serves heavy." in told and "Nobody serves light." in told
    assert rule_of(html, "oldest") == "Waits too long fine a run waits for more than 15 min –"
    assert "webhook: 127.0.0.1 · quiet hours 22:00–07:00 UTC" in text_of(html)
    notices = re.findall(r'<tr id="notice-\d+">.*?</tr>', html, re.DOTALL)
    assert len(notices) == 3 and all("Nobody serves" in one for one in notices)
    assert "hunter2" not in html and "secret-path" not in html
    cost_of(either, "/alerts")


def test_what_is_late_given_up_and_not_told_is_told_apart(operator: Browser, receiver: Hook) -> None:
    at = now()
    for subject, state, tries in (("a", "waiting", 3), ("b", "failed", 9), ("c", "dropped", 0), ("d", "sent", 1)):
        alerts.fire(Signal("unserved", subject, 1, {"waiting": 0}), at, ["webhook"], at)
        newest = Notice.id == alerts.newest(1)[0].id
        error = "the receiver answers 503" if tries > 1 else None
        Notice.update(state=state, tries=tries, error=error, due_at=at + timedelta(minutes=5)).where(newest).execute()
    told = text_of(operator.get("/alerts").text)
    assert re.search(r"Nobody serves a\. the receiver answers 503 to be sent 3 tries in 5 min", told)
    assert "Nobody serves b. the receiver answers 503 given up 9 tries" in told
    assert "Nobody serves c. not told" in told and "Nobody serves d. sent" in told


def test_a_test_is_sent_from_the_page(signed_in: Callable[[str], Browser], receiver: Hook) -> None:
    viewer, operator = signed_in("viewer"), signed_in("operator")
    assert "Send a test" not in viewer.get("/alerts").text
    assert viewer.send("/alerts/tests").status_code == 403
    assert "Send a test" in operator.get("/alerts").text
    answer = operator.send("/alerts/tests")
    assert answer.status_code == 303
    assert "webhook: the test was sent." in operator.get("/alerts").text
    assert [post.json["event"] for post in receiver.posts] == ["test"]
    receiver.status = 500
    operator.send("/alerts/tests")
    html = operator.get("/alerts").text
    assert "webhook: the receiver answers 500" in html and "This is a test" in html
    entry = AuditEntry.select().order_by(AuditEntry.id.desc()).first()
    assert (entry.action, entry.after) == ("alerts.test", {"webhook": "the receiver answers 500"})


def test_what_fires_stands_first_and_leads_to_where_it_is_mended(either: Browser) -> None:
    for rule, subject in (("abandoned", ""), ("failing", "a_task")):
        alerts.fire(Signal(rule, subject, 3, {"failed": 3, "finished": 4}), now(), [], now())
    html = either.get("/alerts").text
    assert re.findall(r'<tr id="rule-([a-z]+)">', html)[:2] == [one for one in RULES if one in ("abandoned", "failing")]
    for link in re.findall(r'<b><a href="([^"]+)"', html):
        assert either.get(link.replace("&amp;", "&")).status_code == 200, link
    assert html.count('<b><a href="/') == 2


def test_every_rule_has_its_words(operator: Browser) -> None:
    assert set(text.TEXTS) == set(RULES)


def test_long_lists_go_on(operator: Browser) -> None:
    at = now()
    for number in range(40):
        alerts.fire(Signal("unserved", f"q{number}", 1, {"waiting": 0}), at, ["webhook"], at)
    first = operator.get("/alerts").text
    link = re.search(r'href="([^"]+)" rel="next"', first)
    assert link
    second = operator.get(link[1].replace("&amp;", "&")).text
    ids = [set(re.findall(r'id="notice-(\d+)"', html)) for html in (first, second)]
    assert len(ids[0] | ids[1]) == 40 and not ids[0] & ids[1]
