"""The machine's own Chromium, driven by Playwright; nothing is downloaded."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

Open = Callable[..., Page]
with_and_without = pytest.mark.parametrize("java_script", [True, False], ids=["with JavaScript", "without JavaScript"])

#: Chromium refuses its sandbox to root, and CI is root. The rest keeps it from calling home.
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


#: What stands out of its card, or is cut off at the edge of it.
SPILLS = """() => [...document.querySelectorAll("main .card *")].filter((one) => {
  const [card, box] = [one.closest(".card"), one].map((each) => each.getBoundingClientRect());
  if (!box.width || !one.checkVisibility() || one.closest("pre, .unseen, .tabs, thead")) return false;
  return box.right > card.right || box.left < card.left;
}).map((one) => one.outerHTML.slice(0, 120))"""


def fits(page: Page, path: str, language: str) -> None:
    """The page stays in its window and each part of it in its card, whatever the language."""
    page.context.add_cookies([{"name": "language", "value": language, "url": page.url}])
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (path, language)
    assert page.evaluate(SPILLS) == [], (path, language)


def seen(page: Page, words: str, java_script: bool, where: str = "main") -> None:
    """It is to be seen soon: by itself, or where there is no script, on loading the page again."""
    found = page.locator(where).get_by_text(re.compile(words)).first
    if java_script:
        expect(found).to_be_visible(timeout=20_000)
        return
    for _ in range(300):
        if found.is_visible():
            return
        page.reload()
    raise AssertionError(f"{words!r} did not come")


def executable() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        yield browser
        browser.close()


def sign_in(page: Page, url: str, email: str, password: str) -> None:
    page.goto(f"{url}/login")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}/")
