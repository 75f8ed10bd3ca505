"""Every page is for everyone: axe, keys alone, large and spaced letters, little motion, few colours, a thumb, paper."""

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
from test_budgets import House

from browser.chromium import NARROW, WIDE, Open
from browser.sight import CONTRAST, CUT_OFF, FOCUSED, HIGHER_THAN_SHOWN, SPACED, TOO_WIDE, WIDER_THAN_SHOWN

#: Of axe's rules those of WCAG 2.2 at A and AA, and its advice; what depends on the colours is asked in the dark too.
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OF_COLOURS = ["color-contrast", "link-in-text-block"]

NOWHERE = "/nowhere"

#: A window of 1280 px at 200 %, and the narrowest that WCAG asks for.
ENLARGED, LEAST = {"width": 640, "height": 400}, {"width": 320, "height": 500}


class FullHouse(Installation):
    """The program with a full database, a web server, and a worker for the tasks of `stage`."""

    program = "stage:create_app()"
    house: House

    def enqueue(self, task: str, *arguments: str) -> str:
        asked = self.flask("--app", self.program, "run-task", task, *arguments)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.strip()

    def addresses(self) -> list[str]:
        """Of every page, once."""
        found = {re.sub(r"\?.*", "", address): address for address in reversed([*self.house.addresses(), NOWHERE])}
        return sorted(found.values())


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullHouse]:
    folder = tmp_path_factory.mktemp("everyone")
    url = f"sqlite:///{folder}/library.db"
    # The brokers are those of this process, which fills them.
    environment = {"DATA_DIR": os.environ["DATA_DIR"], "DATABASE_URL": url, "ENVIRONMENT": "production"}
    console = FullHouse(folder, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **environment)
    with bound_to_library(url):
        console.house = House()
        console.house.fill(5)
        options = ("-k", "process", "-w", "2", "-n")
        log = folder / "light.log"
        with console.web(), consumer("stage.light", *options, environment=console.environment, log=log):
            yield console


@pytest.fixture
def open_page(open_page: Open) -> Open:
    """The browser may tell that a page is not there or a password wrong, and advise on whose password is asked for."""
    return partial(open_page, forgiven=("the server responded",))


@pytest.fixture
def running(console: FullHouse, tmp_path: Path) -> Iterator[str]:
    """The id of a run that lasts as long as the test."""
    gate = console.folder / tmp_path.name  # as tmp_path, it might be gone before the run has seen it
    yield console.enqueue("hold", f"gate={gate}")
    gate.touch()


def go(page: Page, address: str) -> None:
    """To a page that is there, so that no test is content with the page of an error."""
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == (404 if address == NOWHERE else 200), address


def in_language(page: Page, language: str) -> None:
    page.context.add_cookies([{"name": "language", "value": language, "url": page.url}])


# --- axe -----------------------------------------------------------------------------------------------------


def test_axe_finds_nothing_on_any_page_in_light_and_in_dark(console: FullHouse, open_page: Open) -> None:
    page = open_page()
    found = []
    for address in [*console.addresses(), "/help", "/sessions?state=closed", "/runs?q=state:failed"]:
        page.emulate_media(color_scheme="light")
        go(page, address)
        found += violations(page, {"runOnly": STANDARD})
        page.emulate_media(color_scheme="dark")
        found += violations(page, {"runOnly": OF_COLOURS})
    assert found == []


def test_axe_finds_nothing_in_what_opens_and_before_the_sign_in(open_page: Open) -> None:
    page = open_page("/tokens")
    page.get_by_role("button", name="Keyboard").click()
    found = violations(page, {"runOnly": STANDARD})
    page.keyboard.press("Escape")
    page.get_by_label("Name").fill("nightly")
    page.get_by_role("button", name="Create token").click()
    expect(page.locator("#secret")).to_be_visible()
    found += violations(page, {"runOnly": STANDARD})
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    page.get_by_role("button", name="Menu").click()
    found += violations(page, {"runOnly": STANDARD})
    page.context.clear_cookies()
    page.goto("/login")
    page.get_by_label("E-mail").fill("nobody@example.org")
    page.get_by_label("Password").fill("nothing")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    found += violations(page, {"runOnly": STANDARD})
    assert found == []


