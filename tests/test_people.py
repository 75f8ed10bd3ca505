"""Operators, tokens, and one's own page: who gets in, with what, and how they are kept out again."""

import json
import re
import threading
from collections.abc import Callable
from html import unescape

import pytest
from browsers import PASSWORD, PEOPLE, Browser, app_with_people, signed_in_browser
from click.testing import Result
from flask import Flask

from admin.auth.identity import Who, digest_of
from admin.auth.passwords import LENGTHS, common, hashed, matches
from admin.operations import account
from admin.operations.registry import perform
from admin.operations.tokens import create_token
from admin.problems import BadInput, Refused
from engine.database import release
from engine.models import now
from models import AuditEntry, Operator, SignIn, Token

ANN = "ann@example.org"
STATS = "/api/v1/admin/reading-sessions/cleanup-stats"


@pytest.fixture
def admin(app: Flask) -> Browser:
    return signed_in_browser(app, "admin")


def secret_in(html: str) -> str:
    found = re.search(r'<pre[^>]*id="secret"[^>]*>([^<]+)</pre>', html)
    assert found, html
    return unescape(found[1])


def id_of(email: str) -> int:
    return int(Operator.get(Operator.email == email).id)


def lines(*actions: str) -> list[AuditEntry]:
    return list(AuditEntry.select().where(AuditEntry.action.in_(actions)).order_by(AuditEntry.id))


# --- operators -----------------------------------------------------------------------------------------------


def test_a_person_who_is_made_signs_in_with_the_password_that_is_shown_once(app: Flask, admin: Browser) -> None:
    answer = admin.send("/operators", email=ANN.upper(), role="operator")
    password = secret_in(answer.text)
    assert answer.headers["Cache-Control"] == "no-store"
    assert password not in admin.get("/operators").text
    assert app.test_client().sign_in(ANN, password).status_code == 303
    assert ANN in admin.get("/operators").text
    assert not any(password in str(one.__data__) for one in AuditEntry.select())


def test_a_password_may_be_chosen_for_them_and_is_not_shown(app: Flask, admin: Browser) -> None:
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
def test_what_cannot_be_is_told_in_the_form(admin: Browser, fields: dict[str, str], status: int) -> None:
    answer = admin.send("/operators", **fields)
    assert answer.status_code == status
    assert 'id="wrong"' in answer.text and f'value="{fields["email"]}"' in answer.text
    assert Operator.select().count() == len(PEOPLE)


def test_a_role_changes_at_once_and_both_are_on_record(app: Flask, admin: Browser) -> None:
    viewer = signed_in_browser(app, "viewer")
    assert viewer.get("/bulk/new?verb=retry&q=state:failed").status_code == 403
    admin.send(f"/operators/{id_of(PEOPLE['viewer'])}/role", role="operator")
    assert viewer.get("/bulk/new?verb=retry&q=state:failed").status_code == 200
    (line,) = lines("operators.role")
    assert (line.target, line.before, line.after) == (PEOPLE["viewer"], {"role": "viewer"}, {"role": "operator"})


def test_who_is_disabled_is_out_at_once_and_cannot_come_back(app: Flask, admin: Browser) -> None:
    viewer, number = signed_in_browser(app, "viewer"), id_of(PEOPLE["viewer"])
    assert "Disable viewer@example.org?" in admin.get(f"/operators/{number}/disable").text
    assert viewer.get("/").status_code == 200
    admin.send(f"/operators/{number}/disable")
    assert viewer.get("/").location == "/login"
    assert viewer.get("/", headers={"X-Refresh": "1"}).status_code == 302
    assert app.test_client().sign_in(PEOPLE["viewer"]).status_code == 401
    admin.send(f"/operators/{number}/enable")
    assert viewer.get("/").status_code == 302  # the old session stays ended
    assert app.test_client().sign_in(PEOPLE["viewer"]).status_code == 303
    assert lines("operators.disable")[0].after == {"disabled": True, "sessions_ended": 1}


