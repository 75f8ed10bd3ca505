"""The pages of the audit log: filters, paging, details, and an export without spreadsheet formulas."""

import csv
import io
import re
from collections.abc import Callable
from html import unescape
from urllib.parse import quote

import pytest
from browsers import PEOPLE, Browser, bearer_headers, create_app_with_people, sign_in_browser
from flask import Flask
from test_audit_chain import add_row, tamper

from admin.audit_log import append_entries, verify_chain
from engine.models import now
from models import AuditEntry


def shown_ids(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="line-(\d+)"', html)]


def newest_id() -> int:
    return int(AuditEntry.select().order_by(AuditEntry.id.desc()).first().id)


# --- the list ------------------------------------------------------------------------------------------------


def test_newest_row_comes_first_with_actor_target_and_source(any_db_operator: Browser) -> None:
    append_entries(
        actor_kind="operator", actor="ann@example.org", source="web", action="queues.pause", target="light",
        after={"reason": "the database is moving"}, address="203.0.113.7",
    )  # fmt: skip
    html = any_db_operator.get("/audit").text
    assert shown_ids(html) == [2, 1]
    row = html.partition('id="line-2"')[2].partition("</tr>")[0]
    for words in ("ann@example.org", "Browser", "203.0.113.7", "queues.pause", "light", "the database is moving"):
        assert words in row


def test_filter_selects_matching_rows(any_db_operator: Browser) -> None:
    add_row("runs.cancel", target="one")
    append_entries(actor_kind="token", actor="script", source="api", action="runs.retry", target="two")
    append_entries(actor_kind="cli", actor="root", source="cli", action="runs.retry", target="one")
    first = 2
    assert shown_ids(any_db_operator.get("/audit?target=one").text) == [first + 2, first]
    assert shown_ids(any_db_operator.get("/audit?actor=script").text) == [first + 1]
    assert shown_ids(any_db_operator.get("/audit?action=runs.retry").text) == [first + 2, first + 1]
    assert shown_ids(any_db_operator.get("/audit?source=api").text) == [first + 1]
    assert shown_ids(any_db_operator.get("/audit?source=cli&action=runs.retry").text) == [first + 2]
    before, after = (quote(f"{AuditEntry.get_by_id(number).at.isoformat()}") for number in (first, first + 2))
    assert shown_ids(any_db_operator.get(f"/audit?from={before}").text) == [first + 2, first + 1, first]
    assert shown_ids(any_db_operator.get(f"/audit?from={before}&to={after}").text) == [first + 1, first]
    assert "No entry matches." in any_db_operator.get("/audit?actor=unknown").text
    assert any_db_operator.get("/audit?source=moon").status_code == 422
    assert any_db_operator.get("/audit?from=soon").status_code == 422


def test_long_list_is_paged_without_loss(any_db_operator: Browser) -> None:
    for _ in range(70):
        add_row()
    url, ids = "/audit", list[int]()
    while url:
        html = any_db_operator.get(url).text
        ids += shown_ids(html)
        add_row()  # New entries do not move the page.
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = unescape(older[1]) if older else ""
    assert ids == sorted(range(1, 72), reverse=True)


def test_changed_row_is_marked(any_db_operator: Browser) -> None:
    add_row()
    add_row()
    assert "altered" not in any_db_operator.get("/audit").text
    tamper("UPDATE dewey_audit SET actor = 'x' WHERE id = 2")
    html = any_db_operator.get("/audit").text
    assert [("altered" in row) for row in html.split('id="line-')[1:]] == [False, True, False]
    assert "changed after it was written" in any_db_operator.get("/audit/2").text
    assert "changed after it was written" not in any_db_operator.get("/audit/3").text


# --- one entry -----------------------------------------------------------------------------------------------


def test_entry_page_shows_values_before_and_after(any_db_operator: Browser) -> None:
    add_row(
        "operators.role", target=PEOPLE["viewer"], before={"role": "viewer"}, after={"role": "admin", "more": [1, None]}
    )
    html = any_db_operator.get(f"/audit/{newest_id()}").text
    rows = re.findall(r'<tr><th scope="row">([^<]+)</th><td class="what">([^<]+)</td><td class="what">([^<]+)', html)
    assert rows == [("role", "viewer", "admin"), ("more", "–", "[1, null]")]
    entry = AuditEntry.get_by_id(newest_id())
    assert entry.hash in html and entry.previous in html
    assert any_db_operator.get("/audit/999").status_code == 404


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
def test_target_links_to_its_page(operator: Browser, action: str, target: str, link: str) -> None:
    add_row(action, target=target)
    match = re.search(r"<dt>target</dt><dd>(.*?)</dd>", operator.get(f"/audit/{newest_id()}").text)
    assert match and match[1] == (f'<a href="{link}">{target}</a>' if link else target)


# --- export --------------------------------------------------------------------------------------------------


def test_csv_has_every_filtered_row_and_no_formula(any_db_operator: Browser) -> None:
    for _ in range(40):
        add_row("runs.cancel", target="=1+1")
    append_entries(actor_kind="token", actor="@script", source="api", action="runs.retry", after={"x": "=2"})
    answer = any_db_operator.get("/audit.csv")
    assert answer.mimetype == "text/csv" and "audit-" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["id"]) for row in rows] == list(range(42, 0, -1))
    assert (rows[1]["target"], rows[0]["actor"], rows[0]["after"]) == ("'=1+1", "'@script", '{"x": "=2"}')
    assert rows[0]["previous"] == rows[1]["hash"]
    only = list(csv.DictReader(io.StringIO(any_db_operator.get("/audit.csv?source=api&actor=%40script").text)))
    assert [row["id"] for row in only] == ["42"]


def test_csv_is_readable_with_a_token(app: Flask) -> None:
    answer = app.test_client().get("/audit.csv", headers=bearer_headers("viewer"))
    assert answer.status_code == 200
    assert app.test_client().get("/audit.csv?source=moon", headers=bearer_headers("operator")).is_json


# --- stored entries ------------------------------------------------------------------------------------------


def test_denied_actions_are_recorded(app: Flask, sign_in_as: Callable[[str], Browser]) -> None:
    viewer = sign_in_as("viewer")
    assert viewer.send("/queues/light/pause").status_code == 403
    assert app.test_client().post("/operators", headers=bearer_headers("operator")).status_code == 403
    lines = [(entry.actor_kind, entry.source, entry.target, entry.after) for entry in AuditEntry.select()][-2:]
    assert lines == [
        ("operator", "web", "POST /queues/light/pause", {"needed": "operator", "role": "viewer"}),
        ("token", "api", "POST /operators", {"needed": "admin", "role": "operator"}),
    ]


def test_console_actions_form_a_valid_chain(each_database: str) -> None:
    app = create_app_with_people()
    admin = sign_in_browser(app, "admin")
    admin.send("/operators", email="new@example.org", role="viewer")
    admin.send("/tokens", name="script", role="viewer", days="30")
    app.test_client().sign_in(PEOPLE["viewer"], "a wrong password")
    admin.send("/logout")
    assert [entry.action for entry in AuditEntry.select().order_by(AuditEntry.id)] == [
        "sign_in", "operators.create", "tokens.create", "sign_in.failed", "sign_out",
    ]  # fmt: skip
    assert (verify_chain().rows, verify_chain().findings) == (5, [])
    assert all(entry.at <= now() for entry in AuditEntry.select())
