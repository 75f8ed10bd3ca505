"""Errors, audit log, users and tokens in a real browser, with a worker whose tasks fail."""

import os
import re
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from browsers import PASSWORD, PEOPLE
from consumers import ROOT, consumer
from databases import bind_database
from installation import Installation
from playwright.sync_api import expect

from browser.chromium import NARROW, WIDE, Open, expect_text, with_and_without
from browser.layout_checks import FAINT_TEXTS
from engine.models import Attempt, ErrorGroup, Run, RunCount
from models import AuditEntry, BrowserSession, Operator, Token

STATS = "/api/v1/admin/reading-sessions/cleanup-stats"
numbers = count(1)


class FailingInstallation(Installation):
    program = "gated_tasks:create_app()"

    def fail(self) -> Path:
        """Enqueue a run that fails until a file of this name exists."""
        gate = self.folder / f"gate{next(numbers)}"
        result = self.flask("--app", self.program, "run-task", "need", f"gate={gate}")
        assert result.returncode == 0, result.stderr
        return gate

    def people(self) -> None:
        for role in ("viewer", "operator", "admin"):
            words = ("operator", "create", f"{role}@example.org", "--role", role, "--password-stdin")
            assert self.flask(*words, typed=PASSWORD).returncode == 0

    def sql(self, *statements: str) -> None:
        with sqlite3.connect(self.folder / "data" / "dewey.db") as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingInstallation]:
    installed = FailingInstallation(
        tmp_path_factory.mktemp("failing"), PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    )
    assert installed.flask("migrate").returncode == 0
    installed.people()
    options = ("-k", "process", "-w", "1", "-n")
    log = installed.folder / "light.log"
    with installed.web(), consumer("gated_tasks.light", *options, environment=installed.environment, log=log):
        yield installed


@pytest.fixture(autouse=True)
def database(console: FailingInstallation) -> Iterator[None]:
    """Bind the console's database in this process, without the failures of the previous test."""
    with bind_database(f"sqlite:///{console.folder}/data/dewey.db"):
        for model in (ErrorGroup, Attempt, Run, RunCount, Token):
            model.delete().execute()
        BrowserSession.delete().where(BrowserSession.operator == Operator.get(email=PEOPLE["operator"])).execute()
        Operator.update(disabled_at=None).execute()
        yield


# --- errors --------------------------------------------------------------------------------------------------


@with_and_without
def test_resolved_error_reopens_and_all_its_runs_are_retried(
    console: FailingInstallation, open_page: Open, java_script: bool
) -> None:
    gates = [console.fail()]
    page = open_page("/errors", email=PEOPLE["operator"], java_script_enabled=java_script)
    expect_text(page, "FileNotFoundError", java_script, "#list")
    page.get_by_role("link", name="FileNotFoundError").click()
    expect(page.locator("#about")).to_contain_text("tests/gated_tasks.py, in need")
    page.get_by_role("button", name="Resolve").click()
    expect(page.locator("#attention")).to_contain_text("by operator@example.org")
    expect(page.get_by_role("button", name="Resolve")).to_have_count(0)
    gates.append(console.fail())
    expect_text(page, "Regressed", java_script, "#attention")
    expect_text(page, "^2$", java_script, "#figures")
    page.get_by_role("link", name="Retry 2 runs…").click()
    for gate in gates:
        gate.touch()
    page.get_by_role("button", name="Retry 2 runs").click()
    page.wait_for_url("**/bulk/*")
    expect_text(page, "2 of 2|done", java_script)
    page.goto("/errors")
    page.get_by_role("link", name="FileNotFoundError").click()
    expect_text(page, "succeeded", java_script, "#examples")
    expect(page.get_by_role("link", name=re.compile("Retry"))).to_have_count(0)


@with_and_without
def test_snoozed_error_leaves_the_open_list_and_is_reopened(
    console: FailingInstallation, open_page: Open, java_script: bool
) -> None:
    console.fail()
    page = open_page("/errors", email=PEOPLE["operator"], java_script_enabled=java_script)
    expect_text(page, "FileNotFoundError", java_script, "#list")
    page.get_by_role("link", name="FileNotFoundError").click()
    page.locator("select[name=for]").select_option("4h")
    page.get_by_role("button", name="Snooze").click()
    expect(page.locator("#attention")).to_contain_text("Snoozed")
    page.goto("/errors")
    expect(page.locator("#list")).to_contain_text("There are no open errors.")
    page.get_by_role("link", name="Snoozed 1").click()
    page.get_by_role("link", name="FileNotFoundError").click()
    page.get_by_role("button", name="Reopen").click()
    page.goto("/errors")
    expect(page.locator("#list")).to_contain_text("FileNotFoundError")


# --- audit ---------------------------------------------------------------------------------------------------


