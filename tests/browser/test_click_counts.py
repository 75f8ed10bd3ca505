"""Ten jobs of a new operator: each is done from the overview within a fixed number of clicks."""

import os
import re
from collections.abc import Iterator

import pytest
from consumers import ROOT, consumer
from playwright.sync_api import Locator, Page, expect

from browser.chromium import NARROW, WIDE, Open
from browser.test_errors_people import FailingInstallation


class ClickCounter:
    """A page that counts clicks, except on the button of the phone's menu."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    def click(self, what: str | Locator, role: str = "link") -> None:
        locator = self.page.get_by_role(role, name=what, exact=True) if isinstance(what, str) else what  # type: ignore[arg-type]
        locator.first.click()
        self.clicks += 1

    def menu(self, what: str) -> None:
        opener = self.page.get_by_role("button", name="Menu")
        if opener.is_visible():
            opener.click()
        self.click(self.page.get_by_role("navigation", name="Pages").get_by_role("link", name=what, exact=True))

    def see(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.locator("main").get_by_text(text).first).to_be_visible()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingInstallation]:
    made = FailingInstallation(tmp_path_factory.mktemp("jobs"), PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    assert made.flask("migrate").returncode == made.flask("demo").returncode == 0
    made.people()
    log, options = made.folder / "light.log", ("-k", "process", "-w", "2", "-n")
    with made.web(), consumer("gated_tasks.light", *options, environment=made.environment, log=log) as light:
        for _ in range(5):
            light.logged(f"no {made.fail().name}")
        hold = made.flask("--app", made.program, "run-task", "hold", f"gate={made.folder / 'never'}")
        light.logged("Waiting at never")
        assert hold.returncode == made.flask("pause", "normal", "--reason", "a new disk").returncode == 0
        yield made


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def counter(request: pytest.FixtureRequest, open_page: Open) -> ClickCounter:
    return ClickCounter(open_page(viewport=request.param))


def test_overview_shows_problems_and_pause_reason_without_a_click(counter: ClickCounter) -> None:
    counter.see(re.compile(r"things? needs? attention"))
    counter.see(re.compile(r"a new disk"))
    assert counter.clicks == 0


def test_failures_of_last_night_take_one_click(counter: ClickCounter) -> None:
    counter.click(counter.page.locator("#outcomes a[href*='failed']").nth(1))
    counter.see("FileNotFoundError")
    assert counter.clicks == 1


def test_retrying_all_runs_of_an_error_takes_two_clicks(counter: ClickCounter) -> None:
    counter.click(counter.page.locator("#jump .go"))
    counter.click(counter.page.get_by_role("link", name=re.compile(r"^Retry 5 runs")))
    counter.see(re.compile("5 runs"))
    assert counter.clicks == 2


def test_reason_for_an_open_session_takes_two_clicks(counter: ClickCounter) -> None:
    counter.click(counter.page.locator("#lead a[href*='abandoned']"))
    counter.see(re.compile(r"Next cleanup in"))
    counter.click("Still open after the cleanup?")
    expect(counter.page.locator("#session-open")).to_be_visible()
    assert counter.clicks == 2


def test_sessions_closed_this_week_take_two_clicks(counter: ClickCounter) -> None:
    counter.click(counter.page.locator("#lead a[href*='hours=24']").first)
    counter.click(counter.page.get_by_role("navigation", name="Time window").get_by_role("link", name="7 d"))
    expect(counter.page.locator(".tabs [aria-current]")).to_have_text(re.compile(r"Closed [\d,]{3,}"))
    assert counter.clicks == 2


def test_task_durations_are_two_clicks_from_the_overview(counter: ClickCounter) -> None:
    counter.menu("Workers")
    counter.see("hold")
    counter.click("Task durations")
    expect(counter.page.get_by_role("heading", name="Tasks")).to_be_visible()
    assert counter.clicks == 2


def test_schedule_of_the_next_hour_takes_one_click(counter: ClickCounter) -> None:
    counter.menu("Schedule")
    expect(counter.page.locator("#agenda")).to_contain_text("close_abandoned_sessions")
    expect(counter.page.get_by_role("link", name="scheduled single runs")).to_be_visible()
    assert counter.clicks == 1


def test_cancelling_a_running_run_takes_two_clicks(counter: ClickCounter, console: FailingInstallation) -> None:
    result = console.flask("--app", console.program, "run-task", "hold", f"gate={console.folder / 'nowhere'}")
    counter.click(counter.page.locator(f"#run-{result.stdout.strip()} a"))
    expect(counter.page.locator("#title [data-state=running]")).to_be_visible()
    counter.click(counter.page.locator("#commands").get_by_role("button", name=re.compile("^Cancel")))
    expect(counter.page.locator("#title [data-state=cancelled]")).to_be_visible()
    assert counter.clicks == 2


def test_audit_of_a_queue_takes_two_clicks(counter: ClickCounter) -> None:
    counter.click(counter.page.locator("#paused-normal .go"))
    counter.click("audit log")
    expect(counter.page.locator("#list tbody")).to_contain_text("queues.pause")
    assert counter.clicks == 2


def test_creating_and_revoking_a_token_takes_five_clicks(counter: ClickCounter) -> None:
    counter.menu("Tokens")
    assert counter.page.viewport_size
    name = f"nightly {counter.page.viewport_size['width']}"
    counter.page.get_by_label("Name").fill(name)
    counter.click("Create token", "button")
    expect(counter.page.locator("#secret")).to_contain_text("dewey_")
    counter.click("I have copied it")
    counter.click(f"Revoke {name}")
    counter.click(counter.page.locator("main form button").last)
    expect(counter.page.get_by_role("status").filter(has_text="revoked")).to_be_visible()
    assert counter.clicks == 5