def test_a_new_password_ends_every_session_and_the_old_one_opens_nothing(app: Flask, admin: Browser) -> None:
    viewers = [signed_in_browser(app, "viewer") for _ in range(2)]
    password = secret_in(admin.send(f"/operators/{id_of(PEOPLE['viewer'])}/password").text)
    assert [one.get("/").status_code for one in viewers] == [302, 302]
    assert app.test_client().sign_in(PEOPLE["viewer"]).status_code == 401
    assert app.test_client().sign_in(PEOPLE["viewer"], password).status_code == 303
    assert admin.send(f"/operators/{id_of(PEOPLE['viewer'])}/password", password="short").status_code == 422


def test_the_last_admin_can_be_neither_disabled_nor_demoted(admin: Browser) -> None:
    number = id_of(PEOPLE["admin"])
    for url, fields in ((f"/operators/{number}/disable", {}), (f"/operators/{number}/role", {"role": "operator"})):
        answer = admin.send(url, **fields)
        assert "is the last admin" in admin.get(answer.location).text
    assert Operator.get_by_id(number).role == "admin"
    admin.send("/operators", email=ANN, role="admin")
    admin.send(f"/operators/{number}/role", role="operator")
    assert Operator.get_by_id(number).role == "operator"


def test_two_admins_cannot_remove_each_other_at_once(each_database: str) -> None:
    emails = ["one@example.org", "two@example.org"]
    for email in emails:
        Operator.create(email=email, role="admin", password_hash="x")
    who, start, refused = Who("cli", "root", "admin", "cli"), threading.Barrier(2), []

    def demote(email: str) -> None:
        start.wait()
        try:
            perform(who, "operators.role", email=email, role="viewer")
        except Refused as error:
            refused.append(error)
        release()

    for _ in range(5):
        Operator.update(role="admin").execute()
        threads = [threading.Thread(target=demote, args=[email]) for email in emails]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Operator.select().where(Operator.role == "admin").count() == 1
    assert len(refused) == 5


def test_a_viewer_sees_who_there_is_and_changes_nothing(app: Flask) -> None:
    viewer = signed_in_browser(app, "viewer")
    html = viewer.get("/operators").text
    assert all(email in html for email in PEOPLE.values())
    assert 'name="email"' not in html
    assert "/role" not in viewer.get(f"/operators/{id_of(PEOPLE['admin'])}").text


