"""Chromium, and pages of a module's `console` in it, for people who are signed in."""

from collections.abc import Iterator
from typing import Any

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


@pytest.fixture
def open_page(browser: Browser, console: Installation) -> Iterator[Open]:
    """Opens a page for somebody who is signed in; `options` are those of a browser context, and with a `storage_state`
    of their own they replace the signing in. Nobody may have cause to complain in the browser's console, but of what
    has a part of `forgiven` in it. A module that always opens its pages in one way overrides this with a `partial`.
    """
    contexts, complaints = [], []

    def open_one(
        path: str = "/",
        *,
        email: str = PEOPLE["admin"],
        password: str = PASSWORD,
        port: int = console.port,
        forgiven: tuple[str, ...] = (),
        **options: Any,
    ) -> Page:
        def hear(message: ConsoleMessage) -> None:
            if message.type != "log" and not any(part in message.text for part in forgiven):
                complaints.append(message.text)

        url = f"http://127.0.0.1:{port}"
        contexts.append(context := browser.new_context(base_url=url, **{"viewport": WIDE, **options}))
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if "storage_state" not in options:
            sign_in(page, url, email, password)
        page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []
