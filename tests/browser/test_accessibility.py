"""Accessibility of every page: axe, keyboard, zoom, text spacing, reduced motion, forced colours, touch and print."""

import base64
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from consumers import ROOT, consumer
from databases import bound_to_library
from installation import Installation
from playwright.sync_api import Page, expect
from test_budgets import FilledConsole

from browser.chromium import MEDIUM, NARROW, WIDE, Open, set_language
from browser.layout_checks import (
    APPLY_TEXT_SPACING,
    CONTRAST,
    CUT_OFF,
    FOCUSED,
    HIGHER_THAN_SHOWN,
    TOO_WIDE,
    WIDER_THAN_SHOWN,
)

#: Axe's rules for WCAG 2.2 A and AA, and its best practices. Rules about colours run in the dark theme too.
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOUR_RULES = ["color-contrast", "link-in-text-block"]

NOWHERE = "/nowhere"

#: A 1280 px window at 200 %, and the narrowest width that WCAG requires.
ENLARGED, SMALLEST = {"width": 640, "height": 400}, {"width": 320, "height": 500}


class FilledInstallation(Installation):
    """The program with a full database, a web server, and a worker for the tasks of `stage`."""

    program = "gated_tasks:create_app()"
    house: FilledConsole

    def enqueue(self, task: str, *arguments: str) -> str:
        result = self.flask("--app", self.program, "run-task", task, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def page_urls(self) -> list[str]:
        """Return the URL of every page, once."""
        urls = {re.sub(r"\?.*", "", address): address for address in reversed([*self.house.page_urls(), NOWHERE])}
        return sorted(urls.values())


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledInstallation]:
    folder = tmp_path_factory.mktemp("everyone")
    url = f"sqlite:///{folder}/library.db"
    # The brokers are those of this process, which fills them.
    environment = {"DATA_DIR": os.environ["DATA_DIR"], "DATABASE_URL": url, "ENVIRONMENT": "production"}
    console = FilledInstallation(folder, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **environment)
    with bound_to_library(url):
        console.house = FilledConsole()
        console.house.fill(5)
        options = ("-k", "process", "-w", "2", "-n")
        log = folder / "light.log"
        with console.web(), consumer("gated_tasks.light", *options, environment=console.environment, log=log):
            yield console


@pytest.fixture
def open_page(open_page: Open) -> Open:
    """Return `open_page` for pages whose missing address, wrong password or password field the browser reports."""
    return partial(open_page, forgiven=("the server responded",))


@pytest.fixture
def running(console: FilledInstallation, tmp_path: Path) -> Iterator[str]:
    """Return the id of a run that lasts as long as the test."""
    gate = console.folder / tmp_path.name  # A file in tmp_path might be deleted before the run sees it.
    yield console.enqueue("hold", f"gate={gate}")
    gate.touch()


def goto(page: Page, address: str) -> None:
    """Open a page and require status 200, so that no test passes on an error page."""
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == (404 if address == NOWHERE else 200), address


# --- axe -----------------------------------------------------------------------------------------------------


def test_axe_finds_no_violation_on_any_page_in_both_themes(console: FilledInstallation, open_page: Open) -> None:
    page = open_page()
    violations = []
    for address in [*console.page_urls(), "/help", "/sessions?state=closed", "/runs?q=state:failed"]:
        page.emulate_media(color_scheme="light")
        goto(page, address)
        violations += find_violations(page, {"runOnly": STANDARD})
        page.emulate_media(color_scheme="dark")
        violations += find_violations(page, {"runOnly": COLOUR_RULES})
    assert violations == []


def test_axe_finds_no_violation_in_dialogs_and_on_the_login_page(open_page: Open) -> None:
    page = open_page("/tokens")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    violations = find_violations(page, {"runOnly": STANDARD})
    page.keyboard.press("Escape")
    page.get_by_label("Name").fill("nightly")
    page.get_by_role("button", name="Create token").click()
    expect(page.locator("#secret")).to_be_visible()
    violations += find_violations(page, {"runOnly": STANDARD})
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    page.get_by_role("button", name="Menu").click()
    violations += find_violations(page, {"runOnly": STANDARD})
    page.context.clear_cookies()
    page.goto("/login")
    page.get_by_label("E-mail").fill("unknown@example.org")
    page.get_by_label("Password").fill("nothing")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    violations += find_violations(page, {"runOnly": STANDARD})
    assert violations == []


def test_axe_reports_an_image_without_alt_text(open_page: Open) -> None:
    """Verify that the tests above can fail."""
    page = open_page("/help")
    page.evaluate("document.querySelector('h1').insertAdjacentHTML('afterend', '<img src=/static/favicon.svg>')")
    assert [violation for violation in find_violations(page, {"runOnly": STANDARD}) if "image-alt" in violation]


