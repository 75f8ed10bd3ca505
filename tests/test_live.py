"""Refreshing pages: many tabs cost as much as one, and no user sees outdated or foreign data."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event, Semaphore

import pytest
from browsers import PEOPLE, Browser, sign_in_browser
from factories import create_consumer, create_run, create_session
from flask import Flask, template_rendered

from admin.cache import CacheEntry, SharedCache
from admin.pages import live_refresh
from engine.database import database
from engine.models import now
from models import ReadingSession

REFRESH = {"X-Refresh": "1"}
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


@pytest.fixture
def rendered(app: Flask) -> Iterator[list[str]]:
    """Return a list that receives the rendered pages."""
    names: list[str] = []

    def note(_: Flask, template: object, **rest: object) -> None:
        names.append(str(template.name))  # type: ignore[attr-defined]

    with template_rendered.connected_to(note, app):
        yield names


@pytest.fixture
def statements() -> list[str]:
    statements: list[str] = []
    database.obj.query_hooks.append(lambda event: statements.append(event.sql))
    return statements


def test_fifty_tabs_cost_the_same_as_one(operator: Browser, rendered: list[str], statements: list[str]) -> None:
    create_session(minutes_ago=150)
    assert operator.get("/sessions", headers=REFRESH).status_code == 200
    of_one = len(statements)
    live_refresh.page_cache.forget()
    statements.clear()
    rendered.clear()
    began = time.monotonic()
    tags = {operator.get("/sessions", headers=REFRESH).headers["ETag"] for _ in range(50)}
    moments = 1 + int((time.monotonic() - began) / live_refresh.CACHE_SECONDS)
    assert len(tags) == 1
    assert len(rendered) <= moments
    assert len(statements) <= moments * of_one


def test_concurrent_refreshes_render_once(app: Flask, rendered: list[str]) -> None:
    browsers = [sign_in_browser(app, "operator") for _ in range(4)]
    rendered.clear()
    start = Barrier(len(browsers))

    def ask(browser: Browser) -> int:
        start.wait()
        return browser.get("/sessions", headers=REFRESH).status_code

    began = time.monotonic()
    with ThreadPoolExecutor(len(browsers)) as pool:
        assert set(pool.map(ask, browsers)) == {200}
    assert len(rendered) <= 1 + int((time.monotonic() - began) / live_refresh.CACHE_SECONDS)


def test_ordinary_request_is_not_cached(operator: Browser) -> None:
    session = create_session(minutes_ago=150)
    assert str(session.id) in operator.get("/sessions", headers=REFRESH).text
    ReadingSession.delete().where(ReadingSession.id == session.id).execute()
    assert str(session.id) not in operator.get("/sessions").text


def test_refresh_is_per_role_with_a_personal_csrf_token(app: Flask) -> None:
    create_session(minutes_ago=150)
    admin, other, viewer = (sign_in_browser(app, role) for role in ("operator", "operator", "viewer"))
    pages = [browser.get("/sessions/cleanup", headers=REFRESH).text for browser in (admin, other, viewer)]
    own_token, other_token = (TOKEN.search(page) for page in pages[:2])
    assert own_token and other_token and own_token[1] != other_token[1]
    assert not TOKEN.search(pages[2])
    assert other.post("/sessions/cleanup", data={"csrf_token": own_token[1]}).status_code == 400
    assert other.post("/sessions/cleanup", data={"csrf_token": other_token[1]}).status_code == 303


def test_refresh_contains_no_personal_data_and_keeps_flash_messages(operator: Browser) -> None:
    session = create_session(minutes_ago=150)
    assert operator.send(f"/sessions/{session.id}/close").status_code == 303
    refreshed = operator.get("/sessions", headers=REFRESH).text
    assert PEOPLE["operator"] not in refreshed
    assert "Session closed." not in refreshed
    assert "Session closed." in operator.get("/sessions").text


def test_languages_zones_and_addresses_are_cached_separately(operator: Browser) -> None:
    create_session(minutes_ago=150)
    wishes = [("language", "ru"), ("zone", "Asia/Tokyo")]
    pages = {operator.get("/sessions", headers=REFRESH).text, operator.get("/sessions?reader=x", headers=REFRESH).text}
    for name, value in wishes:
        operator.set_cookie(name, value)
        pages.add(operator.get("/sessions", headers=REFRESH).text)
    assert len(pages) == 4


def test_signed_out_refresh_redirects_to_the_login(operator: Browser) -> None:
    assert operator.get("/sessions", headers=REFRESH).status_code == 200
    cookie = operator.get_cookie("dewey")
    operator.send("/logout")
    assert cookie
    operator.set_cookie("dewey", cookie.value)  # a copy, cached by another process
    assert operator.get("/sessions", headers=REFRESH).status_code == 302


def test_unchanged_refresh_returns_304(sign_in_as: Callable[[str], Browser]) -> None:
    operator = sign_in_as("operator")
    headers = {**REFRESH, "If-None-Match": operator.get("/runs", headers=REFRESH).headers["ETag"]}
    live_refresh.page_cache.forget()
    again = operator.get("/runs", headers=headers)
    assert (again.status_code, again.text) == (304, "")
    create_run("process_book")
    live_refresh.page_cache.forget()
    assert operator.get("/runs", headers=headers).status_code == 200


def test_running_clocks_are_not_announced(operator: Browser) -> None:
    create_consumer("light", beat_at=now() - timedelta(minutes=2))
    create_consumer("light", host="app-2")
    html = operator.get("/").text
    status = re.search(r'id="attention" data-live role="status".*?</section>', html, re.DOTALL)[0]
    clocks = re.findall(r"<time[^>]*data-tick[^>]*>", status)
    assert clocks and all('aria-live="off"' in clock for clock in clocks)


def test_missing_page_is_404_for_every_refresh(operator: Browser) -> None:
    assert [operator.get("/runs/nothing", headers=REFRESH).status_code for _ in range(2)] == [404, 404]


# --- the cache -----------------------------------------------------------------------------------------------


def test_cache_is_bounded() -> None:
    memory = SharedCache(life=60, room=5)
    for number in range(100):
        memory.get(number, str)
    assert list(memory.entries) == [95, 96, 97, 98, 99]


def test_errors_are_cached_like_values() -> None:
    memory, tries = SharedCache(life=60, room=5), []

    def fail() -> None:
        tries.append(1)
        raise OSError("unavailable")

    for _ in range(3):
        with pytest.raises(OSError, match="unavailable"):
            memory.get("page", fail)
    assert len(tries) == 1


def test_waiting_request_gets_the_value_however_long_it_took() -> None:
    arrived, go_on, calls = Semaphore(0), Event(), []

    class Watched(SharedCache):
        def entry(self, key: object) -> CacheEntry:
            arrived.release()
            return super().entry(key)

    def find() -> int:
        assert go_on.wait(10)
        calls.append(1)
        return len(calls)

    memory = Watched(life=0, room=5)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(memory.get, "page", find) for _ in range(2)]
        assert all(arrived.acquire(timeout=10) for _ in range(2))
        go_on.set()
        assert [answer.result(10) for answer in answers] == [1, 1]
    assert memory.get("page", find) == 2