def test_many_operators_are_paged(admin: Browser) -> None:
    for number in range(70):
        Operator.create(email=f"{number:02}@example.org", role="viewer", password_hash="x")
    url, found = "/operators", []
    while url:
        html = admin.get(url).text
        found += re.findall(r'id="operator-(\d+)"', html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = unescape(older[1]) if older else ""
    assert sorted(map(int, found)) == sorted(one.id for one in Operator.select())


def test_the_list_tells_who_is_signed_in(either: Browser) -> None:
    html = either.get("/operators").text
    row = html.partition(f'id="operator-{id_of(PEOPLE["operator"])}"')[2].partition("</tr>")[0]
    assert "1 browser" in row and "you" in row
    assert "browser" not in html.partition(f'id="operator-{id_of(PEOPLE["admin"])}"')[2].partition("</tr>")[0]


# --- passwords -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["qwerty123456", "Leavemealone", "1Q2W3E4R5T6Y"])
def test_what_everybody_tries_first_is_no_password(password: str) -> None:
    with pytest.raises(BadInput, match="tried first"):
        hashed(password)


def test_an_address_is_no_password_and_any_other_characters_are() -> None:
    with pytest.raises(BadInput):
        hashed("Ann@example.org", ANN)
    for password in ("x" * 128, "пароль из слов", "    spaces    ", '"><script>12'):
        assert matches(password, hashed(password)) and hashed(password).startswith("$argon2id$")
    assert min(map(len, common())) in LENGTHS


# --- tokens --------------------------------------------------------------------------------------------------


def test_a_token_is_made_shown_once_used_and_revoked(app: Flask, admin: Browser) -> None:
    token = secret_in(admin.send("/tokens", name="the script", role="viewer", days="30").text)
    assert token.startswith("dewey_") and token not in admin.get("/tokens").text
    assert not any(token in str(one.__data__) for one in AuditEntry.select())
    headers = {"Authorization": f"Bearer {token}"}
    assert "never" in admin.get("/tokens").text
    assert app.test_client().get(STATS, headers=headers).status_code == 200
    assert "never" not in admin.get("/tokens").text
    number = Token.get().id
    assert "Revoke the script?" in admin.get(f"/tokens/{number}/revoke").text
    admin.send(f"/tokens/{number}/revoke")
    assert app.test_client().get(STATS, headers=headers).status_code == 401
    assert "revoked" in admin.get("/tokens").text
    assert "revoked already" in admin.get(admin.send(f"/tokens/{number}/revoke").location).text
    assert [line.target for line in lines("tokens.create", "tokens.revoke")] == ["the script"] * 2


def test_a_token_ends_when_its_time_is_up(app: Flask, admin: Browser) -> None:
    token = secret_in(admin.send("/tokens", name="short", role="viewer", days="30").text)
    Token.update(expires_at=now()).execute()
    assert app.test_client().get(STATS, headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert "expired" in admin.get("/tokens").text


@pytest.mark.parametrize(("name", "days"), [("", "30"), ("x", "soon"), ("taken", "30")])
def test_a_token_that_cannot_be_is_told_in_the_form(admin: Browser, name: str, days: str) -> None:
    create_token("taken", "viewer")
    answer = admin.send("/tokens", name=name, role="viewer", days=days)
    assert answer.status_code in (409, 422)
    assert 'id="wrong"' in answer.text
    assert Token.select().count() == 1


# --- one's own page ------------------------------------------------------------------------------------------


def test_ones_own_password_takes_the_old_one_and_ends_the_other_sessions(app: Flask) -> None:
    here, there = (signed_in_browser(app, "viewer") for _ in range(2))
    new = "another good one"
    wrong = here.send("/me/password", old="not the old one", new=new, again=new)
    assert wrong.status_code == 422 and "this is not your password" in wrong.text
    differ = here.send("/me/password", old=PASSWORD, new=new, again=new + "!")
    assert differ.status_code == 422 and there.get("/me").status_code == 200
    assert here.send("/me/password", old=PASSWORD, new=new, again=new).location == "/me"
    assert (here.get("/me").status_code, there.get("/me").status_code) == (200, 302)
    assert app.test_client().sign_in(PEOPLE["viewer"]).status_code == 401
    assert app.test_client().sign_in(PEOPLE["viewer"], new).status_code == 303
    (line,) = lines("me.password")
    assert (line.actor, line.target, line.after) == (PEOPLE["viewer"],) * 2 + ({"sessions_ended": 1},)


def test_guessing_the_old_password_is_braked(app: Flask) -> None:
    browser = signed_in_browser(app, "viewer")
    fields = {"old": "a guess", "new": "x" * 12, "again": "x" * 12}
    assert {browser.send("/me/password", **fields).status_code for _ in range(10)} == {422}
    assert browser.send("/me/password", **fields).status_code == 429


def test_ones_sessions_are_listed_and_ended_one_by_one_or_all_others(app: Flask) -> None:
    here, *others = (signed_in_browser(app, "viewer") for _ in range(4))
    stranger = signed_in_browser(app, "admin")
    html = here.get("/me").text
    assert len(re.findall(r'id="session-[0-9a-f]{16}"', html)) == 4 and html.count("this one") == 1
    ends = re.findall(r'action="(/me/sessions/[0-9a-f]{16}/end)"', html)
    assert len(ends) == 3
    here.send(ends[0])
    assert sorted(one.get("/").status_code for one in others) == [200, 200, 302]
    here.send("/me/sessions/end-others")
    assert [one.get("/").status_code for one in others] == [302] * 3
    assert (here.get("/").status_code, stranger.get("/").status_code) == (200, 200)
    assert [line.action for line in lines("me.end_session", "me.end_other_sessions")] == [
        "me.end_session",
        "me.end_other_sessions",
    ]


def test_nobody_ends_somebody_elses_session_as_their_own(app: Flask) -> None:
    mine, theirs = signed_in_browser(app, "viewer"), signed_in_browser(app, "admin")
    name = SignIn.get(SignIn.operator == id_of(PEOPLE["admin"])).digest[: account.SIGN_IN_NAME]
    for session in (name, "%" * account.SIGN_IN_NAME, "0"):
        mine.send(f"/me/sessions/{session.replace('%', '%25')}/end")
    assert (mine.get("/").status_code, theirs.get("/").status_code) == (200, 200)


def test_a_program_has_no_page_and_no_password(app: Flask) -> None:
    token = create_token("script", "admin")
    headers = {"Authorization": f"Bearer {token}"}
    assert app.test_client().get("/me", headers=headers).status_code == 404
    who = Who("token", "script", "admin", "api")
    for action, given in (("me.password", {"old": "x", "new": "x" * 12}), ("me.end_other_sessions", {})):
        with pytest.raises(Refused):
            perform(who, action, **given)


def test_language_colours_and_zone_are_chosen_there(app: Flask) -> None:
    browser = signed_in_browser(app, "viewer")
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


def test_the_secret_of_a_session_is_nowhere_on_the_page(app: Flask) -> None:
    browser = signed_in_browser(app, "viewer")
    html = browser.get("/me").text
    assert SignIn.get().digest not in html and SignIn.get().digest[: account.SIGN_IN_NAME] in html
    assert digest_of("x") != "x"


# --- the terminal --------------------------------------------------------------------------------------------


@pytest.fixture
def flask(each_database: str) -> Callable[..., Result]:
    app = app_with_people()
    return lambda *words, **more: app.test_cli_runner().invoke(args=list(words), **more)


def test_operators_from_the_terminal(flask: Callable[..., Result]) -> None:
    assert flask("operator", "create", ANN, "--role", "viewer").exit_code == 0
    assert flask("operator", "role", ANN, "admin").exit_code == 0
    assert flask("operator", "disable", ANN).exit_code == 0
    assert flask("operator", "disable", ANN).exit_code == 1
    told = {one["email"]: one for one in json.loads(flask("operator", "list", "--json").output)}
    assert (told[ANN]["role"], bool(told[ANN]["disabled_at"])) == ("admin", True)
    assert "password_hash" not in told[ANN]
    assert ANN in flask("operator", "list").output
    assert flask("operator", "enable", ANN).exit_code == 0
    made = flask("operator", "password", ANN).output.splitlines()[-1]
    assert matches(made, Operator.get(Operator.email == ANN).password_hash)
    assert flask("operator", "password", ANN, "--password-stdin", input="typed by a person\n").exit_code == 0
    assert matches("typed by a person", Operator.get(Operator.email == ANN).password_hash)
    assert flask("operator", "role", "nobody@example.org", "viewer").exit_code == 1
    assert flask("operator", "role", ANN, "root").exit_code == 2


def test_tokens_from_the_terminal(flask: Callable[..., Result]) -> None:
    assert flask("token", "create", "script", "--role", "viewer", "--days", "3").exit_code == 0
    (told,) = json.loads(flask("token", "list", "--json").output)
    assert (told["name"], told["state"], "digest" in told) == ("script", "live", False)
    assert "script" in flask("token", "list").output
    assert flask("token", "revoke", "script").exit_code == 0
    assert flask("token", "revoke", "script").exit_code == 1
    assert json.loads(flask("token", "list", "--json").output)[0]["state"] == "revoked"
