"""One run in a real browser: watched from the queue to its end, retried, run again, cancelled."""

import os
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from browsers import PASSWORD, PEOPLE
from consumers import ROOT, consumer
from installation import Installation
from playwright.sync_api import Page, expect

from browser.chromium import NARROW, WIDE, Open, seen, with_and_without
from browser.sight import FAINT_TEXTS

EMAIL = PEOPLE["admin"]
numbers = count(1)


class Stage(Installation):
    """The program with the tasks of `stage`, and one worker for them."""

    program = "stage:create_app()"

    def enqueue(self, task: str, *arguments: str) -> str:
        asked = self.flask("--app", self.program, "run-task", task, *arguments)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.strip()

    def gate(self) -> Path:
        return self.folder / f"gate{next(numbers)}"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"), PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    assert stage.flask("migrate").returncode == 0
    made = stage.flask("operator", "create", EMAIL, "--role", "admin", "--password-stdin", typed=PASSWORD)
    assert made.returncode == 0, made.stderr
    options = ("-k", "process", "-w", "1", "-n")
    log = stage.folder / "light.log"
    with stage.web(), consumer("stage.light", *options, environment=stage.environment, log=log):
        yield stage


@pytest.fixture
def console(stage: Stage) -> Stage:
    return stage


@pytest.fixture
def open_run(open_page: Open) -> Open:
    """Opens the page of a run. Of a form that was filled in wrongly the browser may complain."""
    return lambda run_id, **options: open_page(f"/runs/{run_id}", forgiven=("status of 422",), **options)


@with_and_without
def test_a_run_is_watched_from_its_queue_to_its_end(stage: Stage, open_run: Open, java_script: bool) -> None:
    first, second = stage.gate(), stage.gate()
    stage.enqueue("hold", f"gate={first}")
    page = open_run(stage.enqueue("hold", f"gate={second}", "chapters=38"), java_script_enabled=java_script)
    loaded: list[str] = []
    page.on("framenavigated", lambda frame: loaded.append(frame.url))
    seen(page, "waiting", java_script, "#title")
    seen(page, "The only worker of light is busy: with hold", java_script, "#why")
    first.touch()
    seen(page, "running", java_script, "#title")
    seen(page, "1 of 38 chapters", java_script, "#progress")
    seen(page, f"INFO Waiting at {second.name}", java_script, "#log")
    expect(page.locator("#why")).to_be_empty()
    second.touch()
    seen(page, "succeeded", java_script, "#title")
    seen(page, "read 38 chapters", java_script, "#result")
    seen(page, "Attempt 1 succeeded", java_script, "#story")
    seen(page, "WARNING The gate is open", java_script, "#log")
    assert not (java_script and loaded)


@with_and_without
def test_a_failed_run_is_retried(stage: Stage, open_run: Open, java_script: bool) -> None:
    gate = stage.gate()
    page = open_run(stage.enqueue("need", f"gate={gate}"), java_script_enabled=java_script)
    seen(page, "failed", java_script, "#title")
    expect(page.get_by_role("heading", name="FileNotFoundError")).to_be_visible()
    expect(page.get_by_label("Where it failed")).to_contain_text("stage.py")
    gate.touch()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("It is back in its queue, under the same id.")).to_be_visible()
    seen(page, "succeeded", java_script, "#title")
    seen(page, "Attempt 2 succeeded", java_script, "#story")


@with_and_without
def test_a_run_is_run_again_with_other_arguments(stage: Stage, open_run: Open, java_script: bool) -> None:
    gate = stage.gate()
    gate.touch()
    old = stage.enqueue("hold", f"gate={gate}", "chapters=5")
    page = open_run(old, java_script_enabled=java_script)
    page.get_by_role("link", name="Run again…").click()
    chapters = page.get_by_label("chapters")
    expect(chapters).to_have_value("5")
    chapters.fill("many")
    page.get_by_role("button", name="Run with these").click()
    expect(page.get_by_text("a whole number is needed")).to_be_visible()
    expect(chapters).to_have_value("many")
    chapters.fill("7")
    page.get_by_role("button", name="Run with these").click()
    seen(page, "read 7 chapters", java_script, "#result")
    expect(page).not_to_have_url(re.compile(old))
    page.locator("#family").get_by_role("link", name="hold").first.click()
    expect(page).to_have_url(re.compile(old))
    expect(page.locator("#call")).to_contain_text("chapters=5")


@with_and_without
def test_a_running_run_is_cancelled(stage: Stage, open_run: Open, java_script: bool) -> None:
    page = open_run(stage.enqueue("hold", f"gate={stage.gate()}"), java_script_enabled=java_script)
    seen(page, "running", java_script, "#title")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("It is being interrupted.")).to_be_visible()
    seen(page, "cancelled", java_script, "#title")
    seen(page, "Attempt 1 was interrupted", java_script, "#story")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


@with_and_without
def test_a_run_is_deleted(stage: Stage, open_run: Open, java_script: bool) -> None:
    run_id = stage.enqueue("need", f"gate={stage.gate()}")
    page = open_run(run_id, java_script_enabled=java_script)
    seen(page, "failed", java_script, "#title")
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete this run").click()
    expect(page.get_by_text(f"The run {run_id[:8]}… is deleted.")).to_be_visible()
    assert page.request.get(f"/runs/{run_id}").status == 404


def test_a_traceback_is_copied_whole(stage: Stage, open_run: Open) -> None:
    page = open_run(stage.enqueue("need", f"gate={stage.gate()}"))
    page.get_by_role("button", name="Copy traceback").click(timeout=20_000)
    copied = page.evaluate("getSelection().toString()")
    assert copied.startswith("Traceback (most recent call last):")
    assert "execute_or_fail" in copied


def test_the_pages_of_a_run_fit_every_window_and_can_be_read(stage: Stage, open_run: Open) -> None:
    gate = stage.gate()
    blocking = stage.enqueue("hold", f"gate={gate}", f"chapters={10**15}")
    waiting = stage.enqueue("need", f"gate={stage.gate()}{'very-long' * 20}")
    page = open_run(waiting)
    for path in (f"/runs/{waiting}", f"/runs/{blocking}", f"/runs/{blocking}/again"):
        page.goto(path)
        assert_it_can_be_read(page)
    gate.touch()
    page.goto(f"/runs/{waiting}")
    page.get_by_text(re.compile("^Traceback, ")).click(timeout=20_000)
    assert_it_can_be_read(page)


def assert_it_can_be_read(page: Page) -> None:
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, page.url
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        assert page.evaluate(FAINT_TEXTS) == [], page.url
