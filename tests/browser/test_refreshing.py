"""The frame of every page in a real browser: it refreshes, keeps the user's place, and handles keys."""

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit

import pytest
from browsers import PASSWORD, PEOPLE
from databases import bind_database
from factories import create_consumer, create_run, create_session
from installation import Installation
from playwright.sync_api import Browser, Page, Request, expect

from browser.chromium import NARROW, Open, set_language
from browser.layout_checks import FAINT_TEXTS
from engine.models import Run, now
from models import ReadingSession

EMAIL = PEOPLE["operator"]


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return a web server over an empty library."""
    installed = Installation(tmp_path_factory.mktemp("live"), ENVIRONMENT="production")
    assert installed.flask("migrate").returncode == 0
    made = installed.flask("operator", "create", EMAIL, "--role", "operator", "--password-stdin", typed=PASSWORD)
    assert made.returncode == 0, made.stderr
    with installed.web():
        yield installed


@pytest.fixture(autouse=True)
def console_database(console: Installation) -> Iterator[None]:
    """Bind the console's database in this process."""
    with bind_database(f"sqlite:///{console.folder}/data/dewey.db"):
        yield
        for table in (Run, ReadingSession):
            table.delete().execute()


@pytest.fixture
def open_page(open_page: Open) -> Open:
    return partial(open_page, email=EMAIL, forgiven=("net::ERR", "the server responded"))


def record_refreshes(page: Page) -> list[Request]:
    """Record the page's refresh requests from now on."""
    looks: list[Request] = []
    page.on("request", lambda request: looks.append(request) if request.headers.get("x-refresh") else None)
    return looks


def wait_for_refresh(page: Page) -> None:
    """Wait for the response to a refresh that starts after this call."""
    for _ in range(2):  # A request may be in flight.
        with page.expect_response(lambda response: bool(response.request.headers.get("x-refresh"))):
            pass
    page.evaluate("() => fetch('/healthz')")


# --- updates -------------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_change_is_shown_within_two_seconds(open_page: Open) -> None:
    run = create_run(state="waiting")
    page = open_page("/runs")
    expect(page.locator(f"#run-{run.id}")).to_contain_text("waiting")
    for state in ("running", "succeeded"):
        Run.update(state=state).where(Run.id == run.id).execute()
        expect(page.locator(f"#run-{run.id}")).to_contain_text(state, timeout=2000)


def test_refresh_keeps_focus_selection_scroll_and_open_details(open_page: Open) -> None:
    runs = [create_run("process_book", "failed", error="BadZipFile: no") for _ in range(29)]
    page = open_page("/runs")
    link = page.locator(f"#run-{runs[3].id} a").first
    page.locator("summary").first.click()
    link.focus()
    page.evaluate("id => getSelection().selectAllChildren(document.getElementById(id).cells[1])", f"run-{runs[4].id}")
    page.evaluate("scrollTo(0, 200)")
    newcomer = create_run("process_book", enqueued_at=now() + timedelta(minutes=2))
    expect(page.locator("tbody tr").first).to_have_id(f"run-{newcomer.id}")
    expect(link).to_be_focused()
    assert page.evaluate("getSelection().toString()").strip()
    assert page.evaluate("scrollY") > 0
    expect(page.locator("details").first).to_have_attribute("open", "")


def test_row_with_selected_text_updates_after_the_selection_ends(open_page: Open) -> None:
    run = create_run(state="running", started_at=now())
    page = open_page("/runs")
    row = page.locator(f"#run-{run.id}")
    page.evaluate("id => getSelection().selectAllChildren(document.getElementById(id))", f"run-{run.id}")
    Run.update(state="succeeded", run_ms=5.0).where(Run.id == run.id).execute()
    wait_for_refresh(page)
    expect(row).to_contain_text("running")
    page.evaluate("getSelection().removeAllRanges()")
    expect(row).to_contain_text("succeeded")


def test_refresh_keeps_typed_text_and_ticked_boxes(open_page: Open) -> None:
    runs = [create_run("process_book", "failed") for _ in range(3)]
    page = open_page("/runs")
    box = page.locator(f"#run-{runs[1].id} input[type=checkbox]")
    box.check()
    field = page.locator("input[type=search]").first
    field.fill("BadZip")
    newcomer = create_run("process_book", enqueued_at=now() + timedelta(minutes=2))
    expect(page.locator("tbody tr").first).to_have_id(f"run-{newcomer.id}")
    expect(box).to_be_checked()
    expect(field).to_have_value("BadZip")
    expect(page.locator("tbody input:checked")).to_have_count(1)


