"""The audit's pages: filtered, paged, in full, and as a file that no spreadsheet runs."""

import csv
import io
import re
from collections.abc import Callable
from html import unescape
from urllib.parse import quote

import pytest
from browsers import PEOPLE, Browser, app_with_people, bearer_headers, signed_in_browser
from flask import Flask
from test_audit_chain import add, tamper

from admin.audit_log import append, verify
from engine.models import now
from models import AuditEntry


def shown(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="line-(\d+)"', html)]


def newest() -> int:
    return int(AuditEntry.select().order_by(AuditEntry.id.desc()).first().id)


# --- the list ------------------------------------------------------------------------------------------------


def test_the_newest_stands_first_and_says_who_did_what_to_which_from_where(either: Browser) -> None:
    append(
        actor_kind="operator", actor="ann@example.org", source="web", action="queues.pause", target="light",
        after={"reason": "the database is moving"}, address="203.0.113.7",
    )  # fmt: skip
    html = either.get("/audit").text
    assert shown(html) == [2, 1]
    row = html.partition('id="line-2"')[2].partition("</tr>")[0]
    for words in ("ann@example.org", "Browser", "203.0.113.7", "queues.pause", "light", "the database is moving"):
        assert words in row


def test_each_filter_leaves_only_what_it_says(either: Browser) -> None:
    add("runs.cancel", target="one")
    append(actor_kind="token", actor="script", source="api", action="runs.retry", target="two")
    append(actor_kind="cli", actor="root", source="cli", action="runs.retry", target="one")
    first = 2
    assert shown(either.get("/audit?target=one").text) == [first + 2, first]
    assert shown(either.get("/audit?actor=script").text) == [first + 1]
    assert shown(either.get("/audit?action=runs.retry").text) == [first + 2, first + 1]
    assert shown(either.get("/audit?source=api").text) == [first + 1]
    assert shown(either.get("/audit?source=cli&action=runs.retry").text) == [first + 2]
    before, after = (quote(f"{AuditEntry.get_by_id(number).at.isoformat()}") for number in (first, first + 2))
    assert shown(either.get(f"/audit?from={before}").text) == [first + 2, first + 1, first]
    assert shown(either.get(f"/audit?from={before}&to={after}").text) == [first + 1, first]
    assert "No line matches." in either.get("/audit?actor=nobody").text
    assert either.get("/audit?source=moon").status_code == 422
    assert either.get("/audit?from=soon").status_code == 422


def test_a_long_list_is_paged_without_loss(either: Browser) -> None:
    for _ in range(70):
        add()
    url, found = "/audit", list[int]()
    while url:
        html = either.get(url).text
        found += shown(html)
        add()  # what comes meanwhile moves nothing
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = unescape(older[1]) if older else ""
    assert found == sorted(range(1, 72), reverse=True)


def test_a_row_that_was_changed_is_marked(either: Browser) -> None:
    add()
    add()
    assert "altered" not in either.get("/audit").text
    tamper("UPDATE dewey_audit SET actor = 'x' WHERE id = 2")
    html = either.get("/audit").text
    assert [("altered" in row) for row in html.split('id="line-')[1:]] == [False, True, False]
    assert "not as it was written" in either.get("/audit/2").text
    assert "not as it was written" not in either.get("/audit/3").text


# --- one of them ---------------------------------------------------------------------------------------------


def test_one_line_shows_what_was_before_and_after(either: Browser) -> None:
    add(
        "operators.role", target=PEOPLE["viewer"], before={"role": "viewer"}, after={"role": "admin", "more": [1, None]}
    )
    html = either.get(f"/audit/{newest()}").text
    rows = re.findall(r'<tr><th scope="row">([^<]+)</th><td class="what">([^<]+)</td><td class="what">([^<]+)', html)
    assert rows == [("role", "viewer", "admin"), ("more", "–", "[1, null]")]
    entry = AuditEntry.get_by_id(newest())
    assert entry.hash in html and entry.previous in html
    assert either.get("/audit/999").status_code == 404


@pytest.mark.parametrize(
    ("action", "target", "link"),
    [
        ("runs.cancel", "8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52", "/runs/8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52"),
        ("tasks.run", "8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52", "/runs/8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52"),
        ("tasks.pause", "process_book", "/tasks/process_book"),
        ("queues.pause", "light", "/queues/light"),
        ("errors.resolve", "0123456789ab", "/errors/0123456789ab"),
        ("bulk.retry", "7", "/bulk/7"),
        ("denied", "GET /audit", ""),
        ("sessions.close", "x", ""),
    ],
)
def test_a_line_leads_to_what_it_is_about(operator: Browser, action: str, target: str, link: str) -> None:
    add(action, target=target)
    told = re.search(r"<dt>to which</dt><dd>(.*?)</dd>", operator.get(f"/audit/{newest()}").text)
    assert told and told[1] == (f'<a href="{link}">{target}</a>' if link else target)


# --- as a file -----------------------------------------------------------------------------------------------


def test_the_file_has_every_row_of_the_filter_and_no_formula(either: Browser) -> None:
    for _ in range(40):
        add("runs.cancel", target="=1+1")
    append(actor_kind="token", actor="@script", source="api", action="runs.retry", after={"x": "=2"})
    answer = either.get("/audit.csv")
    assert answer.mimetype == "text/csv" and "audit-" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["id"]) for row in rows] == list(range(42, 0, -1))
    assert (rows[1]["target"], rows[0]["actor"], rows[0]["after"]) == ("'=1+1", "'@script", '{"x": "=2"}')
    assert rows[0]["previous"] == rows[1]["hash"]
    only = list(csv.DictReader(io.StringIO(either.get("/audit.csv?source=api&actor=%40script").text)))
    assert [row["id"] for row in only] == ["42"]


def test_a_program_reads_the_file_too(app: Flask) -> None:
    answer = app.test_client().get("/audit.csv", headers=bearer_headers("viewer"))
    assert answer.status_code == 200
    assert app.test_client().get("/audit.csv?source=moon", headers=bearer_headers("operator")).is_json


# --- what is on record ---------------------------------------------------------------------------------------


def test_what_somebody_tried_and_may_not_is_on_record(app: Flask, signed_in: Callable[[str], Browser]) -> None:
    viewer = signed_in("viewer")
    assert viewer.send("/queues/light/pause").status_code == 403
    assert app.test_client().post("/operators", headers=bearer_headers("operator")).status_code == 403
    lines = [(one.actor_kind, one.source, one.target, one.after) for one in AuditEntry.select()][-2:]
    assert lines == [
        ("operator", "web", "POST /queues/light/pause", {"needed": "operator", "role": "viewer"}),
        ("token", "api", "POST /operators", {"needed": "admin", "role": "operator"}),
    ]


def test_what_a_day_at_the_console_writes_holds(each_database: str) -> None:
    app = app_with_people()
    admin = signed_in_browser(app, "admin")
    admin.send("/operators", email="new@example.org", role="viewer")
    admin.send("/tokens", name="script", role="viewer", days="30")
    app.test_client().sign_in(PEOPLE["viewer"], "a wrong password")
    admin.send("/logout")
    assert [one.action for one in AuditEntry.select().order_by(AuditEntry.id)] == [
        "sign_in", "operators.create", "tokens.create", "sign_in.failed", "sign_out",
    ]  # fmt: skip
    assert (verify().rows, verify().findings) == (5, [])
    assert all(one.at <= now() for one in AuditEntry.select())
