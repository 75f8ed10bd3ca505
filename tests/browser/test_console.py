"""The console in a real browser, with a real web server and a real consumer."""

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from browsers import PASSWORD, PEOPLE
from databases import bind_database
from factories import create_run, create_session
from installation import Installation
from playwright.sync_api import Page, expect

from browser.chromium import NARROW, WIDE, Open, assert_fits, expect_visible, with_and_without
from browser.layout_checks import FAINT_TEXTS
from engine.models import now
from models import ReadingSession

EMAIL = PEOPLE["operator"]


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return an installation with the sample library, a web server and the consumer of `light`."""
    installed = Installation(tmp_path_factory.mktemp("console"))
    for command in ("migrate", "demo"):
        assert installed.flask(command).returncode == 0
    made = installed.flask("operator", "create", EMAIL, "--role", "operator", "--password-stdin", typed=PASSWORD)
    assert made.returncode == 0, made.stderr
    with installed.web(), installed.consumer("light"):
        yield installed


@pytest.fixture
def console_database(console: Installation) -> Iterator[None]:
    """Bind the console's database in this process."""
    with bind_database(f"sqlite:///{console.folder}/data/dewey.db"):
        yield


@pytest.fixture
def open_page(open_page: Open) -> Open:
    return partial(open_page, email=EMAIL)


def figure_link(page: Page, label: str) -> Any:
    return page.locator(".figures div", has_text=label).locator("dd a")


# --- closing -------------------------------------------------------------------------------------------------


@with_and_without
@pytest.mark.usefixtures("console_database")
def test_preview_closes_the_abandoned_sessions(open_page: Open, java_script: bool) -> None:
    for minutes_ago in (130, 140, 150):
        create_session(minutes_ago=minutes_ago)
    # No session of the sample becomes abandoned while this test runs.
    nearly = (ReadingSession.started_at > now() - timedelta(hours=2)) & ReadingSession.open()
    ReadingSession.update(started_at=now() - timedelta(minutes=5)).where(nearly).execute()
    page = open_page(java_script_enabled=java_script)
    abandoned = int(figure_link(page, "abandoned").inner_text())
    assert abandoned >= 3
    page.get_by_role("link", name=f"Close {abandoned} now…").click()
    page.get_by_role("button", name=f"Close {abandoned} sessions").click()
    page.wait_for_url(re.compile("/runs/"))
    outcome = page.get_by_role("link", name=f"closed {abandoned} sessions")
    expect_visible(page, outcome, java_script)
    outcome.click()
    expect(page.locator("tbody tr")).to_have_count(min(abandoned, 30))
    page.goto("/")
    expect(figure_link(page, "abandoned")).to_have_text("0")
    expect(page.get_by_role("row", name=f"closed {abandoned} sessions").first).to_be_visible()


@with_and_without
@pytest.mark.usefixtures("console_database")
def test_session_is_closed_by_hand(open_page: Open, java_script: bool) -> None:
    session = create_session("another.reader@example.org", "A Book of Its Own")
    page = open_page("/sessions?reader=another.reader", java_script_enabled=java_script)
    page.get_by_role("link", name="Close the session of another.reader@example.org").click()
    page.get_by_role("button", name="Close this session").click()
    expect(page.get_by_text("Session closed.")).to_be_visible()
    expect(page.locator(f"#session-{session.id}")).to_have_count(0)
    page.get_by_role("link", name=re.compile("^Closed")).click()
    expect(page.locator(f"#session-{session.id}")).to_contain_text(f"{EMAIL}, by hand")


# --- appearance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.usefixtures("console_database")
def test_session_pages_fit_the_window_with_enough_contrast(open_page: Open, size: dict[str, int], theme: str) -> None:
    create_session("a.reader.with.quite.a.long.name@library.example.org", "Incomprehensibilities" * 3, minutes_ago=150)
    failed = create_run(
        "process_book", "failed", error="BadZipFile: " + "not a zip file" * 9, result={"a": "long" * 60}
    )
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
            assert_fits(page, path, "ru")
            assert_fits(page, path, "en")
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


def test_skip_link_bypasses_the_menu_and_focus_is_outlined(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    passed: list[str] = []
    while len(passed) < 6 and "state=active" not in (passed or [""])[-1]:
        page.keyboard.press("Tab")
        passed.append(page.evaluate("document.activeElement.outerHTML"))
    assert "state=active" in passed[-1], passed
    assert figure_link(page, "active").evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
