"""Users, tokens and the account page: access, credentials and revocation."""

import json
import re
import threading
from collections.abc import Callable
from html import unescape

import pytest
from browsers import PASSWORD, PEOPLE, Browser, create_app_with_people, sign_in_browser
from click.testing import Result
from flask import Flask

from admin.auth.identity import Actor, secret_digest
from admin.auth.passwords import PASSWORD_LENGTHS, checked_hash, common_passwords, verify_password
from admin.operations import account
from admin.operations.registry import execute
from admin.operations.tokens import create_token
from admin.problems import ConflictError, InvalidInput
from engine.database import release_connection
from engine.models import now
from models import AuditEntry, BrowserSession, Operator, Token

ANN = "ann@example.org"
STATS = "/api/v1/admin/reading-sessions/cleanup-stats"


@pytest.fixture
def admin(app: Flask) -> Browser:
    return sign_in_browser(app, "admin")


def shown_secret(html: str) -> str:
    match = re.search(r'<pre[^>]*id="secret"[^>]*>([^<]+)</pre>', html)
    assert match, html
    return unescape(match[1])


def operator_id(email: str) -> int:
    return int(Operator.get(Operator.email == email).id)


def audit_rows(*actions: str) -> list[AuditEntry]:
    return list(AuditEntry.select().where(AuditEntry.action.in_(actions)).order_by(AuditEntry.id))


# --- operators -----------------------------------------------------------------------------------------------


def test_new_operator_signs_in_with_the_password_shown_once(app: Flask, admin: Browser) -> None:
    answer = admin.send("/operators", email=ANN.upper(), role="operator")
    password = shown_secret(answer.text)
    assert answer.headers["Cache-Control"] == "no-store"
    assert password not in admin.get("/operators").text
    assert app.test_client().sign_in(ANN, password).status_code == 303
    assert ANN in admin.get("/operators").text
    assert not any(password in str(entry.__data__) for entry in AuditEntry.select())


def test_chosen_password_is_not_shown(app: Flask, admin: Browser) -> None:
    answer = admin.send("/operators", email=ANN, role="viewer", password="a long enough one")
    assert answer.status_code == 303
    assert app.test_client().sign_in(ANN, "a long enough one").status_code == 303


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"email": "no address", "role": "viewer"}, 422),
        ({"email": ANN, "role": "root"}, 422),
        ({"email": ANN, "role": "viewer", "password": "short"}, 422),
        ({"email": ANN, "role": "viewer", "password": "QWERTY123456"}, 422),
        ({"email": PEOPLE["viewer"], "role": "viewer"}, 409),
    ],
)
def test_invalid_operator_is_rejected_in_the_form(admin: Browser, fields: dict[str, str], status: int) -> None:
    answer = admin.send("/operators", **fields)
    assert answer.status_code == status
    assert 'id="wrong"' in answer.text and f'value="{fields["email"]}"' in answer.text
    assert Operator.select().count() == len(PEOPLE)


def test_role_change_takes_effect_at_once_and_is_audited(app: Flask, admin: Browser) -> None:
    viewer = sign_in_browser(app, "viewer")
    assert viewer.get("/bulk/new?verb=retry&q=state:failed").status_code == 403
    admin.send(f"/operators/{operator_id(PEOPLE['viewer'])}/role", role="operator")
    assert viewer.get("/bulk/new?verb=retry&q=state:failed").status_code == 200
    (line,) = audit_rows("operators.role")
    assert (line.target, line.before, line.after) == (PEOPLE["viewer"], {"role": "viewer"}, {"role": "operator"})


def test_disabled_operator_is_signed_out_at_once_and_cannot_return(app: Flask, admin: Browser) -> None:
    viewer, number = sign_in_browser(app, "viewer"), operator_id(PEOPLE["viewer"])
    assert "Disable viewer@example.org?" in admin.get(f"/operators/{number}/disable").text
    assert viewer.get("/").status_code == 200
    admin.send(f"/operators/{number}/disable")
    assert viewer.get("/").location == "/login"
    assert viewer.get("/", headers={"X-Refresh": "1"}).status_code == 302
    assert app.test_client().sign_in(PEOPLE["viewer"]).status_code == 401
    admin.send(f"/operators/{number}/enable")
    assert viewer.get("/").status_code == 302  # the old session stays ended
    assert app.test_client().sign_in(PEOPLE["viewer"]).status_code == 303
    assert audit_rows("operators.disable")[0].after == {"disabled": True, "sessions_ended": 1}


