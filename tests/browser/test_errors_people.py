"""Errors, the audit, people and tokens in a real browser, with a real worker that really fails."""

import os
import re
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from browsers import PASSWORD, PEOPLE
from consumers import ROOT, consumer
from databases import bound_to
from installation import Installation
from playwright.sync_api import expect

from browser.chromium import NARROW, WIDE, Open, seen, with_and_without
from browser.sight import FAINT_TEXTS
from engine.models import Attempt, ErrorGroup, Run, RunCount
from models import AuditEntry, Operator, SignIn, Token

STATS = "/api/v1/admin/reading-sessions/cleanup-stats"
numbers = count(1)


class Failing(Installation):
    program = "stage:create_app()"

    def fail(self) -> Path:
        """Enqueue a run that fails until there is a file of this name."""
        gate = self.folder / f"gate{next(numbers)}"
        asked = self.flask("--app", self.program, "run-task", "need", f"gate={gate}")
        assert asked.returncode == 0, asked.stderr
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
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failing]:
    installed = Failing(tmp_path_factory.mktemp("failing"), PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    assert installed.flask("migrate").returncode == 0
    installed.people()
    options = ("-k", "process", "-w", "1", "-n")
    log = installed.folder / "light.log"
    with installed.web(), consumer("stage.light", *options, environment=installed.environment, log=log):
        yield installed


@pytest.fixture(autouse=True)
def database(console: Failing) -> Iterator[None]:
    """The test's own hand on the console's database, without the failures of the test before."""
    with bound_to(f"sqlite:///{console.folder}/data/dewey.db"):
        for model in (ErrorGroup, Attempt, Run, RunCount, Token):
            model.delete().execute()
        SignIn.delete().where(SignIn.operator == Operator.get(email=PEOPLE["operator"])).execute()
        Operator.update(disabled_at=None).execute()
        yield


# --- errors --------------------------------------------------------------------------------------------------


@with_and_without
def test_an_error_is_resolved_comes_back_and_all_of_it_is_retried(
    console: Failing, open_page: Open, java_script: bool
) -> None:
    gates = [console.fail()]
    page = open_page("/errors", who=PEOPLE["operator"], java_script_enabled=java_script)
    seen(page, "FileNotFoundError", java_script, "#list")
    page.get_by_role("link", name="FileNotFoundError").click()
    expect(page.locator("#about")).to_contain_text("tests/stage.py, in need")
    page.get_by_role("button", name="Resolve").click()
    expect(page.locator("#attention")).to_contain_text("by operator@example.org")
    expect(page.get_by_role("button", name="Resolve")).to_have_count(0)
    gates.append(console.fail())
    seen(page, "Regressed", java_script, "#attention")
    seen(page, "^2$", java_script, "#figures")
    page.get_by_role("link", name="Retry 2 runs…").click()
    for gate in gates:
        gate.touch()
    page.get_by_role("button", name="Retry 2 runs").click()
    page.wait_for_url("**/bulk/*")
    seen(page, "2 of 2|done", java_script)
    page.goto("/errors")
    page.get_by_role("link", name="FileNotFoundError").click()
    seen(page, "succeeded", java_script, "#examples")
    expect(page.get_by_role("link", name=re.compile("Retry"))).to_have_count(0)


@with_and_without
def test_a_snoozed_error_leaves_the_open_ones_and_is_opened_again(
    console: Failing, open_page: Open, java_script: bool
) -> None:
    console.fail()
    page = open_page("/errors", who=PEOPLE["operator"], java_script_enabled=java_script)
    seen(page, "FileNotFoundError", java_script, "#list")
    page.get_by_role("link", name="FileNotFoundError").click()
    page.locator("select[name=for]").select_option("4h")
    page.get_by_role("button", name="Snooze it").click()
    expect(page.locator("#attention")).to_contain_text("Snoozed")
    page.goto("/errors")
    expect(page.locator("#list")).to_contain_text("No error is open.")
    page.get_by_role("link", name="Snoozed 1").click()
    page.get_by_role("link", name="FileNotFoundError").click()
    page.get_by_role("button", name="Reopen").click()
    page.goto("/errors")
    expect(page.locator("#list")).to_contain_text("FileNotFoundError")


# --- audit ---------------------------------------------------------------------------------------------------


def test_a_row_that_somebody_changed_is_named_in_the_terminal_and_on_the_page(
    console: Failing, open_page: Open
) -> None:
    page = open_page("/audit?action=operators.create")
    assert console.flask("audit", "verify").returncode == 0
    row = AuditEntry.get(AuditEntry.target == "operator@example.org").id
    expect(page.locator(f"#line-{row}")).to_contain_text("operator@example.org")
    expect(page.locator("#list")).not_to_contain_text("altered")
    console.sql("DROP TRIGGER dewey_audit_no_update", f"UPDATE dewey_audit SET target = 'x' WHERE id = {row}")
    told = console.flask("audit", "verify")
    assert (told.returncode, f"row {row} was changed" in told.stdout) == (1, True)
    expect(page.locator(f"#line-{row}")).to_contain_text("altered", timeout=20_000)
    page.goto(f"/audit/{row}")
    expect(page.locator("main")).to_contain_text("not as it was written")
    console.sql(f"UPDATE dewey_audit SET target = 'operator@example.org' WHERE id = {row}")
    assert console.flask("audit", "verify").returncode == 0


@with_and_without
def test_the_audit_is_filtered_and_shows_what_was_before_and_after(
    console: Failing, open_page: Open, java_script: bool
) -> None:
    assert console.flask("operator", "role", "viewer@example.org", "operator").returncode == 0
    assert console.flask("operator", "role", "viewer@example.org", "viewer").returncode == 0
    page = open_page("/audit", java_script_enabled=java_script)
    page.get_by_label("Did what").select_option("operators.role")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#list tbody tr").first).to_contain_text("viewer@example.org")
    expect(page.locator("#list")).not_to_contain_text("sign_in")
    page.locator("#list tbody tr").first.get_by_role("link").first.click()
    expect(page.locator("#changes")).to_contain_text("operator")
    expect(page.locator("#changes tbody tr")).to_have_text(re.compile(r"role\s*operator\s*viewer"))


# --- people --------------------------------------------------------------------------------------------------


@with_and_without
def test_a_token_is_made_used_and_revoked(console: Failing, open_page: Open, java_script: bool) -> None:
    page = open_page("/tokens", java_script_enabled=java_script)
    page.get_by_label("Name").fill("nightly")
    page.get_by_role("button", name="Create token").click()
    headers = {"Authorization": f"Bearer {page.locator('#secret').inner_text().strip()}"}
    assert console.ask("GET", STATS, headers).status == 200
    page.get_by_role("link", name="I have it").click()
    expect(page.locator("#list")).to_contain_text("nightly")
    expect(page.locator("#list")).not_to_contain_text("never")
    page.get_by_role("link", name="Revoke nightly").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("#list")).to_contain_text("revoked")
    assert console.ask("GET", STATS, headers).status == 401


