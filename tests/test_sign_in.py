"""Signing in and out, session lifetime, and protection against guessing."""

import time
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import pytest
from browsers import PASSWORD, PEOPLE, Browser
from flask import Flask

from admin.auth.access import requires_role
from admin.auth.identity import IDLE_LIMIT, LAST_USED_PRECISION, SESSION_LIMIT
from admin.auth.passwords import verify_password
from engine.models import now
from models import AuditEntry, BrowserSession, Operator

# --- signing in and out --------------------------------------------------------------------------------------


def test_sign_in_redirects_to_the_requested_page(browser: Browser) -> None:
    to_sign_in = browser.get("/sessions?state=abandoned&page=2").location
    assert to_sign_in == "/login?next=/sessions?state%3Dabandoned%26page%3D2"
    assert browser.sign_in(PEOPLE["viewer"], url=to_sign_in).location == "/sessions?state=abandoned&page=2"


def test_email_is_case_insensitive(browser: Browser) -> None:
    assert browser.sign_in(" Viewer@Example.ORG ").status_code == 303


@pytest.mark.parametrize(
    ("email", "password"),
    [
        (PEOPLE["admin"], "wrong password 1"),
        ("unknown@example.org", PASSWORD),
        (PEOPLE["admin"], ""),
        ("", ""),
        ("\x00@example.org", PASSWORD),
        (PEOPLE["admin"], "x" * 5000),
        (PEOPLE["admin"], PASSWORD.upper()),
    ],
)
def test_wrong_email_and_wrong_password_get_the_same_response(browser: Browser, email: str, password: str) -> None:
    answer = browser.sign_in(email, password)
    assert answer.status_code == 401
    assert "Incorrect e-mail address or password" in answer.text
    assert BrowserSession.select().count() == 0
    assert browser.get("/").status_code == 302


@pytest.mark.alone
def test_unknown_email_takes_as_long_as_a_known_one(app: Flask) -> None:
    stored = Operator.get(Operator.role == "admin").password_hash
    verify_password("warm up", None)
    known_seconds, unknown = (min(measure_mismatch(hash_) for _ in range(3)) for hash_ in (stored, None))
    assert 0.5 < known_seconds / unknown < 2


def measure_mismatch(stored: str | None) -> float:
    started = time.process_time()
    assert not verify_password("wrong password 1", stored)
    return time.process_time() - started


def test_copied_cookie_is_invalid_after_sign_out(app: Flask, sign_in_as: Callable[[str], Browser]) -> None:
    browser, thief = sign_in_as("admin"), app.test_client()
    thief.set_cookie("dewey", browser.get_cookie("dewey").value)
    assert thief.get("/api/v1/admin/reading-sessions/cleanup-stats").status_code == 200
    assert browser.send("/logout").location == "/login"
    assert thief.get("/api/v1/admin/reading-sessions/cleanup-stats").status_code == 401
    assert browser.get("/").location == "/login"


def test_second_sign_in_replaces_the_session(app: Flask, sign_in_as: Callable[[str], Browser]) -> None:
    browser, thief = sign_in_as("admin"), app.test_client()
    before = browser.get_cookie("dewey").value
    thief.set_cookie("dewey", before)
    browser.sign_in(PEOPLE["admin"])
    assert browser.get_cookie("dewey").value != before
    assert browser.get("/api/v1/admin/reading-sessions/cleanup-stats").status_code == 200
    assert thief.get("/api/v1/admin/reading-sessions/cleanup-stats").status_code == 401


def test_session_fixation_fails(app: Flask, browser: Browser) -> None:
    browser.get("/login")
    planted = browser.get_cookie("dewey").value
    browser.sign_in(PEOPLE["admin"])
    thief = app.test_client()
    thief.set_cookie("dewey", planted)
    assert thief.get("/api/v1/admin/reading-sessions/cleanup-stats").status_code == 401


def test_csrf_token_from_before_the_sign_in_is_rejected(browser: Browser) -> None:
    before = browser.form_token
    browser.sign_in(PEOPLE["admin"])
    assert browser.post("/logout", data={"csrf_token": before}).status_code == 400