def test_new_password_ends_every_session_and_replaces_the_old_one(app: Flask, admin: Browser) -> None:
    viewers = [sign_in_browser(app, "viewer") for _ in range(2)]
    password = shown_secret(admin.send(f"/operators/{operator_id(PEOPLE['viewer'])}/password").text)
    assert [browser.get("/").status_code for browser in viewers] == [302, 302]
    assert app.test_client().sign_in(PEOPLE["viewer"]).status_code == 401
    assert app.test_client().sign_in(PEOPLE["viewer"], password).status_code == 303
    assert admin.send(f"/operators/{operator_id(PEOPLE['viewer'])}/password", password="short").status_code == 422


def test_last_admin_cannot_be_disabled_or_demoted(admin: Browser) -> None:
    number = operator_id(PEOPLE["admin"])
    for url, fields in ((f"/operators/{number}/disable", {}), (f"/operators/{number}/role", {"role": "operator"})):
        answer = admin.send(url, **fields)
        assert "is the last admin" in admin.get(answer.location).text
    assert Operator.get_by_id(number).role == "admin"
    admin.send("/operators", email=ANN, role="admin")
    admin.send(f"/operators/{number}/role", role="operator")
    assert Operator.get_by_id(number).role == "operator"


def test_two_admins_cannot_demote_each_other_at_once(each_database: str) -> None:
    emails = ["one@example.org", "two@example.org"]
    for email in emails:
        Operator.create(email=email, role="admin", password_hash="x")
    actor, start, refused = Actor("cli", "root", "admin", "cli"), threading.Barrier(2), []

    def demote(email: str) -> None:
        start.wait()
        try:
            execute(actor, "operators.role", email=email, role="viewer")
        except ConflictError as error:
            refused.append(error)
        release_connection()

    for _ in range(5):
        Operator.update(role="admin").execute()
        threads = [threading.Thread(target=demote, args=[email]) for email in emails]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Operator.select().where(Operator.role == "admin").count() == 1
    assert len(refused) == 5


def test_viewer_sees_operators_and_changes_none(app: Flask) -> None:
    viewer = sign_in_browser(app, "viewer")
    html = viewer.get("/operators").text
    assert all(email in html for email in PEOPLE.values())
    assert 'name="email"' not in html
    assert "/role" not in viewer.get(f"/operators/{operator_id(PEOPLE['admin'])}").text