@with_and_without
def test_who_is_disabled_sees_their_session_end(console: Failing, open_page: Open, java_script: bool) -> None:
    theirs = open_page("/runs", who=PEOPLE["viewer"], java_script_enabled=java_script)
    page = open_page("/operators", java_script_enabled=java_script)
    page.get_by_role("link", name="viewer@example.org").click()
    page.get_by_role("link", name="Disable…").click()
    page.get_by_role("button", name="Disable").click()
    expect(page.locator("#title")).to_contain_text("disabled")
    if java_script:
        expect(theirs.locator("#banner")).to_contain_text("You are signed out.", timeout=20_000)
    theirs.goto("/")
    expect(theirs).to_have_url(re.compile("/login"))


@with_and_without
def test_ones_password_is_changed_and_the_other_browser_is_out(
    console: Failing, open_page: Open, java_script: bool
) -> None:
    there, page = (
        open_page("/me", who=PEOPLE["operator"], new_session=True, java_script_enabled=java_script) for _ in range(2)
    )
    expect(page.locator("#sessions tbody tr")).to_have_count(2)
    page.get_by_label("The old one").fill(PASSWORD)
    page.get_by_label("The new one", exact=True).fill("another good one")
    page.get_by_label("The new one again").fill("another good one")
    page.get_by_role("button", name="Change it").click()
    expect(page.locator(".flash")).to_contain_text("Your password is changed")
    expect(page.locator("#sessions tbody tr")).to_have_count(1)
    there.goto("/")
    expect(there).to_have_url(re.compile("/login"))
    words = ("operator", "password", "operator@example.org", "--password-stdin")
    assert console.flask(*words, typed=PASSWORD).returncode == 0


# --- the look ------------------------------------------------------------------------------------------------

PAGES = ("/errors", "/errors/{group}", "/audit", "/audit/1", "/operators", "/operators/1", "/tokens", "/me")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_fits_and_can_be_read(console: Failing, open_page: Open, theme: str, size: dict[str, int]) -> None:
    console.fail()
    console.flask("token", "create", "nightly statistics of the library", "--role", "operator")
    page = open_page("/errors", viewport=size, color_scheme=theme)
    seen(page, "FileNotFoundError", True, "#list")
    group = ErrorGroup.get().id
    for path in PAGES:
        page.goto(path.format(group=group))
        expect(page.locator("h1")).to_have_count(1)
        beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert beyond <= 0, f"{path} is {beyond} px too wide"
        assert page.evaluate(FAINT_TEXTS) == [], path
