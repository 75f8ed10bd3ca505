"""A new operator with ten jobs in mind: each is done from the overview, in no more clicks than are said here."""

import os
import re
from collections.abc import Iterator

import pytest
from consumers import ROOT, consumer
from playwright.sync_api import Locator, Page, expect

from browser.chromium import NARROW, WIDE, Open
from browser.test_errors_people import Failing


class Desk:
    """A page on which clicks are counted. The button that opens the phone's menu is not."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    def click(self, what: str | Locator, role: str = "link") -> None:
        found = self.page.get_by_role(role, name=what, exact=True) if isinstance(what, str) else what  # type: ignore[arg-type]
        found.first.click()
        self.clicks += 1

    def menu(self, what: str) -> None:
        opener = self.page.get_by_role("button", name="Menu")
        if opener.is_visible():
            opener.click()
        self.click(self.page.get_by_role("navigation", name="Pages").get_by_role("link", name=what, exact=True))

    def see(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.locator("main").get_by_text(text).first).to_be_visible()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failing]:
    made = Failing(tmp_path_factory.mktemp("jobs"), PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    assert made.flask("migrate").returncode == made.flask("demo").returncode == 0
    made.people()
    log, options = made.folder / "light.log", ("-k", "process", "-w", "2", "-n")
    with made.web(), consumer("stage.light", *options, environment=made.environment, log=log) as light:
        for _ in range(5):
            light.logged(f"no {made.fail().name}")
        hold = made.flask("--app", made.program, "run-task", "hold", f"gate={made.folder / 'never'}")
        light.logged("Waiting at never")
        assert hold.returncode == made.flask("pause", "normal", "--reason", "a new disk").returncode == 0
        yield made


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def desk(request: pytest.FixtureRequest, open_page: Open) -> Desk:
    return Desk(open_page(viewport=request.param))


def test_whether_everything_is_all_right_and_who_paused_what_is_seen_at_once(desk: Desk) -> None:
    desk.see(re.compile(r"things? needs? attention"))
    desk.see(re.compile(r"a new disk"))
    assert desk.clicks == 0


def test_what_broke_last_night_is_one_click_away(desk: Desk) -> None:
    desk.click(desk.page.locator("#outcomes a[href*='failed']").nth(1))
    desk.see("FileNotFoundError")
    assert desk.clicks == 1


def test_all_that_failed_with_this_error_is_asked_for_in_two_clicks(desk: Desk) -> None:
    desk.click(desk.page.locator("#jump .go"))
    desk.click(desk.page.get_by_role("link", name=re.compile(r"^Retry 5 runs")))
    desk.see(re.compile("5 runs"))
    assert desk.clicks == 2


def test_why_a_session_is_still_open_is_said_above_the_list(desk: Desk) -> None:
    desk.click(desk.page.locator("#lead a[href*='abandoned']"))
    desk.see(re.compile(r"Next cleanup in"))
    desk.click("Still open after that?")
    expect(desk.page.locator("#session-open")).to_be_visible()
    assert desk.clicks == 2


def test_how_many_sessions_were_closed_this_week_takes_two_clicks(desk: Desk) -> None:
    desk.click(desk.page.locator("#lead a[href*='hours=24']").first)
    desk.click(desk.page.get_by_role("navigation", name="Time shown").get_by_role("link", name="7 d"))
    expect(desk.page.locator(".tabs [aria-current]")).to_have_text(re.compile(r"Closed [\d,]{3,}"))
    assert desk.clicks == 2


def test_which_worker_is_slow_leads_from_the_workers_to_their_runs(desk: Desk) -> None:
    desk.menu("Workers")
    desk.see("hold")
    desk.click("How long tasks take")
    expect(desk.page.get_by_role("heading", name="Tasks")).to_be_visible()
    assert desk.clicks == 2


def test_what_runs_in_the_next_hour_is_one_click_away(desk: Desk) -> None:
    desk.menu("Schedule")
    expect(desk.page.locator("#agenda")).to_contain_text("close_abandoned_sessions")
    expect(desk.page.get_by_role("link", name="single runs due later")).to_be_visible()
    assert desk.clicks == 1


def test_a_running_run_is_stopped_in_two_clicks(desk: Desk, console: Failing) -> None:
    asked = console.flask("--app", console.program, "run-task", "hold", f"gate={console.folder / 'nowhere'}")
    desk.click(desk.page.locator(f"#run-{asked.stdout.strip()} a"))
    expect(desk.page.locator("#title [data-state=running]")).to_be_visible()
    desk.click(desk.page.locator("#commands").get_by_role("button", name=re.compile("^Cancel")))
    expect(desk.page.locator("#title [data-state=cancelled]")).to_be_visible()
    assert desk.clicks == 2


def test_who_did_what_to_a_queue_stands_beside_its_buttons(desk: Desk) -> None:
    desk.click(desk.page.locator("#paused-normal .go"))
    desk.click("who did what to it")
    expect(desk.page.locator("#list tbody")).to_contain_text("queues.pause")
    assert desk.clicks == 2


def test_a_script_is_given_access_and_loses_it_again(desk: Desk) -> None:
    desk.menu("Tokens")
    assert desk.page.viewport_size
    name = f"nightly {desk.page.viewport_size['width']}"
    desk.page.get_by_label("Name").fill(name)
    desk.click("Create token", "button")
    expect(desk.page.locator("#secret")).to_contain_text("dewey_")
    desk.click("I have it")
    desk.click(f"Revoke {name}")
    desk.click(desk.page.locator("main form button").last)
    expect(desk.page.get_by_role("status").filter(has_text="revoked")).to_be_visible()
    assert desk.clicks == 5
