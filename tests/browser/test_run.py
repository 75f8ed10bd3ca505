"""The page of a run in a real browser: from enqueue to its end, retry, run again, cancel."""

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

from browser.chromium import NARROW, WIDE, Open, expect_text, with_and_without
from browser.layout_checks import FAINT_TEXTS

EMAIL = PEOPLE["admin"]
numbers = count(1)


class GatedInstallation(Installation):
    """The program with the tasks of `stage`, and one worker for them."""

    program = "gated_tasks:create_app()"

    def enqueue(self, task: str, *arguments: str) -> str:
        result = self.flask("--app", self.program, "run-task", task, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def gate(self) -> Path:
        return self.folder / f"gate{next(numbers)}"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedInstallation]:
    stage = GatedInstallation(tmp_path_factory.mktemp("stage"), PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    assert stage.flask("migrate").returncode == 0
    made = stage.flask("operator", "create", EMAIL, "--role", "admin", "--password-stdin", typed=PASSWORD)
    assert made.returncode == 0, made.stderr
    options = ("-k", "process", "-w", "1", "-n")
    log = stage.folder / "light.log"
    with stage.web(), consumer("gated_tasks.light", *options, environment=stage.environment, log=log):
        yield stage


@pytest.fixture
def console(installation: GatedInstallation) -> GatedInstallation:
    return installation


@pytest.fixture
def open_run(open_page: Open) -> Open:
    """Return a function that opens the page of a run. The browser may report a form that was filled in wrongly."""
    return lambda run_id, **options: open_page(f"/runs/{run_id}", forgiven=("status of 422",), **options)


@with_and_without
def test_run_page_follows_the_run_from_queue_to_end(
    installation: GatedInstallation, open_run: Open, java_script: bool
) -> None:
    first, second = installation.gate(), installation.gate()
    installation.enqueue("hold", f"gate={first}")
    page = open_run(installation.enqueue("hold", f"gate={second}", "chapters=38"), java_script_enabled=java_script)
    loaded: list[str] = []
    page.on("framenavigated", lambda frame: loaded.append(frame.url))
    expect_text(page, "waiting", java_script, "#title")
    expect_text(page, "The only worker of queue light is busy: hold", java_script, "#why")
    first.touch()
    expect_text(page, "running", java_script, "#title")
    expect_text(page, "1 of 38 chapters", java_script, "#progress")
    expect_text(page, f"INFO Waiting at {second.name}", java_script, "#log")
    expect(page.locator("#why")).to_be_empty()
    second.touch()
    expect_text(page, "succeeded", java_script, "#title")
    expect_text(page, "read 38 chapters", java_script, "#result")
    expect_text(page, "Attempt 1 succeeded", java_script, "#story")
    expect_text(page, "WARNING The gate is open", java_script, "#log")
    assert not (java_script and loaded)


@with_and_without
def test_failed_run_is_retried(installation: GatedInstallation, open_run: Open, java_script: bool) -> None:
    gate = installation.gate()
    page = open_run(installation.enqueue("need", f"gate={gate}"), java_script_enabled=java_script)
    expect_text(page, "failed", java_script, "#title")
    expect(page.get_by_role("heading", name="FileNotFoundError")).to_be_visible()
    expect(page.get_by_label("Stack trace", exact=True)).to_contain_text("gated_tasks.py")
    gate.touch()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("re-queued.")).to_be_visible()
    expect_text(page, "succeeded", java_script, "#title")
    expect_text(page, "Attempt 2 succeeded", java_script, "#story")


@with_and_without
def test_run_again_starts_a_run_with_changed_arguments(
    installation: GatedInstallation, open_run: Open, java_script: bool
) -> None:
    gate = installation.gate()
    gate.touch()
    old = installation.enqueue("hold", f"gate={gate}", "chapters=5")
    page = open_run(old, java_script_enabled=java_script)
    page.get_by_role("link", name="Run again…").click()
    chapters = page.get_by_label("chapters")
    expect(chapters).to_have_value("5")
    chapters.fill("many")
    page.get_by_role("button", name="Run with these arguments").click()
    expect(page.get_by_text("must be a whole number")).to_be_visible()
    expect(chapters).to_have_value("many")
    chapters.fill("7")
    page.get_by_role("button", name="Run with these arguments").click()
    expect_text(page, "read 7 chapters", java_script, "#result")
    expect(page).not_to_have_url(re.compile(old))
    page.locator("#family").get_by_role("link", name="hold").first.click()
    expect(page).to_have_url(re.compile(old))
    expect(page.locator("#call")).to_contain_text("chapters=5")


@with_and_without
def test_running_run_is_cancelled(installation: GatedInstallation, open_run: Open, java_script: bool) -> None:
    page = open_run(installation.enqueue("hold", f"gate={installation.gate()}"), java_script_enabled=java_script)
    expect_text(page, "running", java_script, "#title")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("is being interrupted.")).to_be_visible()
    expect_text(page, "cancelled", java_script, "#title")
    expect_text(page, "Attempt 1 was interrupted", java_script, "#story")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


@with_and_without
def test_run_is_deleted(installation: GatedInstallation, open_run: Open, java_script: bool) -> None:
    run_id = installation.enqueue("need", f"gate={installation.gate()}")
    page = open_run(run_id, java_script_enabled=java_script)
    expect_text(page, "failed", java_script, "#title")
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete this run").click()
    expect(page.get_by_text(f"Run {run_id[:8]}… deleted.")).to_be_visible()
    assert page.request.get(f"/runs/{run_id}").status == 404


def test_copy_button_selects_the_whole_traceback(installation: GatedInstallation, open_run: Open) -> None:
    page = open_run(installation.enqueue("need", f"gate={installation.gate()}"))
    page.get_by_role("button", name="Copy stack trace").click(timeout=20_000)
    copied = page.evaluate("getSelection().toString()")
    assert copied.startswith("Traceback (most recent call last):")
    assert "execute_or_fail" in copied


def test_run_pages_fit_every_window_with_enough_contrast(installation: GatedInstallation, open_run: Open) -> None:
    gate = installation.gate()
    blocking = installation.enqueue("hold", f"gate={gate}", f"chapters={10**15}")
    waiting = installation.enqueue("need", f"gate={installation.gate()}{'very-long' * 20}")
    page = open_run(waiting)
    for path in (f"/runs/{waiting}", f"/runs/{blocking}", f"/runs/{blocking}/again"):
        page.goto(path)
        assert_readable(page)
    gate.touch()
    page.goto(f"/runs/{waiting}")
    page.get_by_text(re.compile("^Stack trace, ")).click(timeout=20_000)
    assert_readable(page)


def assert_readable(page: Page) -> None:
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, page.url
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        assert page.evaluate(FAINT_TEXTS) == [], page.url
