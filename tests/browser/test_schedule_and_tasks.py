"""Schedule and tasks in a real browser, with a real web server and a consumer with a running scheduler."""

import os
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from browsers import PASSWORD, PEOPLE
from consumers import ROOT, consumer
from databases import bind_database
from installation import Installation
from playwright.sync_api import Locator, Page, expect
from waiting import wait_until

from browser.chromium import NARROW, WIDE, Open, assert_fits, expect_visible
from browser.layout_checks import FAINT_TEXTS
from engine.broker.effects import Effects
from engine.broker.messages import SignedJSON
from engine.broker.sqlite.storage import SqliteStorage
from engine.models import Tick, now
from engine.queues import ticks

EMAIL = PEOPLE["operator"]
STATISTICS = "get_cleanup_statistics"

with_and_without = pytest.mark.parametrize(
    ("java_script", "task"),
    [(True, "beat"), (False, "beat_again")],
    ids=["with JavaScript", "without JavaScript"],
)


class MinutelyInstallation(Installation):
    program = "minutely_tasks:create_app()"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinutelyInstallation]:
    """Return an installation whose scheduler was off for four minutes. One schedule is paused."""
    installed = MinutelyInstallation(tmp_path_factory.mktemp("clock"), PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    assert installed.flask("migrate").returncode == 0
    made = installed.flask("operator", "create", EMAIL, "--role", "operator", "--password-stdin", typed=PASSWORD)
    assert made.returncode == 0, made.stderr
    create_missed_ticks(installed.folder / "data" / "queue.db")
    options, log = ("-k", "process", "-w", "1"), installed.folder / "light.log"
    with installed.web(), consumer("minutely_tasks.light", *options, environment=installed.environment, log=log):
        with bind_database(f"sqlite:///{installed.folder}/data/dewey.db"):
            wait_until(lambda: Tick.select().where(Tick.task == "beat_held", Tick.state == "paused").exists())
        yield installed


def create_missed_ticks(file: Path) -> None:
    serializer = SignedJSON(file.with_name("secret_key").read_text().strip())
    storage = SqliteStorage("light", file, 60, serializer=serializer)
    for task in ("beat", "beat_again"):
        storage.ticks.record(task, int(time.time()) // 60 - 5, Effects())
    info = {"by": "ann@example.org", "kind": "operator", "at": now().isoformat(), "reason": "too loud", "until": None}
    storage.pauses.put(ticks.pause_key("beat_held"), info)
    storage.close()


@pytest.fixture
def open_page(open_page: Open) -> Open:
    return partial(open_page, email=EMAIL)


def card(page: Page, task: str) -> Locator:
    return page.locator(f"#schedule-{task}")


# --- schedule ------------------------------------------------------------------------------------------------


@with_and_without
def test_missed_ticks_are_shown_and_caught_up_by_one_run(open_page: Open, java_script: bool, task: str) -> None:
    page = open_page("/schedule", java_script_enabled=java_script)
    missed = card(page, task).locator("dd", has_text=re.compile(r"^\s*[45]\s*$"))
    expect(missed).to_be_visible()
    expect(card(page, task).locator("svg a[data-state=missed]")).to_have_count(1)
    card(page, task).get_by_role("button", name=re.compile("^Catch up on")).click()
    page.wait_for_url(re.compile("/runs/"))
    expect_visible(page, page.locator("#title").get_by_text("succeeded"), java_script)
    run_id = page.url.rpartition("/")[2]
    page.goto("/schedule")
    expect(card(page, task).get_by_role("button", name=re.compile("^Catch up on"))).to_have_count(0)
    card(page, task).get_by_role("link", name="1 caught up").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr a")).to_have_attribute("href", f"/runs/{run_id}")


@with_and_without
def test_schedule_is_paused_with_reason_and_end_then_resumed(open_page: Open, java_script: bool, task: str) -> None:
    page = open_page("/schedule", java_script_enabled=java_script)
    card(page, task).get_by_role("link", name="Pause…").click()
    page.get_by_label("Reason").fill("the disk is being moved")
    page.get_by_label("For").select_option("four hours")
    page.get_by_role("button", name="Pause schedule").click()
    page.wait_for_url("**/schedule")
    notice = card(page, task).locator(".notice")
    expect(notice).to_contain_text("the disk is being moved")
    expect(notice).to_contain_text(re.compile(rf"by {EMAIL} since .* until "))
    expect(card(page, task).locator("time.held")).to_have_count(5)
    card(page, task).get_by_role("button", name="Resume").click()
    expect(page.get_by_text(f"Schedule of {task} resumed.")).to_be_visible()
    expect(card(page, task).locator(".notice")).to_have_count(0)


@with_and_without
def test_scheduled_task_can_be_run_now(open_page: Open, java_script: bool, task: str) -> None:
    page = open_page("/schedule", java_script_enabled=java_script)
    card(page, task).get_by_role("button", name="Run now").click()
    page.wait_for_url(re.compile("/runs/"))
    expect_visible(page, page.locator("#title").get_by_text("succeeded"), java_script)
    expect(page.locator("main")).to_contain_text(EMAIL)
    run = page.url
    page.goto(f"/schedule/{task}")
    page.locator(f'#schedule svg a[href="{run[run.index("/runs/") :]}"]').click()
    page.wait_for_url(run)


def test_paused_schedule_starts_no_run_and_records_paused_ticks(open_page: Open) -> None:
    page = open_page("/schedule")
    expect(card(page, "beat_held")).to_contain_text("too loud")
    expect(card(page, "beat_held").locator("svg a:not([data-state=paused])")).to_have_count(0)
    expect(card(page, "beat_held").get_by_text("No scheduler")).to_have_count(0)
    expect(page.locator("#agenda")).to_contain_text("1 skipped while paused")
    page.goto("/schedule/beat_held")
    expect(page.locator("#schedule")).to_contain_text(re.compile(r"last checked by the scheduler\s*now"))
    expect(page.locator("tbody tr").first).to_contain_text("skipped while paused")


def test_keys_step_through_the_schedules(open_page: Open) -> None:
    page = open_page("/schedule")
    for task in ("beat", "beat_again"):
        page.keyboard.press("j")
        expect(card(page, task).get_by_role("link", name=task, exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/schedule/beat_again")


# --- tasks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("java_script", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_task_is_paused_run_by_hand_and_resumed(open_page: Open, java_script: bool) -> None:
    page = open_page("/tasks", java_script_enabled=java_script)
    page.get_by_role("link", name=STATISTICS).first.click()
    page.get_by_label("Reason").fill("reports run too often")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#paused")).to_contain_text("reports run too often")
    page.get_by_role("textbox", name="hours").fill("12")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile("/runs/"))
    run = page.url
    expect(page.locator("#title").get_by_text("waiting")).to_be_visible()
    page.goto(f"/tasks/{STATISTICS}")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#paused")).to_have_count(0)
    page.goto(run)
    expect_visible(page, page.locator("#title").get_by_text("succeeded"), java_script)
    page.goto("/tasks")
    expect(page.locator(f"#task-{STATISTICS} td.num").first).to_have_text(re.compile("[12]"))


# --- appearance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_schedule_and_task_pages_fit_the_window_with_enough_contrast(
    open_page: Open, size: dict[str, int], theme: str
) -> None:
    page = open_page("/", viewport=size, color_scheme=theme)
    for path in (
        "/schedule",
        "/schedule/beat",
        "/schedule/beat/pause",
        "/schedule/beat_held",
        "/tasks",
        "/tasks/beat",
        f"/tasks/{STATISTICS}",
    ):
        for language in ("ru", "en"):
            assert_fits(page, path, language)
        assert page.evaluate(FAINT_TEXTS) == [], path