def test_disabled_operator_is_signed_out_at_once_and_cannot_return(sign_in_as: Callable[[str], Browser]) -> None:
    browser = sign_in_as("admin")
    Operator.update(disabled_at=now()).where(Operator.email == PEOPLE["admin"]).execute()
    assert browser.get("/").location == "/login"
    assert browser.sign_in(PEOPLE["admin"]).status_code == 401


@pytest.mark.adds_views
def test_role_change_takes_effect_at_once(app: Flask, sign_in_as: Callable[[str], Browser]) -> None:
    app.add_url_rule("/danger", "danger", requires_role("admin")(lambda: "done"))
    browser = sign_in_as("admin")
    Operator.update(role="viewer").where(Operator.email == PEOPLE["admin"]).execute()
    assert browser.get("/danger").status_code == 403


@pytest.mark.parametrize(("column", "age"), [("seen_at", IDLE_LIMIT), ("created_at", SESSION_LIMIT)])
def test_session_expires(sign_in_as: Callable[[str], Browser], column: str, age: timedelta) -> None:
    browser = sign_in_as("viewer")
    BrowserSession.update({column: now() - age + timedelta(minutes=1)}).execute()
    assert browser.get("/no-such-page").status_code == 404
    assert 'action="/logout"' in browser.get("/no-such-page").text
    BrowserSession.update({column: now() - age}).execute()
    assert 'action="/logout"' not in browser.get("/no-such-page").text


def test_only_user_navigation_keeps_a_session_alive(sign_in_as: Callable[[str], Browser]) -> None:
    browser, earlier = sign_in_as("viewer"), now() - 2 * LAST_USED_PRECISION
    BrowserSession.update(seen_at=earlier).execute()
    browser.get("/no-such-page", headers={"Sec-Fetch-Mode": "cors"})
    assert BrowserSession.get().seen_at == earlier
    browser.get("/no-such-page", headers={"Sec-Fetch-Mode": "navigate"})
    assert BrowserSession.get().seen_at > earlier


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "/\t/evil.example/",
        "/\r\n/evil.example/",
        "\t//evil.example/",
        " //evil.example/",
        "javascript:alert(1)",
        "evil.example",
        "http:evil.example",
        "",
        "/ok/../\\evil",
    ],
)
def test_next_url_of_another_site_is_ignored(browser: Browser, path: str) -> None:
    assert browser.sign_in(PEOPLE["viewer"], url=f"/login?next={quote(path)}").location == "/"


# --- guessing ------------------------------------------------------------------------------------------------


def test_guesses_at_one_account_are_throttled_from_any_address(browser: Browser) -> None:
    for number in range(10):
        browser.environ_base["REMOTE_ADDR"] = f"203.0.113.{number}"
        assert browser.sign_in(PEOPLE["admin"], f"wrong password {number}").status_code == 401
    answer = browser.sign_in(PEOPLE["admin"].upper())
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 301
    assert browser.sign_in(PEOPLE["viewer"]).status_code == 303


def test_guesses_from_one_address_are_throttled_for_any_account(browser: Browser) -> None:
    for number in range(20):
        assert browser.sign_in(f"unknown{number}@example.org", "wrong").status_code == 401
    assert browser.sign_in(PEOPLE["viewer"]).status_code == 429
    browser.environ_base["REMOTE_ADDR"] = "203.0.113.7"
    assert browser.sign_in(PEOPLE["viewer"]).status_code == 303


def test_successful_sign_in_is_never_throttled(browser: Browser) -> None:
    assert {browser.sign_in(PEOPLE["viewer"]).status_code for _ in range(25)} == {303}


# --- audit ---------------------------------------------------------------------------------------------------


def test_sign_in_sign_out_and_failure_are_audited(browser: Browser) -> None:
    browser.sign_in(PEOPLE["viewer"], "wrong password 1")
    browser.sign_in("my secret passphrase", "")
    browser.sign_in(PEOPLE["viewer"])
    browser.send("/logout")
    lines = [(entry.actor, entry.action, entry.address) for entry in AuditEntry.select().order_by(AuditEntry.id)]
    assert lines == [
        (PEOPLE["viewer"], "sign_in.failed", "127.0.0.1"),
        ("(not an address)", "sign_in.failed", "127.0.0.1"),
        (PEOPLE["viewer"], "sign_in", "127.0.0.1"),
        (PEOPLE["viewer"], "sign_out", "127.0.0.1"),
    ]
