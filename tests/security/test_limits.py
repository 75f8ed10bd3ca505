"""Limits of requests, wrong passwords, texts, exports and audit entries."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import pytest
from browsers import PASSWORD, Browser, bearer_headers, create_app_with_people
from factories import create_run
from flask import Flask
from limits.strategies import MovingWindowRateLimiter

from admin import audit_log
from admin.api.routes import action_rule
from admin.auth import passwords, rate_limits, refusals
from admin.auth.identity import Actor
from admin.auth.limit_storage import open_storage
from admin.display.capped_pages import CappedPages
from admin.operations.arguments import MAX_TEXT, Secret
from admin.operations.registry import ACTIONS
from admin.search.run_query import MAX_VALUES
from engine.models import State
from models import AuditEntry

RUNS = "/api/v1/admin/runs"

#: Types of a text in an action.
TEXTS = (str, str | None, Secret, Secret | None)


@pytest.fixture(params=["memory", "redis"])
def counted_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Count in the memory of this process and in Redis in turn."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    monkeypatch.setattr(rate_limits, "limiter", MovingWindowRateLimiter(open_storage(url)))
    return str(request.param)


@pytest.fixture
def five_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "settings", replace(rate_limits.settings, api_rate="5 per minute"))


# --- requests ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("five_a_minute", "counted_in")
def test_api_rate_is_one_limit_for_each_token_and_each_person(
    browser: Browser, sign_in_as: Callable[[str], Browser]
) -> None:
    viewer, operator = bearer_headers("viewer"), bearer_headers("operator")
    for path in (RUNS, "/api/tasks", "/runs", "/runs.csv", "/operators"):
        assert browser.get(path, headers=viewer).status_code in (200, 403)
    answer = browser.get(RUNS, headers=viewer)
    assert (answer.status_code, answer.content_type) == (429, "application/problem+json")
    assert answer.json["status"] == 429
    assert 50 < int(answer.headers["Retry-After"]) <= 61
    assert browser.post("/api/v1/admin/queues/light/pause", headers=viewer).status_code == 429
    assert browser.get(RUNS, headers=operator).status_code == 200
    person = sign_in_as("viewer")
    assert [person.get("/runs").status_code for _ in range(6)] == [200] * 5 + [429]
    assert [browser.get(path).status_code for path in ["/login", "/healthz"] * 4] == [200] * 8


@pytest.mark.usefixtures("five_a_minute")
def test_refreshes_of_a_page_do_not_count_but_those_of_a_program_do(
    browser: Browser, sign_in_as: Callable[[str], Browser]
) -> None:
    refresh = {"X-Refresh": "1"}
    person = sign_in_as("viewer")
    assert {person.get("/queues", headers=refresh).status_code for _ in range(9)} == {200}
    assert person.get("/queues").status_code == 200
    assert [person.get(RUNS, headers=refresh).status_code for _ in range(5)] == [200] * 4 + [429]
    program = bearer_headers("viewer") | refresh
    assert [browser.get("/queues", headers=program).status_code for _ in range(6)] == [200] * 5 + [429]


# --- wrong passwords -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("counted_in")
@pytest.mark.parametrize(("accounts", "tried"), [(1, 10), (60, 20)])
def test_passwords_sent_at_once_are_limited_like_those_sent_in_turn(app: Flask, accounts: int, tried: int) -> None:
    browsers = [app.test_client() for _ in range(60)]
    forms = [
        {"csrf_token": browser.form_token, "email": f"person{number % accounts}@example.org", "password": "wrong"}
        for number, browser in enumerate(browsers)
    ]
    with passwords.hashing_slots, passwords.hashing_slots, ThreadPoolExecutor(60) as pool:
        answers = [
            pool.submit(browser.post, "/login", data=form) for browser, form in zip(browsers, forms, strict=True)
        ]
        deadline = time.monotonic() + 30
        while sum(answer.done() for answer in answers) < 60 - tried and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(2):
            passwords.hashing_slots.release()
        statuses = [answer.result().status_code for answer in answers]
        for _ in range(2):
            passwords.hashing_slots.acquire()
    assert (statuses.count(401), statuses.count(429)) == (tried, 60 - tried)
    assert not rate_limits.checking


def test_the_api_limits_guesses_at_ones_own_password(sign_in_as: Callable[[str], Browser]) -> None:
    browser = sign_in_as("viewer")
    token = {"X-CSRFToken": browser.form_token}
    guess = {"old": "wrong password", "new": "another good password 1"}
    statuses = [browser.post("/api/v1/admin/me/password", json=guess, headers=token).status_code for _ in range(11)]
    assert statuses == [422] * 10 + [429]
    assert (
        browser.send("/me/password", old=PASSWORD, new="new secret words 1", again="new secret words 1").status_code
        == 429
    )


# --- refused calls -------------------------------------------------------------------------------------------


def denied_entries() -> list[tuple[str, str, int | None]]:
    entries = AuditEntry.select().where(AuditEntry.action == "denied").order_by(AuditEntry.id)
    return [(entry.actor, entry.target, entry.after.get("times")) for entry in entries]


def test_refused_calls_of_a_minute_are_one_entry_and_a_count(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer, other = bearer_headers("viewer"), bearer_headers("operator")
    for number in range(200):
        assert browser.post(f"/api/v1/admin/runs/id-{number}/cancel", headers=viewer).status_code == 403
    for _ in range(2):
        assert browser.post("/api/v1/admin/queues/light/purge", headers=viewer).status_code == 403
    assert browser.post("/api/v1/admin/queues/light/purge", headers=other).status_code == 403
    first = [
        ("a viewer program", "POST /api/v1/admin/runs/id-0/cancel", None),
        ("a viewer program", "POST /api/v1/admin/queues/light/purge", None),
        ("a operator program", "POST /api/v1/admin/queues/light/purge", None),
    ]
    assert denied_entries() == first
    refusals.write_counts()
    assert denied_entries() == first
    for repeats in refusals.windows.values():
        repeats.ends_at -= refusals.WINDOW_SECONDS
    refusals.write_counts()
    counts = [
        ("a viewer program", "POST /api/v1/admin/runs/<run_id>/cancel", 199),
        ("a viewer program", "POST /api/v1/admin/queues/<queue>/purge", 1),
    ]
    assert denied_entries() == first + counts
    assert browser.post("/api/v1/admin/runs/id-0/cancel", headers=viewer).status_code == 403
    assert denied_entries() == first + counts + first[:1]
    assert audit_log.verify_chain().findings == []


def test_counts_are_written_when_the_server_ends(browser: Browser) -> None:
    viewer = bearer_headers("viewer")
    for _ in range(3):
        browser.post("/api/v1/admin/queues/light/pause", headers=viewer)
    refusals.write_counts(of_all=True)
    assert denied_entries()[-1][2] == 2
    refusals.write_counts(of_all=True)
    assert len(denied_entries()) == 2


# --- texts, searches, exports --------------------------------------------------------------------------------


def test_every_text_has_a_limit_and_the_answer_names_its_field(sign_in_as: Callable[[str], Browser]) -> None:
    browser = sign_in_as("admin")
    token = {"X-CSRFToken": browser.form_token}
    tried = 0
    for action in ACTIONS.values():
        given = [parameter for parameter in action.parameters if parameter != action.subject]
        needed = {parameter.name: "viewer" for parameter in given if parameter.default is parameter.empty}
        for field in [parameter.name for parameter in given if parameter.annotation in TEXTS]:
            body = needed | {field: "x" * (MAX_TEXT + 1)}
            answer = browser.post(re.sub(r"<.+>", "light", action_rule(action)), json=body, headers=token)
            assert (answer.status_code, answer.json.get("field")) == (422, field), (action.name, answer.text)
            tried += 1
    assert tried >= 20
    assert {entry.action for entry in AuditEntry.select()} == {"sign_in"}


def test_a_reason_of_500_characters_is_taken_and_a_longer_one_is_wrong_usage(
    operator: Browser, flask: Callable[..., str]
) -> None:
    reason = "я" * MAX_TEXT
    flask("pause", "light", "--reason", reason)
    assert reason in operator.get("/queues").text
    assert f"at most {MAX_TEXT} characters" in flask("pause", "light", "--reason", f"{reason}я", code=2)
    for path in ("/queues/light/pause", "/tasks/close_abandoned_sessions/pause"):
        assert operator.send(path, reason=f"{reason}я").status_code == 422


def test_an_entry_of_the_audit_log_is_bounded(browser: Browser) -> None:
    long = {"fingerprint": "x", "runs": [f"{number:036}" for number in range(10_000)]}
    audit_log.write_entry(Actor("token", "a program", "operator", "api"), "bulk.retry", after=long)
    entry = AuditEntry.get()
    assert len(entry.after["shortened"]) == audit_log.MAX_FACTS
    assert entry.after["shortened"].startswith('{"fingerprint": "x", "runs": ["0000')
    assert audit_log.verify_chain().findings == []


#: Cursors that are no position in a list.
NOWHERE = [
    "9999-12-31T23:59:59-23:59_x",
    "0001-01-01T00:00:00+14:00_1",
    "2026-01-01T00:00:00+00:00_x",
    "2026-01-01T00:00:00+00:00_-1",
    "2026-01-01T00:00:00+00:00_99999999999999999999",
    "nan_x",
    "inf_x",
    "1e300_x",
    "-1_x",
    "_",
    "x",
]


@pytest.mark.usefixtures("each_database")
def test_cursor_that_is_no_position_is_rejected_in_every_list() -> None:
    client, headers = create_app_with_people().test_client(), bearer_headers("viewer")
    lists = ["runs", "audit", "sessions", "errors", "dead", "bulk"]
    text_keys = ("runs", "dead", "errors")  # any text is an id there
    for name, cursor in product(lists, NOWHERE):
        if name in text_keys and cursor.startswith("2026"):
            continue
        answer = client.get(f"/api/v1/admin/{name}", query_string={"before": cursor}, headers=headers)
        assert (answer.status_code, answer.json.get("field")) == (422, "before"), (name, cursor, answer.text)
    for page in ("/runs", "/audit", "/sessions", "/errors"):
        answer = client.get(page, query_string={"before": NOWHERE[0]}, headers=headers)
        assert answer.status_code == 422, (page, answer.status_code)


def test_number_that_no_row_can_have_is_not_found(sign_in_as: Callable[[str], Browser]) -> None:
    admin = sign_in_as("admin")
    for number in ("9" * 9, "9" * 18, "9" * 19, "9" * 5000):
        for address in ("/bulk/{}", "/operators/{}", "/audit/{}"):
            assert admin.get(address.format(number)).status_code == 404, (address, number)
        status = admin.get(f"/api/v1/admin/bulk/{number}").status_code
        assert status == (404 if len(number) == 9 else 422)


LARGEST = [
    " ".join(["ж"] * MAX_VALUES),
    " ".join(["-a*"] * MAX_VALUES),
    "error:" + ",".join(["ж"] * MAX_VALUES),
    "args.x:" + ",".join(["*ж"] * MAX_VALUES),
    "-task:" + ",".join(["*ж"] * MAX_VALUES),
    f"task:{','.join(f't{number}' for number in range(38))} state:{','.join(State)} queue:light,heavy,normal",
]
TOO_LARGE = ["-" * 499, "a* " * 160, "ж " * 249, "error:" + ",".join(["ж"] * 240), "a " * (MAX_VALUES + 1)]


@pytest.mark.usefixtures("each_database")
def test_search_is_answered_up_to_its_limit_and_rejected_beyond() -> None:
    client, headers = create_app_with_people().test_client(), bearer_headers("operator")
    for search, status in [(search, 200) for search in LARGEST] + [(search, 422) for search in TOO_LARGE]:
        for path in (RUNS, f"{RUNS}/counts", "/runs.csv"):
            answer = client.get(path, query_string={"q": search}, headers=headers)
            assert answer.status_code == status, (path, search, answer.text)
            assert status == 200 or answer.json["field"] == "q"
        assert client.get("/runs", query_string={"q": search}, headers=headers).status_code in (200, status)
        for query in ({"search": search}, {"search": f"state:failed {search}"[:500]}):
            answer = client.get("/api/v1/admin/bulk/preflight", query_string=query, headers=headers)
            assert answer.status_code in (200, 422), answer.text


def test_export_ends_at_its_limit_and_says_so(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        create_run(f"run-{number}")
    assert list(operator.get("/runs.json").json) == ["runs"]
    assert len(operator.get("/runs.csv").text.splitlines()) == 6
    monkeypatch.setattr(CappedPages.__init__, "__defaults__", (3,))
    exported = operator.get("/runs.json").json
    assert (len(exported["runs"]), exported["complete"]) == (3, False)
    lines = operator.get("/runs.csv").text.splitlines()
    assert len(lines) == 5 and "limit of 3 rows" in lines[-1]
    for _ in range(4):
        audit_log.write_entry(Actor("token", "a program", "viewer", "api"), "sign_out")
    assert "limit of 3 rows" in operator.get("/audit.csv").text.splitlines()[-1]
