"""The installed Chromium, driven by Playwright. Nothing is downloaded."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

Open = Callable[..., Page]
with_and_without = pytest.mark.parametrize("java_script", [True, False], ids=["with JavaScript", "without JavaScript"])

#: Chromium refuses its sandbox to root, and CI runs as root. The other options stop its background requests.
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

WIDE, MEDIUM = {"width": 1440, "height": 900}, {"width": 1024, "height": 768}
NARROW = {"width": 390, "height": 844}


#: Elements that overflow their card or are cut off at its edge.
OVERFLOWING = """() => [...document.querySelectorAll("main .card *")].filter((one) => {
  const [card, box] = [one.closest(".card"), one].map((each) => each.getBoundingClientRect());
  if (!box.width || !one.checkVisibility() || one.closest("pre, .unseen, .tabs, thead")) return false;
  return box.right > card.right || box.left < card.left;
}).map((one) => one.outerHTML.slice(0, 120))"""


def set_language(page: Page, language: str) -> None:
    """Set the language of every page. A cookie for `page.url` would be limited to its folder."""
    root = urljoin(page.url, "/")
    page.context.add_cookies([{"name": "language", "value": language, "url": root}])


def assert_fits(page: Page, path: str, language: str) -> None:
    """Assert that the page fits its window, and each element its card, in this language."""
    set_language(page, language)
    page.goto(path)
    assert page.locator("html").get_attribute("lang") == language, path
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (path, language)
    assert page.evaluate(OVERFLOWING) == [], (path, language)


def expect_text(page: Page, words: str, java_script: bool, where: str = "main") -> None:
    expect_visible(page, page.locator(where).get_by_text(re.compile(words)), java_script)


def expect_visible(page: Page, locator: Locator, java_script: bool) -> None:
    """Wait until the locator is visible. Without JavaScript, reload until then."""
    if java_script:
        expect(locator.first).to_be_visible(timeout=20_000)
    else:
        reload_until(page, lambda: locator.first.is_visible())


def reload_until(page: Page, condition: Callable[[], bool], within: float = 30) -> None:
    """Reload the page until the condition holds, as a user without JavaScript does."""
    give_up_at = time.monotonic() + within
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {within:g} s:\n{page.locator('main').inner_text()}"
        page.wait_for_timeout(300)
        page.reload()


def find_executable() -> str | None:
    """Return the path of a browser. The shell has no windows, so a page needs a quarter of the CPU time."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_executable(), args=FLAGS)
        yield browser
        browser.close()


def sign_in(page: Page, url: str, email: str, password: str) -> None:
    page.goto(f"{url}/login")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}/")