def test_operators_are_paged(admin: Browser) -> None:
    for number in range(70):
        Operator.create(email=f"{number:02}@example.org", role="viewer", password_hash="x")
    url, matches = "/operators", []
    while url:
        html = admin.get(url).text
        matches += re.findall(r'id="operator-(\d+)"', html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = unescape(older[1]) if older else ""
    assert sorted(map(int, matches)) == sorted(operator.id for operator in Operator.select())


def test_operator_list_shows_who_is_signed_in(any_db_operator: Browser) -> None:
    html = any_db_operator.get("/operators").text
    row = html.partition(f'id="operator-{operator_id(PEOPLE["operator"])}"')[2].partition("</tr>")[0]
    assert "1 browser" in row and "you" in row
    assert "browser" not in html.partition(f'id="operator-{operator_id(PEOPLE["admin"])}"')[2].partition("</tr>")[0]


# --- passwords -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["qwerty123456", "Leavemealone", "1Q2W3E4R5T6Y"])
def test_common_password_is_rejected(password: str) -> None:
    with pytest.raises(InvalidInput, match="must not be a common password"):
        checked_hash(password)


def test_email_is_rejected_as_a_password_and_other_text_accepted() -> None:
    with pytest.raises(InvalidInput):
        checked_hash("Ann@example.org", ANN)
    for password in ("x" * 128, "пароль из слов", "    spaces    ", '"><script>12'):
        assert verify_password(password, checked_hash(password)) and checked_hash(password).startswith("$argon2id$")
    assert min(map(len, common_passwords())) in PASSWORD_LENGTHS


# --- tokens --------------------------------------------------------------------------------------------------


def test_token_is_created_shown_once_used_and_revoked(app: Flask, admin: Browser) -> None:
    token = shown_secret(admin.send("/tokens", name="the script", role="viewer", days="30").text)
    assert token.startswith("dewey_") and token not in admin.get("/tokens").text
    assert not any(token in str(entry.__data__) for entry in AuditEntry.select())
    headers = {"Authorization": f"Bearer {token}"}
    assert "never" in admin.get("/tokens").text
    assert app.test_client().get(STATS, headers=headers).status_code == 200
    assert "never" not in admin.get("/tokens").text
    number = Token.get().id
    assert "Revoke the script?" in admin.get(f"/tokens/{number}/revoke").text
    admin.send(f"/tokens/{number}/revoke")
    assert app.test_client().get(STATS, headers=headers).status_code == 401
    assert "revoked" in admin.get("/tokens").text
    assert "is already revoked" in admin.get(admin.send(f"/tokens/{number}/revoke").location).text
    assert [line.target for line in audit_rows("tokens.create", "tokens.revoke")] == ["the script"] * 2


def test_token_expires(app: Flask, admin: Browser) -> None:
    token = shown_secret(admin.send("/tokens", name="short", role="viewer", days="30").text)
    Token.update(expires_at=now()).execute()
    assert app.test_client().get(STATS, headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert "expired" in admin.get("/tokens").text


@pytest.mark.parametrize(("name", "days"), [("", "30"), ("x", "soon"), ("taken", "30")])
def test_invalid_token_is_rejected_in_the_form(admin: Browser, name: str, days: str) -> None:
    create_token("taken", "viewer")
    answer = admin.send("/tokens", name=name, role="viewer", days=days)
    assert answer.status_code in (409, 422)
    assert 'id="wrong"' in answer.text
    assert Token.select().count() == 1


# --- the account page ----------------------------------------------------------------------------------------


def test_own_password_change_needs_the_old_one_and_ends_other_sessions(app: Flask) -> None:
    browser, other_browser = (sign_in_browser(app, "viewer") for _ in range(2))
    new = "another good one"
    wrong = browser.send("/me/password", old="not the old one", new=new, again=new)
    assert wrong.status_code == 422 and "must be your current password" in wrong.text
    differ = browser.send("/me/password", old=PASSWORD, new=new, again=new + "!")
    assert differ.status_code == 422 and other_browser.get("/me").status_code == 200
    assert browser.send("/me/password", old=PASSWORD, new=new, again=new).location == "/me"
    assert (browser.get("/me").status_code, other_browser.get("/me").status_code) == (200, 302)
    assert app.test_client().sign_in(PEOPLE["viewer"]).status_code == 401
    assert app.test_client().sign_in(PEOPLE["viewer"], new).status_code == 303
    (line,) = audit_rows("me.password")
    assert (line.actor, line.target, line.after) == (PEOPLE["viewer"],) * 2 + ({"sessions_ended": 1},)


def test_guesses_of_the_old_password_are_throttled(app: Flask) -> None:
    browser = sign_in_browser(app, "viewer")
    fields = {"old": "a guess", "new": "x" * 12, "again": "x" * 12}
    assert {browser.send("/me/password", **fields).status_code for _ in range(10)} == {422}
    assert browser.send("/me/password", **fields).status_code == 429


def test_own_sessions_are_listed_and_ended(app: Flask) -> None:
    browser, *other_browsers = (sign_in_browser(app, "viewer") for _ in range(4))
    stranger = sign_in_browser(app, "admin")
    html = browser.get("/me").text
    assert len(re.findall(r'id="session-[0-9a-f]{16}"', html)) == 4 and html.count("this session") == 1
    ends = re.findall(r'action="(/me/sessions/[0-9a-f]{16}/end)"', html)
    assert len(ends) == 3
    browser.send(ends[0])
    assert sorted(other.get("/").status_code for other in other_browsers) == [200, 200, 302]
    browser.send("/me/sessions/end-others")
    assert [other.get("/").status_code for other in other_browsers] == [302] * 3
    assert (browser.get("/").status_code, stranger.get("/").status_code) == (200, 200)
    assert [line.action for line in audit_rows("me.end_session", "me.end_other_sessions")] == [
        "me.end_session",
        "me.end_other_sessions",
    ]


def test_foreign_session_cannot_be_ended_as_own(app: Flask) -> None:
    viewer, admin_browser = sign_in_browser(app, "viewer"), sign_in_browser(app, "admin")
    name = BrowserSession.get(BrowserSession.operator == operator_id(PEOPLE["admin"])).digest[: account.SIGN_IN_NAME]
    for session in (name, "%" * account.SIGN_IN_NAME, "0"):
        viewer.send(f"/me/sessions/{session.replace('%', '%25')}/end")
    assert (viewer.get("/").status_code, admin_browser.get("/").status_code) == (200, 200)


def test_token_has_no_account_page_and_no_password(app: Flask) -> None:
    token = create_token("script", "admin")
    headers = {"Authorization": f"Bearer {token}"}
    assert app.test_client().get("/me", headers=headers).status_code == 404
    actor = Actor("token", "script", "admin", "api")
    for action, arguments in (("me.password", {"old": "x", "new": "x" * 12}), ("me.end_other_sessions", {})):
        with pytest.raises(ConflictError):
            execute(actor, action, **arguments)


def test_language_theme_and_time_zone_are_chosen_on_the_account_page(app: Flask) -> None:
    browser = sign_in_browser(app, "viewer")
    browser.set_cookie("zone", "Europe/Berlin")
    assert "as the browser: Europe/Berlin" in browser.get("/me").text
    answer = browser.send("/preferences", language="ru", theme="dark", timezone="Asia/Tokyo", back="/me")
    assert answer.location == "/me"
    html = browser.get("/me").text
    assert '<html lang="ru" data-theme="dark" data-zone="Europe/Berlin">' in html
    assert 'value="Asia/Tokyo"' in html and "JST" in html
    browser.send("/preferences", timezone="", back="/me")
    assert "JST" not in browser.get("/me").text
    assert browser.send("/preferences", timezone="Mars/Base", back="/me").status_code == 422


def test_account_page_contains_no_session_secret(app: Flask) -> None:
    browser = sign_in_browser(app, "viewer")
    html = browser.get("/me").text
    assert BrowserSession.get().digest not in html and BrowserSession.get().digest[: account.SIGN_IN_NAME] in html
    assert secret_digest("x") != "x"


# --- the terminal --------------------------------------------------------------------------------------------


@pytest.fixture
def flask(each_database: str) -> Callable[..., Result]:
    app = create_app_with_people()
    return lambda *words, **options: app.test_cli_runner().invoke(args=list(words), **options)


def test_operator_commands_create_change_disable_and_list(flask: Callable[..., Result]) -> None:
    assert flask("operator", "create", ANN, "--role", "viewer").exit_code == 0
    assert flask("operator", "role", ANN, "admin").exit_code == 0
    assert flask("operator", "disable", ANN).exit_code == 0
    assert flask("operator", "disable", ANN).exit_code == 1
    operators = {row["email"]: row for row in json.loads(flask("operator", "list", "--json").output)}
    assert (operators[ANN]["role"], bool(operators[ANN]["disabled_at"])) == ("admin", True)
    assert "password_hash" not in operators[ANN]
    assert ANN in flask("operator", "list").output
    assert flask("operator", "enable", ANN).exit_code == 0
    made = flask("operator", "password", ANN).output.splitlines()[-1]
    assert verify_password(made, Operator.get(Operator.email == ANN).password_hash)
    assert flask("operator", "password", ANN, "--password-stdin", input="typed by a person\n").exit_code == 0
    assert verify_password("typed by a person", Operator.get(Operator.email == ANN).password_hash)
    assert flask("operator", "role", "unknown@example.org", "viewer").exit_code == 1
    assert flask("operator", "role", ANN, "root").exit_code == 2


def test_token_commands_create_list_and_revoke(flask: Callable[..., Result]) -> None:
    assert flask("token", "create", "script", "--role", "viewer", "--days", "3").exit_code == 0
    (row,) = json.loads(flask("token", "list", "--json").output)
    assert (row["name"], row["state"], "digest" in row) == ("script", "live", False)
    assert "script" in flask("token", "list").output
    assert flask("token", "revoke", "script").exit_code == 0
    assert flask("token", "revoke", "script").exit_code == 1
    assert json.loads(flask("token", "list", "--json").output)[0]["state"] == "revoked"