def test_regions_appear_and_disappear_with_their_rows(open_page: Open) -> None:
    page = open_page("/sessions/cleanup")
    expect(page.locator("#sample")).to_have_count(0)
    session = create_session(minutes_ago=150)
    expect(page.locator("#sample tbody tr")).to_have_count(1)
    expect(page.get_by_role("button", name="Close 1 session")).to_be_visible()
    ReadingSession.delete().where(ReadingSession.id == session.id).execute()
    expect(page.locator("#sample")).to_have_count(0)


def test_form_added_by_a_refresh_can_be_submitted(open_page: Open) -> None:
    create_consumer("light")
    page = open_page("/sessions/cleanup")
    create_session(minutes_ago=150)
    page.get_by_role("button", name="Close 1 session").click()
    page.wait_for_url(re.compile("/runs/"))


def test_countdown_runs_without_the_server(open_page: Open) -> None:
    page = open_page("/sessions/cleanup")
    page.locator("#hold").click()
    timer = page.locator("time[data-tick=left]").first
    expect(timer).not_to_have_text(timer.inner_text())


# --- intervals -----------------------------------------------------------------------------------------------


def test_hidden_tab_sends_no_request(open_page: Open) -> None:
    page = open_page("/runs")
    page.clock.install()
    page.reload()
    looks = record_refreshes(page)
    hide(page, True)
    page.clock.run_for(60_000)
    assert looks == []
    with page.expect_request("**/runs"):
        hide(page, False)


def hide(page: Page, hidden: bool) -> None:
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_idle_page_polls_less_and_resumes_on_mouse_movement(open_page: Open) -> None:
    page = open_page("/runs")
    page.clock.install()
    page.reload()
    page.clock.run_for(1300)
    page.clock.fast_forward(400_000)
    pauses = [1900, 2800, 4200, 6200, 8100]
    for pause in pauses:
        with page.expect_response("**/runs"):
            page.clock.run_for(pause)
        page.evaluate("() => fetch('/healthz')")
    looks = record_refreshes(page)
    page.clock.run_for(7000)
    assert looks == []
    with page.expect_request("**/runs"):
        page.mouse.move(300, 300)
        page.mouse.move(310, 310)


def test_refresh_is_paused_by_button_and_key_and_stays_paused(open_page: Open) -> None:
    page = open_page("/runs")
    expect(page.locator("#live")).to_contain_text("updated just now")
    page.get_by_role("button", name="Pause refreshing").click()
    expect(page.locator("#live")).to_contain_text("paused")
    expect(page.locator("#news")).to_have_text("Refreshing is paused.")
    page.goto("/sessions")
    page.clock.install()
    page.reload()
    looks = record_refreshes(page)
    expect(page.get_by_role("button", name="Pause refreshing")).to_have_attribute("aria-pressed", "true")
    page.clock.run_for(30_000)
    assert looks == []
    expect(page.locator("#live")).to_contain_text("paused, updated 30 s ago")
    page.keyboard.press("p")
    expect(page.locator("#live")).to_contain_text("updated just now")


# --- failures ------------------------------------------------------------------------------------------------


def test_unreachable_server_shows_a_banner_until_it_recovers(open_page: Open) -> None:
    page = open_page("/runs")
    expect(page.locator("#banner")).to_be_hidden()
    page.context.set_offline(True)
    expect(page.locator("#banner")).to_contain_text("The server is unavailable. This page shows data from ")
    assert page.evaluate(FAINT_TEXTS) == []
    create_run("process_book")
    page.context.set_offline(False)
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("#news")).to_have_text("The page is up to date again.")


def test_signed_out_page_shows_a_banner_and_stops_polling(open_page: Open) -> None:
    page = open_page("/runs?state=failed")
    page.context.clear_cookies()
    expect(page.locator("#banner")).to_contain_text("You are signed out.")
    looks = record_refreshes(page)
    page.get_by_role("link", name="Sign in again").click()
    assert urlsplit(page.url).query == "next=/runs?state%3Dfailed"
    assert looks == []


def test_page_of_a_deleted_run_shows_a_banner(open_page: Open) -> None:
    run = create_run(state="failed")
    page = open_page(f"/runs/{run.id}")
    Run.delete().where(Run.id == run.id).execute()
    expect(page.locator("#banner")).to_contain_text("no longer exists")


def test_screen_reader_is_sent_the_new_state_of_a_run(open_page: Open) -> None:
    run = create_run(state="running", started_at=now())
    page = open_page(f"/runs/{run.id}")
    wait_for_refresh(page)
    expect(page.locator("#news")).to_be_empty()
    Run.update(state="succeeded", run_ms=5.0, ended_at=now()).where(Run.id == run.id).execute()
    expect(page.locator("#news")).to_have_text("succeeded")


# --- keys ----------------------------------------------------------------------------------------------------