def find_violations(page: Page, options: dict[str, Any]) -> list[str]:
    """Return axe's violations on the page, with every foldable section open."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    settings = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}, **options}
    if options["runOnly"] is not STANDARD:
        del settings["rules"]
    violations = page.evaluate("async (options) => (await axe.run(document, options)).violations", settings)
    return [
        f"{page.url}: {violation['id']}: {node['html'][:160]}"
        for violation in violations
        for node in violation["nodes"]
    ]


# --- keyboard ------------------------------------------------------------------------------------------------


def test_first_tab_stop_skips_the_menu(open_page: Open) -> None:
    page = open_page("/runs")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == {"words": "Skip to content", "wrong": ""}
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_focus_is_visible_at_each_stop_and_never_trapped(
    console: FilledInstallation, open_page: Open, size: dict[str, int]
) -> None:
    page = open_page(viewport=size)
    for address in ("/", "/runs", f"/runs/{console.house.run}", "/sessions?state=active", "/schedule", "/me"):
        goto(page, address)
        stops = collect_focus_stops(page, "Tab")
        assert [stop["wrong"] for stop in stops if stop["wrong"]] == [], address
        assert len(stops) > 10, address


def test_focus_is_not_covered_by_the_selection_bar(open_page: Open) -> None:
    page = open_page("/runs", viewport={"width": 1280, "height": 420})
    page.locator("[name=run]").first.check()
    for key in ("Tab", "Shift+Tab"):
        assert [stop["wrong"] for stop in collect_focus_stops(page, key) if stop["wrong"]] == [], key


def test_run_is_opened_retried_and_deleted_by_keyboard(console: FilledInstallation, open_page: Open) -> None:
    run_id = console.enqueue("need", f"gate={console.folder / 'nowhere'}")
    page = open_page("/")
    press_by_keyboard(page, "Runs")
    expect(page.get_by_role("heading", name="Runs", level=1)).to_be_visible()
    expect(page.locator(f"#run-{run_id}")).to_contain_text("failed", timeout=20_000)
    press_by_keyboard(page, "need")
    expect(page.locator("#title")).to_contain_text("failed")
    press_by_keyboard(page, "Retry")
    expect(page.locator(".flash")).to_contain_text("re-queued")
    expect(page.locator("#story")).to_contain_text("Attempt 2 failed", timeout=20_000)
    press_by_keyboard(page, "Delete…")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    press_by_keyboard(page, "Delete this run")
    expect(page.locator(".flash")).to_contain_text("deleted")


def test_menu_and_key_help_return_the_focus_when_closed(open_page: Open) -> None:
    page = open_page("/queues")
    press_by_keyboard(page, "Keyboard shortcuts")
    expect(page.locator("#keys")).to_be_visible()
    assert page.evaluate(FOCUSED) == {"words": "Close", "wrong": ""}
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    assert page.evaluate(FOCUSED) == {"words": "Keyboard shortcuts", "wrong": ""}
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    page.reload()
    press_by_keyboard(page, "Menu")
    expect(page.locator("#menu")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == {"words": "Overview", "wrong": ""}
    page.keyboard.press("Escape")
    expect(page.locator("#menu")).to_be_hidden()
    assert page.evaluate(FOCUSED) == {"words": "Menu", "wrong": ""}


def collect_focus_stops(page: Page, key: str) -> list[dict[str, str]]:
    """Return every element that the key focuses. Refreshing is off, because a replaced element loses the focus."""
    hold = page.locator("#hold")
    if hold.count() and hold.get_attribute("aria-pressed") == "false":
        hold.click()
        page.evaluate("document.activeElement.blur()")
    return list(press_until_blurred(page, key))


def press_until_blurred(page: Page, key: str) -> Iterator[dict[str, str]]:
    """Press the key until the focus leaves the page. Yield each focused element."""
    for _ in range(400):
        page.keyboard.press(key)
        if not (stop := page.evaluate(FOCUSED)):
            return
        yield stop
    raise AssertionError(f"{page.url}: the focus does not leave the page")


def press_by_keyboard(page: Page, words: str) -> None:
    """Tab to the element with this text and press Enter."""
    page.evaluate("document.activeElement.blur()")
    for stop in press_until_blurred(page, "Tab"):
        if stop["words"] == words:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{page.url}: no focusable element with {words!r}")


# --- zoom and text spacing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ru"])
def test_zoomed_and_spaced_pages_lose_nothing(console: FilledInstallation, open_page: Open, language: str) -> None:
    page = open_page()
    set_language(page, language)
    faults = []
    for address in console.page_urls():
        goto(page, address)
        assert page.locator("html").get_attribute("lang") == language, address
        page.set_viewport_size(MEDIUM)  # type: ignore[arg-type]
        labels = page.locator(".troubles .notice > .state")
        faults += [f"{address}: covers its text: {html}" for html in labels.evaluate_all(WIDER_THAN_SHOWN)]
        for size in (MEDIUM, ENLARGED, SMALLEST):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            faults += find_layout_faults(page)
        # At phone widths no table may need horizontal scrolling.
        page.set_viewport_size(NARROW)  # type: ignore[arg-type]
        faults += [f"{page.url}: scrolls: {html}" for html in page.locator(".card").evaluate_all(WIDER_THAN_SHOWN)]
        page.evaluate(APPLY_TEXT_SPACING)
        for size in (ENLARGED, {"width": 1280, "height": 800}):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            faults += find_layout_faults(page)
    assert faults == []


def find_layout_faults(page: Page) -> list[str]:
    where = f"{page.url} at {page.viewport_size}"
    wide = page.evaluate(TOO_WIDE)
    beside = [f"{where}: {wide} px too wide"] if wide > 0 else []
    return beside + [f"{where}: cut off: {html}" for html in page.evaluate(CUT_OFF)]


# --- touch ---------------------------------------------------------------------------------------------------


def test_touch_targets_are_large_enough_on_a_phone(console: FilledInstallation, open_page: Open) -> None:
    page = open_page(viewport=NARROW, has_touch=True)
    violations = []
    for address in console.page_urls():
        goto(page, address)
        violations += find_violations(page, {"runOnly": ["target-size"]})
    page.get_by_role("button", name="Menu").click()
    violations += find_violations(page, {"runOnly": ["target-size"]})
    assert violations == []


# --- reduced motion ------------------------------------------------------------------------------------------


def test_reduced_motion_stops_all_animations(running: str, open_page: Open) -> None:
    page = open_page(f"/runs/{running}")
    expect(page.locator("progress")).to_be_visible(timeout=20_000)
    moving = "document.getAnimations().length"
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    for address in (f"/runs/{running}", "/", "/runs", "/queues", "/workers"):
        goto(page, address)
        assert page.evaluate(moving) == 0, address


# --- forced colours ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_forced_colors_keep_all_information_visible(running: str, open_page: Open, theme: str) -> None:
    page = open_page(f"/runs/{running}", forced_colors="active", color_scheme=theme)
    progress = page.locator("progress")
    expect(progress).to_be_visible(timeout=20_000)
    assert measure_contrast(page, "progress") > 3
    page.goto("/?hours=1")
    assert measure_contrast(page, ".throughput .plot") > 3
    backgrounds = "(those) => new Set(those.map((one) => getComputedStyle(one).backgroundColor)).size"
    for group in (".menu li a", ".wishes .switch:first-of-type button", ".throughput .switch a"):
        assert page.locator(group).evaluate_all(backgrounds) == 2, group
    for words in page.locator(".state:visible").all_inner_texts():
        assert words.strip()
    assert [stop["wrong"] for stop in collect_focus_stops(page, "Tab") if stop["wrong"]] == []


def measure_contrast(page: Page, selector: str) -> float:
    picture = base64.b64encode(page.locator(selector).first.screenshot()).decode()
    contrast: float = page.evaluate(CONTRAST, picture)
    return contrast


# --- print ---------------------------------------------------------------------------------------------------


def test_printed_list_has_no_form_controls(open_page: Open) -> None:
    page = open_page("/runs?state=failed")
    page.emulate_media(media="print")
    expect(page.locator("tbody tr").first).to_be_visible()
    expect(page.locator("input:visible, button:visible")).to_have_count(0)


def test_printed_run_is_complete_and_without_controls(console: FilledInstallation, open_page: Open) -> None:
    page = open_page(f"/runs/{console.house.run}", color_scheme="dark")
    expect(page.locator("#log")).to_be_visible()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})
    shown = "(those) => those.filter((one) => one.checkVisibility()).map((one) => one.outerHTML.slice(0, 120))"
    assert page.locator(".rail, .skip, button, .button, form, .live").evaluate_all(shown) == []
    assert page.evaluate(TOO_WIDE) <= 0
    for script in (WIDER_THAN_SHOWN, HIGHER_THAN_SHOWN):
        assert page.locator("pre").evaluate_all(script) == []
    traceback = page.locator("[id^=whole-]").first
    expect(traceback).to_be_visible()
    expect(traceback).to_contain_text("Traceback (most recent call last)")
    expect(page.locator("#log pre")).to_be_visible()
    bright = "getComputedStyle(document.body).color"
    page.emulate_media(media="print", color_scheme="light")
    on_light = page.evaluate(bright)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(bright) == on_light
    assert page.pdf(format="A4").startswith(b"%PDF")