def test_tampered_audit_row_is_reported_by_command_and_page(console: FailingInstallation, open_page: Open) -> None:
    page = open_page("/audit?action=operators.create")
    assert console.flask("audit", "verify").returncode == 0
    row = AuditEntry.get(AuditEntry.target == "operator@example.org").id
    expect(page.locator(f"#line-{row}")).to_contain_text("operator@example.org")
    expect(page.locator("#list")).not_to_contain_text("altered")
    console.sql("DROP TRIGGER dewey_audit_no_update", f"UPDATE dewey_audit SET target = 'x' WHERE id = {row}")
    output = console.flask("audit", "verify")
    assert (output.returncode, f"row {row} was changed" in output.stdout) == (1, True)
    expect(page.locator(f"#line-{row}")).to_contain_text("altered", timeout=20_000)
    page.goto(f"/audit/{row}")
    expect(page.locator("main")).to_contain_text("changed after it was written")
    console.sql(f"UPDATE dewey_audit SET target = 'operator@example.org' WHERE id = {row}")
    assert console.flask("audit", "verify").returncode == 0


@with_and_without
def test_audit_page_filters_and_shows_values_before_and_after(
    console: FailingInstallation, open_page: Open, java_script: bool
) -> None:
    assert console.flask("operator", "role", "viewer@example.org", "operator").returncode == 0
    assert console.flask("operator", "role", "viewer@example.org", "viewer").returncode == 0
    page = open_page("/audit", java_script_enabled=java_script)
    page.get_by_label("Action").select_option("operators.role")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#list tbody tr").first).to_contain_text("viewer@example.org")
    expect(page.locator("#list")).not_to_contain_text("sign_in")
    page.locator("#list tbody tr").first.get_by_role("link").first.click()
    expect(page.locator("#changes")).to_contain_text("operator")
    expect(page.locator("#changes tbody tr")).to_have_text(re.compile(r"role\s*operator\s*viewer"))


# --- users ---------------------------------------------------------------------------------------------------


@with_and_without
def test_token_is_created_used_and_revoked(console: FailingInstallation, open_page: Open, java_script: bool) -> None:
    page = open_page("/tokens", java_script_enabled=java_script)
    page.get_by_label("Name").fill("nightly")
    page.get_by_role("button", name="Create token").click()
    headers = {"Authorization": f"Bearer {page.locator('#secret').inner_text().strip()}"}
    assert console.ask("GET", STATS, headers).status == 200
    page.get_by_role("link", name="I have copied it").click()
    expect(page.locator("#list")).to_contain_text("nightly")
    expect(page.locator("#list")).not_to_contain_text("never")
    page.get_by_role("link", name="Revoke nightly").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("#list")).to_contain_text("revoked")
    assert console.ask("GET", STATS, headers).status == 401


@with_and_without
def test_disabling_an_operator_ends_their_session(
    console: FailingInstallation, open_page: Open, java_script: bool
) -> None:
    viewer_page = open_page("/runs", email=PEOPLE["viewer"], java_script_enabled=java_script)
    page = open_page("/operators", java_script_enabled=java_script)
    page.get_by_role("link", name="viewer@example.org").click()
    page.get_by_role("link", name="Disable…").click()
    page.get_by_role("button", name="Disable").click()
    expect(page.locator("#title")).to_contain_text("disabled")
    if java_script:
        expect(viewer_page.locator("#banner")).to_contain_text("You are signed out.", timeout=20_000)
    viewer_page.goto("/")
    expect(viewer_page).to_have_url(re.compile("/login"))


@with_and_without
def test_password_change_signs_out_the_other_browser(
    console: FailingInstallation, open_page: Open, java_script: bool
) -> None:
    other_page, page = (
        open_page("/me", email=PEOPLE["operator"], new_session=True, java_script_enabled=java_script) for _ in range(2)
    )
    expect(page.locator("#sessions tbody tr")).to_have_count(2)
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("another good one")
    page.get_by_label("New password again").fill("another good one")
    page.get_by_role("button", name="Change password").click()
    expect(page.locator(".flash")).to_contain_text("Password changed")
    expect(page.locator("#sessions tbody tr")).to_have_count(1)
    other_page.goto("/")
    expect(other_page).to_have_url(re.compile("/login"))
    words = ("operator", "password", "operator@example.org", "--password-stdin")
    assert console.flask(*words, typed=PASSWORD).returncode == 0


# --- appearance ----------------------------------------------------------------------------------------------

PAGES = ("/errors", "/errors/{group}", "/audit", "/audit/1", "/operators", "/operators/1", "/tokens", "/me")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_error_audit_and_people_pages_fit_the_window_with_enough_contrast(
    console: FailingInstallation, open_page: Open, theme: str, size: dict[str, int]
) -> None:
    console.fail()
    console.flask("token", "create", "nightly statistics of the library", "--role", "operator")
    page = open_page("/errors", viewport=size, color_scheme=theme)
    expect_text(page, "FileNotFoundError", True, "#list")
    group = ErrorGroup.get().id
    for path in PAGES:
        page.goto(path.format(group=group))
        expect(page.locator("h1")).to_have_count(1)
        beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert beyond <= 0, f"{path} is {beyond} px too wide"
        assert page.evaluate(FAINT_TEXTS) == [], path