def test_keys_search_step_open_and_navigate(open_page: Open) -> None:
    runs = [create_run("process_book", enqueued_at=now() - timedelta(minutes=minute)) for minute in range(3)]
    page = open_page("/runs")
    page.keyboard.press("/")
    expect(page.locator("input[type=search]").first).to_be_focused()
    page.keyboard.type("gs?p")  # A shortcut key is a letter in a field.
    assert urlsplit(page.url).path == "/runs"
    page.locator("h1").click()
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator(f"#run-{runs[1].id} a").first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{runs[1].id}")
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_url("**/sessions")
    page.keyboard.press("Control+p")
    expect(page.locator("#live")).not_to_contain_text("paused")


@pytest.mark.parametrize(("language", "title"), [("en", "Keyboard shortcuts"), ("ru", "Клавиши")])
def test_key_help_opens_and_keys_can_be_turned_off(open_page: Open, language: str, title: str) -> None:
    page = open_page("/runs")
    set_language(page, language)
    page.reload()
    keys = page.get_by_role("dialog", name=title)
    page.keyboard.press("?")
    expect(keys).to_be_visible()
    assert page.evaluate(FAINT_TEXTS) == []
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.get_by_role("button", name=title).click()
    keys.get_by_role("checkbox").uncheck()
    page.reload()
    page.keyboard.press("?")
    page.keyboard.press("p")
    expect(keys).to_be_hidden()
    expect(page.locator("#hold")).to_have_attribute("aria-pressed", "false")


def test_keys_work_on_a_cyrillic_keyboard(open_page: Open) -> None:
    page = open_page("/runs")
    for key, code in (("п", "KeyG"), ("ы", "KeyS")):
        page.evaluate("([key, code]) => document.body.dispatchEvent("
                      "new KeyboardEvent('keydown', { key, code, bubbles: true }))", [key, code])  # fmt: skip
    page.wait_for_url("**/sessions")


def test_check_all_box_ticks_every_row(open_page: Open) -> None:
    for _ in range(3):
        create_run("process_book", "failed")
    page = open_page("/runs")
    page.locator("[data-check-all]").check()
    expect(page.locator("tbody input:checked")).to_have_count(3)
    page.locator("tbody input").first.uncheck()
    assert page.locator("[data-check-all]").evaluate("box => box.indeterminate")


# --- the frame -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("java_script", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_language_and_theme_are_switched_before_the_sign_in_too(
    browser: Browser, console: Installation, java_script: bool
) -> None:
    context = browser.new_context(base_url=f"http://127.0.0.1:{console.port}", java_script_enabled=java_script)
    page = context.new_page()
    page.goto("/login?next=/runs")
    page.get_by_role("button", name="Русский").click()
    expect(page.get_by_role("heading")).to_contain_text("Вход в Dewey")
    page.get_by_role("button", name="Тёмная").click()
    assert page.locator("html").evaluate("root => getComputedStyle(root).colorScheme") == "dark"
    page.locator("input[type=email]").fill(EMAIL)
    page.locator("input[type=password]").fill(PASSWORD)
    page.get_by_role("button", name="Войти").click()
    page.wait_for_url("**/runs")
    expect(page.get_by_role("heading", level=1)).to_have_text("Запуски")
    context.close()


@pytest.mark.parametrize("java_script", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_narrow_window_has_all_pages_behind_the_menu_button(open_page: Open, java_script: bool) -> None:
    page = open_page("/runs", viewport=NARROW, java_script_enabled=java_script)
    link = page.get_by_role("navigation", name="Pages").get_by_role("link", name="Sessions")
    expect(link).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("link", name="Runs", exact=True)).to_have_attribute("aria-current", "page")
    link.click()
    page.wait_for_url("**/sessions")


def test_page_without_javascript_hides_script_controls(open_page: Open) -> None:
    create_run("process_book", "failed")
    page = open_page("/runs", java_script_enabled=False)
    expect(page.locator("#live")).to_contain_text("as of")
    expect(page.get_by_role("button", name="Pause refreshing")).to_be_hidden()
    expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_hidden()


def test_times_are_in_the_browser_zone_with_utc_in_the_title(open_page: Open) -> None:
    run = create_run("process_book", enqueued_at=now().replace(hour=12, minute=0, second=0, microsecond=0))
    page = open_page("/runs", timezone_id="Asia/Tokyo")
    shown = page.locator(f"#run-{run.id} time").first
    expect(shown).to_have_attribute("title", re.compile(r"21:00:00\.000 JST · .* 12:00:00\.000 UTC"))


def test_environment_is_shown_on_every_page_and_the_login_page(open_page: Open) -> None:
    page = open_page("/runs")
    expect(page.locator(".environment")).to_have_text("production")
    page.context.clear_cookies()
    page.goto("/login")
    expect(page.locator(".environment")).to_have_text("production")
