"""The console in a real browser, before a real web server and a real consumer."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from chromium import NARROW, WIDE, chromium, executable, fits, sign_in
from conftest import cannot_run
from databases import bound_to
from installation import Installation
from library import run, session
from playwright.sync_api import Browser, Page, expect

from engine.records import now
from models import ReadingSession

EMAIL, PASSWORD = "operator@example.org", "correct horse battery"

#: Visible texts whose contrast with what lies behind them is below 4.5, as `text: contrast`.
FAINT_TEXTS = """() => {
  const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = colour;
    pixel.fillRect(0, 0, 1, 1);
    return [...pixel.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const linear = (one) => (one <= 0.04 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((one) => linear(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour[3] === 255) return colour;
    }
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const [text, element] = [texts.currentNode.data.trim(), texts.currentNode.parentElement];
    if (!text || element.closest(".unseen, .skip, title") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [dark, bright] = [light(ink), light(behind(element))].sort();
    const contrast = (bright + 0.05) / (dark + 0.05);
    if (contrast < 4.5) faint.push(`${text}: ${contrast}`);
  }
  return faint;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not executable():
        cannot_run("no Chromium: apt-get install chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The sample library, with web server and the consumer of `light`."""
    installed = Installation(tmp_path_factory.mktemp("console"))
    for command in ("migrate", "demo"):
        assert installed.flask(command).returncode == 0
    made = installed.flask("operator", "create", EMAIL, "--role", "operator", "--password-stdin", typed=PASSWORD)
    assert made.returncode == 0, made.stderr
    with installed.web(), installed.consumer("light"):
        yield installed


@pytest.fixture
def library(console: Installation) -> Iterator[None]:
    """The test's own hand on the console's database."""
    with bound_to(f"sqlite:///{console.folder}/data/dewey.db"):
        yield


@pytest.fixture
def open_page(browser: Browser, console: Installation) -> Iterator[Callable[..., Page]]:
    """Opens a page in which the operator is signed in. Nobody may have cause to complain in the browser's console."""
    contexts, complaints = [], []

    def open_one(**options: Any) -> Page:
        contexts.append(context := browser.new_context(base_url=url(console), **{"viewport": WIDE, **options}))
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        sign_in(page, url(console), EMAIL, PASSWORD)
        page.complaints = complaints  # type: ignore[attr-defined]
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def url(console: Installation) -> str:
    return f"http://127.0.0.1:{console.port}"


def figure(page: Page, label: str) -> Any:
    return page.locator(".figures div", has_text=label).locator("dd a")


with_and_without = pytest.mark.parametrize("java_script", [True, False], ids=["with JavaScript", "without JavaScript"])


# --- closing -------------------------------------------------------------------------------------------------


@with_and_without
@pytest.mark.usefixtures("library")
def test_what_is_abandoned_is_closed_from_the_preview(open_page: Callable[..., Page], java_script: bool) -> None:
    for minutes_ago in (130, 140, 150):
        session(minutes_ago=minutes_ago)
    # Of the sample's sessions none becomes abandoned while this test runs.
    nearly = (ReadingSession.started_at > now() - timedelta(hours=2)) & ReadingSession.open()
    ReadingSession.update(started_at=now() - timedelta(minutes=5)).where(nearly).execute()
    page = open_page(java_script_enabled=java_script)
    abandoned = int(figure(page, "abandoned").inner_text())
    assert abandoned >= 3
    page.get_by_role("link", name=f"Close {abandoned} now…").click()
    page.get_by_role("button", name=f"Close {abandoned} sessions").click()
    page.wait_for_url(re.compile("/runs/"))
    outcome = page.get_by_role("link", name=f"closed {abandoned} sessions")
    if java_script:
        expect(outcome).to_be_visible(timeout=20_000)
    else:
        reload_until(page, lambda: outcome.is_visible())
    outcome.click()
    expect(page.locator("tbody tr")).to_have_count(min(abandoned, 30))
    page.goto("/")
    expect(figure(page, "abandoned")).to_have_text("0")
    expect(page.get_by_role("row", name=f"closed {abandoned} sessions").first).to_be_visible()


def reload_until(page: Page, condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        page.reload()
    raise AssertionError("it did not happen")


@with_and_without
@pytest.mark.usefixtures("library")
def test_one_session_is_closed_by_hand(open_page: Callable[..., Page], java_script: bool) -> None:
    one = session("nobody.else@example.org", "A Book of Its Own")
    page = open_page(java_script_enabled=java_script)
    page.goto("/sessions?reader=nobody.else")
    page.get_by_role("link", name="Close the session of nobody.else@example.org").click()
    page.get_by_role("button", name="Close this session").click()
    expect(page.get_by_text("The session is closed.")).to_be_visible()
    expect(page.locator(f"#session-{one.id}")).to_have_count(0)
    page.get_by_role("link", name=re.compile("^Closed")).click()
    expect(page.locator(f"#session-{one.id}")).to_contain_text(f"{EMAIL}, by hand")


# --- what the pages look like --------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.usefixtures("library")
def test_every_page_fits_its_window_and_can_be_read(
    open_page: Callable[..., Page], size: dict[str, int], theme: str
) -> None:
    session("a.reader.with.quite.a.long.name@library.example.org", "Incomprehensibilities" * 3, minutes_ago=150)
    failed = run("process_book", "failed", error="BadZipFile: " + "not a zip file" * 9, result={"a": "long" * 60})
    page = open_page(viewport=size, color_scheme=theme)
    closing = page.request.get("/sessions?state=abandoned").text().partition("/close")[0].rpartition('"')[2] + "/close"
    pages = [
        "/",
        "/sessions",
        "/sessions?state=closed&hours=24",
        "/sessions?state=abandoned",
        "/sessions/cleanup",
        "/sessions/charts",
        "/runs",
        f"/runs/{failed.id}",
        closing,
    ]
    for path in pages:
        if path.startswith("/sessions"):
            fits(page, path, "ru")
            fits(page, path, "en")
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert page.evaluate(FAINT_TEXTS) == [], path
    if size is NARROW:
        page.get_by_role("button", name="Menu").click()
        assert page.evaluate(FAINT_TEXTS) == []
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate(FAINT_TEXTS) == []


def test_the_keyboard_skips_the_rail_and_sees_where_it_is(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    passed: list[str] = []
    while len(passed) < 6 and "state=active" not in (passed or [""])[-1]:
        page.keyboard.press("Tab")
        passed.append(page.evaluate("document.activeElement.outerHTML"))
    assert "state=active" in passed[-1], passed
    assert figure(page, "active").evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