def test_axe_would_find_what_is_wrong(open_page: Open) -> None:
    """What the tests above rely on."""
    page = open_page("/help")
    page.evaluate("document.querySelector('h1').insertAdjacentHTML('afterend', '<img src=/static/favicon.svg>')")
    assert [one for one in violations(page, {"runOnly": STANDARD}) if "image-alt" in one]


def violations(page: Page, options: dict[str, Any]) -> list[str]:
    """What axe has against the page as it stands, with everything that folds unfolded."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    page.evaluate(AXE_SCRIPT)
    asked = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}, **options}
    if options["runOnly"] is not STANDARD:
        del asked["rules"]
    found = page.evaluate("(options) => axe.run(document, options)", asked)["violations"]
    return [f"{page.url}: {one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


# --- keys alone ----------------------------------------------------------------------------------------------


def test_the_first_key_leads_past_the_menu(open_page: Open) -> None:
    page = open_page("/runs")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == {"words": "Skip to content", "wrong": ""}
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_focus_is_seen_at_every_stop_and_trapped_at_none(
    console: FullHouse, open_page: Open, size: dict[str, int]
) -> None:
    page = open_page(viewport=size)
    for address in ("/", "/runs", f"/runs/{console.house.run}", "/sessions?state=active", "/schedule", "/me"):
        go(page, address)
        stops = stops_of(page, "Tab")
        assert [stop["wrong"] for stop in stops if stop["wrong"]] == [], address
        assert len(stops) > 10, address


def test_the_focus_is_not_beneath_the_bar_of_what_is_ticked(open_page: Open) -> None:
    page = open_page("/runs", viewport={"width": 1280, "height": 420})
    page.locator("[name=run]").first.check()
    for key in ("Tab", "Shift+Tab"):
        assert [stop["wrong"] for stop in stops_of(page, key) if stop["wrong"]] == [], key


def test_a_run_is_found_retried_and_deleted_with_keys(console: FullHouse, open_page: Open) -> None:
    run_id = console.enqueue("need", f"gate={console.folder / 'nowhere'}")
    page = open_page("/")
    press(page, "Runs")
    expect(page.get_by_role("heading", name="Runs", level=1)).to_be_visible()
    expect(page.locator(f"#run-{run_id}")).to_contain_text("failed", timeout=20_000)
    press(page, "need")
    expect(page.locator("#title")).to_contain_text("failed")
    press(page, "Retry")
    expect(page.locator(".flash")).to_contain_text("It is back in its queue")
    expect(page.locator("#story")).to_contain_text("Attempt 2 failed", timeout=20_000)
    press(page, "Delete…")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    press(page, "Delete this run")
    expect(page.locator(".flash")).to_contain_text("is deleted")


def test_the_menu_and_the_help_on_keys_open_close_and_give_the_focus_back(open_page: Open) -> None:
    page = open_page("/queues")
    press(page, "Keyboard")
    expect(page.locator("#keys")).to_be_visible()
    assert page.evaluate(FOCUSED) == {"words": "Close", "wrong": ""}
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    assert page.evaluate(FOCUSED) == {"words": "Keyboard", "wrong": ""}
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    page.reload()
    press(page, "Menu")
    expect(page.locator("#menu")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == {"words": "Overview", "wrong": ""}
    page.keyboard.press("Escape")
    expect(page.locator("#menu")).to_be_hidden()
    assert page.evaluate(FOCUSED) == {"words": "Menu", "wrong": ""}


def stops_of(page: Page, key: str) -> list[dict[str, str]]:
    """Everything that the key leads to. The refreshing is held: what goes away takes the focus along."""
    hold = page.locator("#hold")
    if hold.count() and hold.get_attribute("aria-pressed") == "false":
        hold.click()
        page.evaluate("document.activeElement.blur()")
    return [page.evaluate(FOCUSED) for _ in keys(page, key)]


def keys(page: Page, key: str) -> Iterator[None]:
    """Presses the key again and again, until the focus has left the page."""
    for _ in range(400):
        page.keyboard.press(key)
        if page.evaluate(FOCUSED) is None:
            return
        yield
    raise AssertionError(f"{page.url}: the focus does not leave the page")


def press(page: Page, words: str) -> None:
    """Goes on with the tab key to what has these words, and presses Enter there."""
    page.evaluate("document.activeElement.blur()")
    for _ in keys(page, "Tab"):
        if page.evaluate(FOCUSED)["words"] == words:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{page.url}: nothing to press with {words!r}")


# --- large and spaced letters --------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ru"])
def test_enlarged_and_spaced_nothing_is_lost_or_beside_the_window(
    console: FullHouse, open_page: Open, language: str
) -> None:
    page = open_page()
    in_language(page, language)
    found = []
    for address in console.addresses():
        go(page, address)
        for size in (ENLARGED, LEAST):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            found += wrong_in(page)
        # As wide as phones are, no table is to be pushed aside to be read.
        page.set_viewport_size(NARROW)  # type: ignore[arg-type]
        found += [f"{page.url}: scrolls: {one}" for one in page.locator(".card").evaluate_all(WIDER_THAN_SHOWN)]
        page.evaluate(SPACED)
        for size in (ENLARGED, {"width": 1280, "height": 800}):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            found += wrong_in(page)
    assert found == []


def wrong_in(page: Page) -> list[str]:
    where = f"{page.url} at {page.viewport_size}"
    wide = page.evaluate(TOO_WIDE)
    beside = [f"{where}: {wide} px too wide"] if wide > 0 else []
    return beside + [f"{where}: cut off: {one}" for one in page.evaluate(CUT_OFF)]


# --- a thumb -------------------------------------------------------------------------------------------------


def test_on_a_phone_every_target_is_large_enough_for_a_thumb(console: FullHouse, open_page: Open) -> None:
    page = open_page(viewport=NARROW, has_touch=True)
    found = []
    for address in console.addresses():
        go(page, address)
        found += violations(page, {"runOnly": ["target-size"]})
    page.get_by_role("button", name="Menu").click()
    found += violations(page, {"runOnly": ["target-size"]})
    assert found == []


# --- little motion -------------------------------------------------------------------------------------------


def test_nothing_moves_for_who_asked_for_that(running: str, open_page: Open) -> None:
    page = open_page(f"/runs/{running}")
    expect(page.locator("progress")).to_be_visible(timeout=20_000)
    moving = "document.getAnimations().length"
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    for address in (f"/runs/{running}", "/", "/runs", "/queues", "/workers"):
        go(page, address)
        assert page.evaluate(moving) == 0, address


# --- few colours ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_in_the_readers_few_colours_everything_is_told(running: str, open_page: Open, theme: str) -> None:
    page = open_page(f"/runs/{running}", forced_colors="active", color_scheme=theme)
    progress = page.locator("progress")
    expect(progress).to_be_visible(timeout=20_000)
    assert contrast_in(page, "progress") > 3
    page.goto("/?hours=1")
    assert contrast_in(page, ".throughput .plot") > 3
    backgrounds = "(those) => new Set(those.map((one) => getComputedStyle(one).backgroundColor)).size"
    for group in (".menu li a", ".wishes .switch:first-of-type button", ".throughput .switch a"):
        assert page.locator(group).evaluate_all(backgrounds) == 2, group
    for words in page.locator(".state:visible").all_inner_texts():
        assert words.strip()
    assert [stop["wrong"] for stop in stops_of(page, "Tab") if stop["wrong"]] == []


def contrast_in(page: Page, selector: str) -> float:
    picture = base64.b64encode(page.locator(selector).first.screenshot()).decode()
    contrast: float = page.evaluate(CONTRAST, picture)
    return contrast


# --- paper ---------------------------------------------------------------------------------------------------


def test_a_list_is_printed_without_its_boxes(open_page: Open) -> None:
    page = open_page("/runs?state=failed")
    page.emulate_media(media="print")
    expect(page.locator("tbody tr").first).to_be_visible()
    expect(page.locator("input:visible, button:visible")).to_have_count(0)


def test_a_run_is_printed_whole_and_without_what_only_a_screen_can_do(console: FullHouse, open_page: Open) -> None:
    page = open_page(f"/runs/{console.house.run}", color_scheme="dark")
    expect(page.locator("#log")).to_be_visible()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})
    shown = "(those) => those.filter((one) => one.checkVisibility()).map((one) => one.outerHTML.slice(0, 120))"
    assert page.locator(".rail, .skip, button, .button, form, .live").evaluate_all(shown) == []
    assert page.evaluate(TOO_WIDE) <= 0
    for more in (WIDER_THAN_SHOWN, HIGHER_THAN_SHOWN):
        assert page.locator("pre").evaluate_all(more) == []
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
