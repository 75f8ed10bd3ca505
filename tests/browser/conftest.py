"""Chromium, and pages of a module's `console` in it, for people who are signed in."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from browsers import PASSWORD, PEOPLE
from conftest import skip_or_fail
from installation import Installation
from playwright.sync_api import Browser, ConsoleMessage, Page

from browser.chromium import WIDE, Open, chromium, find_executable, sign_in


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Closed before the tests of other folders, which could not run a coroutine beside Playwright's loop."""
    if not find_executable():
        skip_or_fail("no Chromium: apt-get install chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def storage_states() -> dict[tuple[str, ...], Any]:
    """The cookies of browsers in which people have signed in: to sign in costs more than most tests do afterwards."""
    return {}


@pytest.fixture
def open_page(browser: Browser, console: Installation, storage_states: dict[tuple[str, ...], Any]) -> Iterator[Open]:
    """Opens a page for somebody who is signed in; `options` are those of a browser context. People sign in once in a
    module unless `new_session`. Nobody may have cause to complain in the browser's console, but of what has a part of
    `forgiven` in it. A module that always opens its pages in one way overrides this with a `partial`.
    """
    contexts, complaints = [], []

    def open_one(
        path: str = "/",
        *,
        email: str = PEOPLE["admin"],
        password: str = PASSWORD,
        port: int = console.port,
        forgiven: tuple[str, ...] = (),
        new_session: bool = False,
        **options: Any,
    ) -> Page:
        def hear(message: ConsoleMessage) -> None:
            if message.type != "log" and not any(part in message.text for part in forgiven):
                complaints.append(message.text)

        url = f"http://127.0.0.1:{port}"
        state = None if new_session else storage_states.get((url, email, password))
        options = {"viewport": WIDE, "storage_state": state, **options}
        contexts.append(context := browser.new_context(base_url=url, **options))
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if state:
            page.goto(path)
        if not state or urlsplit(page.url).path == "/login":  # the session may have ended
            sign_in(page, url, email, password)
            storage_states[url, email, password] = context.storage_state()
            page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []
