"""The list of runs in a real browser: filters, search, saved views, and retrying many runs at once."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from browsers import PASSWORD, PEOPLE
from databases import bind_database
from factories import create_run
from installation import Installation
from playwright.sync_api import Page, expect

from browser.chromium import NARROW, WIDE, Open, expect_visible, with_and_without
from browser.layout_checks import FAINT_TEXTS
from engine.models import BulkAction, Run, now
from engine.search import run_search
from models import SavedView

EMAIL = PEOPLE["admin"]
TASK = "get_cleanup_statistics"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return a web server and the consumer of `light`."""
    installed = Installation(tmp_path_factory.mktemp("runs"))
    assert installed.flask("migrate").returncode == 0
    made = installed.flask("operator", "create", EMAIL, "--role", "admin", "--password-stdin", typed=PASSWORD)
    assert made.returncode == 0, made.stderr
    with installed.web(), installed.consumer("light"):
        yield installed


@pytest.fixture(autouse=True)
def console_database(console: Installation) -> Iterator[None]:
    """Bind the console's database in this process, without the runs and views of the previous test."""
    with bind_database(f"sqlite:///{console.folder}/data/dewey.db"):
        for model in (Run, SavedView):
            model.delete().execute()
        yield


def create_failed_run(**values: Any) -> Run:
    columns = {"error": "ConnectionError: refused", "kwargs": {"hours": 24}, "attempts": 1, "ended_at": now(), **values}
    return create_run(TASK, "failed", **columns)


def rows(page: Page) -> Any:
    return page.locator("tbody tr")


@with_and_without
def test_runs_are_filtered_searched_and_saved_as_a_view(open_page: Open, java_script: bool) -> None:
    refused_run = create_failed_run()
    create_failed_run(error="ValueError: no")
    create_run("process_book", "failed", queue="heavy", error="ConnectionError: refused")
    create_run(TASK)
    page = open_page("/runs", java_script_enabled=java_script)
    expect(rows(page)).to_have_count(4)
    page.locator("select[name=task]").select_option(TASK)
    page.get_by_role("button", name="Filter").click()
    expect(rows(page)).to_have_count(3)
    page.get_by_role("link", name=re.compile("^Failed")).click()
    expect(rows(page)).to_have_count(2)
    page.get_by_label("Search").fill("refused args.hours:24 attempts:1")
    page.get_by_role("button", name="Filter").click()
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_have_id(f"run-{refused_run.id}")
    page.get_by_text("Save view…").click()
    page.get_by_label("Name").fill("Refused statistics")
    page.get_by_label("for all users").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("View Refused statistics saved.")).to_be_visible()
    page.goto("/runs")
    expect(rows(page)).to_have_count(4)
    page.get_by_role("link", name="Refused statistics").click()
    expect(rows(page)).to_have_id(f"run-{refused_run.id}")
    page.get_by_role("button", name="Delete view Refused statistics").click()
    expect(page.get_by_role("link", name="Refused statistics")).to_have_count(0)


@with_and_without
def test_search_error_is_shown_and_corrected_in_place(open_page: Open, java_script: bool) -> None:
    run = create_failed_run()
    page = open_page("/runs?q=sate:failed", java_script_enabled=java_script)
    expect(page.get_by_role("alert").filter(has_text="sate:failed: unknown filter sate")).to_be_visible()
    page.get_by_label("Search").fill("state:failed")
    page.get_by_role("button", name="Filter").click()
    expect(rows(page)).to_have_id(f"run-{run.id}")
    expect(page.get_by_label("Search")).to_have_value("")
    expect(page.get_by_role("link", name=re.compile("^Failed"))).to_have_attribute("aria-current", "page")


@with_and_without
def test_ticked_runs_are_retried_with_a_result_page(open_page: Open, java_script: bool) -> None:
    ticked, other = [create_failed_run() for _ in range(2)], create_failed_run()
    page = open_page("/runs?state=failed", java_script_enabled=java_script)
    for run in ticked:
        page.locator(f"#run-{run.id} input").check()
    page.get_by_role("group", name="Selected runs").get_by_role("button", name="Retry…").click()
    expect(page.get_by_role("heading", name="Retry 2 runs?")).to_be_visible()
    page.get_by_role("button", name="Retry 2 runs").click()
    page.wait_for_url(re.compile("/bulk/"))
    expect_visible(page, page.get_by_text("2 of 2"), java_script)
    expect(page.locator("tbody").get_by_text("done", exact=True)).to_have_count(2)
    succeeded = page.locator("tbody").get_by_text("succeeded", exact=True)
    expect_visible(page, succeeded.nth(1), java_script)
    assert Run.get_by_id(other.id).state == "failed"


@with_and_without
def test_all_runs_matching_a_filter_are_retried(open_page: Open, java_script: bool) -> None:
    expected = [create_failed_run(enqueued_at=now() - timedelta(minutes=number)) for number in range(35)]
    create_failed_run(error="ValueError: no")
    page = open_page("/runs?state=failed&q=refused", java_script_enabled=java_script)
    expect(rows(page)).to_have_count(30)
    page.get_by_role("link", name="retry…").click()
    expect(page.get_by_role("heading", name="Retry 35 runs?")).to_be_visible()
    expect(rows(page)).to_have_count(10)
    page.get_by_role("button", name="Retry 35 runs").click()
    page.wait_for_url(re.compile("/bulk/"))
    expect_visible(page, page.get_by_text("35 of 35"), java_script)
    expect(page.locator("#progress progress")).to_have_attribute("value", "35")
    assert BulkAction.select().order_by(BulkAction.id.desc()).get().total == len(expected)
    page.get_by_role("link", name="Refused").click()
    expect(page.get_by_text("None.")).to_be_visible()


def test_check_all_counts_the_page_and_excludes_new_runs(open_page: Open) -> None:
    for number in range(3):
        create_failed_run(enqueued_at=now() - timedelta(minutes=number))
    page = open_page("/runs?state=failed")
    page.get_by_label("Select all on this page").check()
    ticked = page.locator('[name="run"]:checked')
    expect(ticked).to_have_count(3)
    newcomer = create_failed_run(enqueued_at=now() + timedelta(minutes=1))
    expect(page.locator(f"#run-{newcomer.id}")).to_be_visible(timeout=5_000)
    expect(ticked).to_have_count(3)
    expect(page.locator(f"#run-{newcomer.id} input")).not_to_be_checked()


def test_search_without_matches_continues_by_itself(open_page: Open) -> None:
    at = now()
    needle = create_failed_run(error="a needle", enqueued_at=at - timedelta(days=3))
    row = {"task": TASK, "queue": "light", "state": "succeeded", "retries": 0, "attempts": 1, "deliveries": 1}
    many = [
        {"id": f"filler-{number}", "enqueued_at": at - timedelta(seconds=number), **row}
        for number in range(run_search.SCAN_LIMIT + 10)
    ]
    for start in range(0, len(many), 1000):
        Run.insert_many(many[start : start + 1000]).execute()
    page = open_page("/runs?q=needle")
    expect(page.locator(f"#run-{needle.id}")).to_be_visible(timeout=20_000)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_run_list_and_bulk_pages_fit_the_window_with_enough_contrast(
    open_page: Open, size: dict[str, int], theme: str
) -> None:
    create_failed_run(error="BadZipFile: " + "not a zip file" * 9)
    create_failed_run(kwargs={"title": "Incomprehensibilities" * 5})
    SavedView.create(name="Incomprehensibilities" * 2, search="state:failed", owner=EMAIL, shared=True)
    page = open_page("/runs?state=failed", viewport=size, color_scheme=theme)
    page.get_by_role("link", name="cancel…").click()
    page.get_by_role("button", name=re.compile("^Cancel 2")).click()
    page.wait_for_url(re.compile("/bulk/"))
    account = page.url
    pages = ["/runs?state=failed&by=schedule&worker=x", "/runs?q=foo:bar", "/bulk/new?verb=retry&state=failed", "/bulk"]
    for path in [account, *pages]:
        page.goto(path)
        for summary in page.locator("main details summary").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert page.evaluate(FAINT_TEXTS) == [], path
