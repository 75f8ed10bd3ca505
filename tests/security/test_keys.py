"""SECRET_KEY: weak keys are refused, each purpose has a separate key, and a key can be replaced without loss."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsers import PEOPLE, Browser, UseKeys, create_app_with_people
from consumers import consumer, share_with_consumers
from flask import Flask
from flask.sessions import SecureCookieSessionInterface

import app as web
import tasks
from config import InvalidSetting, load
from engine import keys
from engine.broker.messages import SignedJSON
from engine.exceptions import InvalidMessage

FIRST, SECOND, THIRD = (secrets.token_urlsafe(48) for _ in range(3))


# --- weak and former keys --------------------------------------------------------------------------------------------


def read(folder: Path, **environ: str) -> Any:
    return load({"DATA_DIR": str(folder / "data"), **environ})


WEAK_KEYS = [
    ("short", "kK3-5tJw0aLr8QxZ1vB7nM2cYdE4fG", "at least 32 characters"),
    ("one_letter", "a" * 40, "at least 10 different characters"),
    ("nine_letters", "abcdefghi" * 4, "at least 10 different characters"),
    ("repeated", "abcdefghijklmnop" * 2, "one piece repeated"),
    ("cut_off", "correct-horse-battery-" * 2 + "corr", "one piece repeated"),
    ("placeholder", "please change-me to a long and random value", "a published example"),
    ("capitals", "CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET", "a published example"),
    ("Flask", "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf", "a published example"),
    ("FastAPI", "09D25E094FAA6CA2556C818166B7A9563B93F7099F6F0F4CAA6CF63B88E8D3E7", "a published example"),
    ("Django", "django-insecure-8z^x0!q3kd7w#b2mr9", "a published example"),
]


@pytest.mark.parametrize(("key", "allowed"), [pytest.param(*rest, id=name) for name, *rest in WEAK_KEYS])
def test_weak_key_is_refused_with_the_way_to_make_one(key: str, allowed: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret_key").write_text(key)
    for environ in ({"SECRET_KEY": key}, {"REDIS_URL": "redis://h", "SECRET_KEY": key}, {}):
        with pytest.raises(InvalidSetting) as refused:
            read(tmp_path, **environ)
        message = str(refused.value)
        assert message.startswith("SECRET_KEY='********' ") and key not in message
        assert allowed in message and "secrets.token_urlsafe(48)" in message and "\n" not in message


@pytest.mark.parametrize("make", [lambda: secrets.token_urlsafe(24), secrets.token_hex, lambda: secrets.token_hex(64)])
def test_random_key_is_accepted(make: Callable[[], str], tmp_path: Path) -> None:
    for key in (make() for _ in range(200)):
        assert read(tmp_path, SECRET_KEY=key).secret_key == key


@pytest.mark.parametrize(
    ("value", "former"),
    [
        ("", ()),
        ("dev", ("dev",)),
        ("change-me, aaaa", ("change-me", "aaaa")),
        ('"one, with a comma",two', ("one, with a comma", "two")),
        ('quote"in the middle', ('quote"in the middle',)),
    ],
)
def test_former_keys_are_separated_by_commas_and_may_be_weak(
    value: str, former: tuple[str, ...], tmp_path: Path
) -> None:
    assert read(tmp_path, SECRET_KEY_OLD=value).secret_key_old == former
    (tmp_path / "former").write_text(value.replace(",", "\n") if '"' not in value else value)
    assert read(tmp_path, SECRET_KEY_OLD_FILE=str(tmp_path / "former")).secret_key_old == former
    assert "change-me" not in repr(read(tmp_path, SECRET_KEY_OLD=value))


@pytest.mark.parametrize("value", [",", "rex,", ",rex", "rex,,rex", '"rex', "rex, ,rex", '""'])
def test_empty_former_key_is_refused_and_never_printed(value: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="None of them may be empty") as refused:
        read(tmp_path, SECRET_KEY_OLD=value)
    assert "rex" not in str(refused.value)


# --- purposes --------------------------------------------------------------------------------------------------------


def test_each_purpose_has_a_separate_key(use_keys: UseKeys) -> None:
    use_keys(FIRST, SECOND)
    purposes = (b"cookies", b"forms", b"audit", b"answers", b"run", b"value")
    derived = [key for purpose in purposes for key in keys.derive_keys(purpose)]
    assert len({*derived, FIRST.encode(), SECOND.encode()}) == 2 * len(purposes) + 2
    assert {len(key) for key in derived} == {32}


@pytest.mark.parametrize("purpose", [b"forms", b"audit", b"answers", b"run", b"value"])
def test_key_of_another_purpose_signs_no_cookie(purpose: bytes, app: Flask) -> None:
    browser = app.test_client()
    browser.sign_in(PEOPLE["viewer"])
    with browser.session_transaction() as session:
        content = dict(session)
    for key, status in ((keys.derive_keys(purpose)[0], 302), (keys.derive_keys(b"cookies")[0], 200)):
        browser.set_cookie("dewey", sign_cookie(key, content))
        assert browser.get("/runs").status_code == status


def sign_cookie(key: str | bytes, content: dict[str, Any]) -> str:
    signing = Flask("signing")
    signing.secret_key = key
    serializer = SecureCookieSessionInterface().get_signing_serializer(signing)
    assert serializer
    return str(serializer.dumps(content))


# --- sign-ins and forms ----------------------------------------------------------------------------------------------


@pytest.fixture
def restart(sqlite_database: None, use_keys: UseKeys) -> Callable[..., Browser]:
    """Return a function that starts the web program with these keys and opens a browser with these cookies."""
    create_app_with_people()

    def restarted(key: str, *former: str, cookie: str = "") -> Browser:
        use_keys(key, *former)
        app = web.create_app()
        app.test_client_class = Browser
        browser: Browser = app.test_client()
        if cookie:
            browser.set_cookie("dewey", cookie)
        return browser

    return restarted


def session_cookie(browser: Browser) -> str:
    cookie = browser.get_cookie("dewey")
    assert cookie
    return cookie.value


def test_sign_in_and_open_form_survive_a_new_key(restart: Callable[..., Browser]) -> None:
    before = restart(FIRST)
    before.sign_in(PEOPLE["operator"])
    form_token, cookie = before.form_token, session_cookie(before)
    after = restart(SECOND, THIRD, FIRST, cookie=cookie)
    assert after.get("/runs").status_code == 200
    pause = {"reason": "the form was open", "csrf_token": form_token}
    assert after.post("/queues/light/pause", data=pause).status_code == 303
    assert after.post("/queues/light/pause", data=pause | {"csrf_token": form_token + "x"}).status_code == 400
    assert restart(SECOND, THIRD, cookie=cookie).get("/runs").status_code == 302


def test_sign_in_of_0_9_which_signed_with_the_key_itself_survives(restart: Callable[..., Browser]) -> None:
    before = restart(FIRST)
    before.sign_in(PEOPLE["viewer"])
    with before.session_transaction() as session:
        cookie = sign_cookie(FIRST, dict(session))
    assert restart(FIRST, cookie=cookie).get("/runs").status_code == 200
    assert restart(SECOND, FIRST, cookie=cookie).get("/runs").status_code == 200
    assert restart(SECOND, cookie=cookie).get("/runs").status_code == 302


def test_new_cookie_and_form_are_signed_with_the_new_key(restart: Callable[..., Browser]) -> None:
    browser = restart(SECOND, FIRST)
    browser.sign_in(PEOPLE["operator"])
    form_token, cookie = browser.form_token, session_cookie(browser)
    only_new = restart(SECOND, cookie=cookie)
    assert only_new.get("/runs").status_code == 200
    assert only_new.post("/queues/light/resume", data={"csrf_token": form_token}).status_code == 303
    assert restart(FIRST, cookie=cookie).get("/runs").status_code == 302


# --- the broker ------------------------------------------------------------------------------------------------------


def test_value_is_signed_with_the_new_key_alone() -> None:
    place, rotated = ("light", "a run"), SignedJSON(SECOND, (FIRST,))
    assert SignedJSON(SECOND).deserialize_value(*place, rotated.serialize_value(*place, 1)) == 1
    assert rotated.deserialize_value(*place, SignedJSON(FIRST).serialize_value(*place, 1)) == 1
    with pytest.raises(InvalidMessage):
        SignedJSON(FIRST).deserialize_value(*place, rotated.serialize_value(*place, 1))


@pytest.mark.parametrize("servers", [(), ("redis_url", "postgresql_library")], ids=["embedded", "servers"])
def test_waiting_and_scheduled_runs_survive_a_new_key(
    servers: tuple[str, ...], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    urls = [request.getfixturevalue(server) for server in servers]
    with share_with_consumers(tasks.light, tmp_path, *urls) as environment:
        tasks.light.serializer = SignedJSON(FIRST)
        waiting, scheduled = tasks.get_cleanup_statistics(5), tasks.get_cleanup_statistics.schedule((6,), delay=2)
        rotated = environment | {"SECRET_KEY": SECOND, "SECRET_KEY_OLD": f"{THIRD},{FIRST}"}
        with consumer("tasks.light", environment=rotated, log=tmp_path / "light.log"):
            tasks.light.serializer = SignedJSON(SECOND)
            results = [run.get(blocking=True, timeout=20) for run in (waiting, scheduled)]
        assert [result["period_hours"] for result in results] == [5, 6]
        assert tasks.light.storage.dead_letters.count() == 0
