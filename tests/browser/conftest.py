"""Chromium, and signed-in pages of a module's `console`."""

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
    """Return a browser, closed before other folders' tests: none can run coroutines beside Playwright's loop."""
    if not find_executable():
        skip_or_fail("no Chromium: apt-get install chromium-headless-shell")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def storage_states() -> dict[tuple[str, ...], Any]:
    """Return the cookies of signed-in browsers. Signing in takes longer than most tests."""
    return {}


@pytest.fixture
def open_page(browser: Browser, console: Installation, storage_states: dict[tuple[str, ...], Any]) -> Iterator[Open]:
    """Return a function that opens a signed-in page. `options` are those of a browser context. Each user signs in once
    per module unless `new_session`. A console message of the browser fails the test, unless it contains an entry of
    `forgiven`. A module that always uses the same options overrides this fixture with a `partial`.
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
        if not state or urlsplit(page.url).path == "/login":  # The session may have ended.
            sign_in(page, url, email, password)
            storage_states[url, email, password] = context.storage_state()
            page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []
