"""Queues, workers and dead runs in a real browser, with a real web server, real consumers and real kills."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import psutil
import pytest
import slow_tasks
from browsers import PASSWORD, PEOPLE
from consumers import KEY, ROOT, ConsumerProcess, consumer
from databases import bind_database
from installation import Installation
from playwright.sync_api import Locator, Page, expect
from test_start import RunningDewey
from waiting import wait_until

import tasks
from browser.chromium import NARROW, WIDE, Open, assert_fits, reload_until, with_and_without
from browser.layout_checks import FAINT_TEXTS
from engine.broker.effects import Effects
from engine.broker.messages import Requester, SignedJSON
from engine.broker.sqlite.storage import SqliteStorage
from engine.control.queues import pause_queue
from engine.models import Consumer, Run
from engine.queues.enqueue import requested_by


class SlowInstallation(Installation):
    """The program with slow tasks. Only consumers that a test starts serve its queues."""

    program = "slow_tasks:create_app()"

    def serving(
        self, queue: str, log: str, workers: int = 1, **environment: str
    ) -> AbstractContextManager[ConsumerProcess]:
        options, settings = ("-k", "process", "-w", str(workers), "-n"), {**self.environment, **environment}
        return consumer(f"slow_tasks.{queue}", *options, environment=settings, log=self.folder / f"{log}.log")


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowInstallation]:
    settings = {"SECRET_KEY": KEY, "LEASE_SECONDS": "14", "MAX_DELIVERIES": "1"}
    installed = SlowInstallation(
        tmp_path_factory.mktemp("slow"), PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **settings
    )
    assert installed.flask("migrate").returncode == 0
    for role in ("operator", "admin"):
        made = installed.flask(
            "operator", "create", f"{role}@example.org", "--role", role, "--password-stdin", typed=PASSWORD
        )
        assert made.returncode == 0, made.stderr
    with installed.web():
        yield installed


@pytest.fixture
def installation(console: SlowInstallation, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowInstallation]:
    """Bind the console's database and queues in this process, emptied."""
    file, key = console.folder / "data" / "queue.db", SignedJSON(KEY)
    stored = {name: SqliteStorage(name, file, 600, serializer=key) for name in tasks.queues}
    for name, queue in tasks.queues.items():
        monkeypatch.setattr(queue, "storage", stored[name])
        monkeypatch.setattr(queue, "serializer", key)
        for table in ("message", "pause", "consumer"):
            stored[name].database.execute(f"DELETE FROM {table}")
    with bind_database(f"sqlite:///{console.folder}/data/dewey.db"):
        Consumer.delete().execute()
        yield console
    for storage in stored.values():
        storage.close()


@pytest.fixture
def open_page(open_page: Open) -> Open:
    return partial(open_page, forgiven=("status of 422",))  # the browser's message for an invalid form


def expect_to_contain(page: Page, locator: Locator, words: str | re.Pattern[str], within: float = 30) -> None:
    """Wait until the locator contains the text. Without JavaScript, reload until then."""
    if page.evaluate("document.querySelector('#live')?.dataset.now") is not None:
        expect(locator).to_contain_text(words, timeout=within * 1000)
        return
    pattern = re.compile(re.escape(words)) if isinstance(words, str) else words

    reload_until(page, lambda: bool(locator.count() and pattern.search(locator.first.inner_text())), within)


# --- queues --------------------------------------------------------------------------------------------------


@with_and_without
@pytest.mark.usefixtures("installation")
def test_queue_is_paused_and_resumed(open_page: Open, installation: SlowInstallation, java_script: bool) -> None:
    with installation.serving("light", "pausing"):
        page = open_page("/queues", email=PEOPLE["operator"], java_script_enabled=java_script)
        expect_to_contain(page, page.locator("#queue-light"), "0 of 1 busy")
        page.get_by_role("link", name="Pause light").click()
        page.get_by_label("Reason").fill("deploy of 2.4.1")
        page.get_by_role("button", name="Pause", exact=True).click()
        expect(page.locator("#paused")).to_contain_text("deploy of 2.4.1")
        result = slow_tasks.nap(0)
        expect_to_contain(page, page.locator("#head"), "queue paused")
        page.goto("/queues")
        expect(page.locator("#queue-light")).to_contain_text("operator@example.org: deploy of 2.4.1")
        page.get_by_role("button", name="Resume light").click()
        expect(page.get_by_text("Queue light resumed.")).to_be_visible()
        assert result.get(blocking=True, timeout=10) == "awake"
        expect_to_contain(page, page.locator("#head"), "No runs are waiting.")


@with_and_without
@pytest.mark.usefixtures("installation")
def test_queue_is_purged_after_its_name_is_typed(open_page: Open, java_script: bool) -> None:
    waiting = [slow_tasks.grind(1).id for _ in range(3)]
    page = open_page("/queues", java_script_enabled=java_script)
    expect(page.locator("#unserved")).to_contain_text("No live worker for heavy, normal, light. 3 runs are waiting.")
    page.get_by_role("link", name="heavy", exact=True).click()
    page.get_by_role("link", name="Purge…").click()
    page.get_by_label("Type heavy to continue").fill("light")
    page.get_by_role("button", name="Purge heavy").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was changed")
    assert tasks.heavy.pending_count() == 3
    page.get_by_label("Type heavy to continue").fill("heavy")
    page.get_by_role("button", name="Purge heavy").click()
    expect(page.get_by_text("3 runs cancelled.")).to_be_visible()
    assert {Run.get_by_id(run_id).state for run_id in waiting} == {"cancelled"}
    assert tasks.heavy.pending_count() == 0


# --- workers -------------------------------------------------------------------------------------------------


@with_and_without
@pytest.mark.usefixtures("installation")
def test_busy_worker_shows_its_current_stack(
    open_page: Open, installation: SlowInstallation, java_script: bool
) -> None:
    with installation.serving("heavy", "busy", workers=2):
        slow_tasks.grind(60)
        page = open_page("/workers", java_script_enabled=java_script)
        expect_to_contain(page, page.locator("#workers"), "grind")
        page.locator("#workers").get_by_role("link", name="heavy").click()
        page.get_by_role("button", name="Get stack traces").click()
        expect_to_contain(page, page.locator("#stacks"), re.compile(r"slow_tasks\.py:\d+, in grind"))
        expect_to_contain(page, page.locator("#slots tr", has_text="grind"), "MB")
        expect(page.locator("#slots tr", has_text="idle")).to_contain_text("Worker-")


@with_and_without
@pytest.mark.usefixtures("installation")
def test_quiet_consumer_takes_no_run_until_woken(
    open_page: Open, installation: SlowInstallation, java_script: bool
) -> None:
    with installation.serving("light", "quiet"):
        page = open_page("/workers", java_script_enabled=java_script)
        expect_to_contain(page, page.locator("#workers tbody"), "light")
        page.locator("#workers").get_by_role("link", name="light").click()
        page.get_by_role("button", name="Quiet").click()
        expect_to_contain(page, page.locator("#quiet"), "The consumer takes no new runs.")
        result = slow_tasks.nap(0)
        page.goto("/queues/light")
        expect(page.locator("#head")).to_contain_text("no live worker")
        page.goto("/workers")
        page.locator("#workers").get_by_role("link", name="light").click()
        page.get_by_role("button", name="Wake").click()
        assert result.get(blocking=True, timeout=15) == "awake"


@with_and_without
@pytest.mark.usefixtures("installation")
def test_consumer_is_restarted_from_its_page(
    open_page: Open, installation: SlowInstallation, java_script: bool
) -> None:
    with installation.serving("light", "restarting"):
        page = open_page("/workers", java_script_enabled=java_script)
        expect_to_contain(page, page.locator("#workers tbody"), "light")
        page.locator("#workers").get_by_role("link", name="light").click()
        page.get_by_role("link", name="Restart…").click()
        expect(page.get_by_text("The consumer is idle.")).to_be_visible()
        page.get_by_role("button", name="Restart").click()
        expect_to_contain(page, page.locator("#attention"), "Another consumer replaced this one.")
        page.locator("#attention").get_by_role("link").click()
        expect(page.locator("#title")).to_contain_text("live")
        assert slow_tasks.nap(0).get(blocking=True, timeout=15) == "awake"


@pytest.fixture
def made_run(tmp_path: Path) -> Iterator[RunningDewey]:
    """Run `make run`, with its supervisor."""
    started = RunningDewey(tmp_path, {"WORKERS_HEAVY": "0"})
    try:
        started.wait_until_settled("gunicorn", "tasks.normal", "tasks.light")
        yield started
    finally:
        started.end(signal.SIGTERM)
        started.process.wait()


@with_and_without
def test_consumer_stopped_from_its_page_stays_stopped(
    made_run: RunningDewey, open_page: Open, java_script: bool
) -> None:
    sign_in_with = re.search(r"Sign in +(\S+)\n +Password +(\S+)", made_run.printed)
    assert sign_in_with
    options = {"email": sign_in_with[1], "password": sign_in_with[2], "java_script_enabled": java_script}
    page = open_page("/workers", port=made_run.port, **options)
    doomed, other = made_run.program("tasks.normal"), made_run.program("tasks.light")
    assert doomed and other
    page.locator("#workers").get_by_role("link", name="normal").click()
    page.get_by_role("link", name="Stop…").click()
    expect(page.get_by_text("No other consumer serves normal")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect_to_contain(page, page.locator("#title"), "stopped")
    assert psutil.wait_procs([doomed], timeout=10)[1] == []
    # When a killed child is back, the supervisor has checked every child once more.
    other.kill()
    wait_until(lambda: (new := made_run.program("tasks.light")) and new != other)
    assert made_run.program("tasks.normal") is None
    page.goto("/workers")
    expect(page.locator("#gone tr", has_text="normal")).to_contain_text("stopped")
    # The killed consumer has been replaced and raises no alert.
    expect_to_contain(page, page.locator("#gone tr", has_text="light"), "replaced by another consumer")


@with_and_without
@pytest.mark.usefixtures("installation")
def test_killed_consumer_is_late_then_lost_and_its_run_is_redelivered(
    open_page: Open, installation: SlowInstallation, tmp_path: Path, java_script: bool
) -> None:
    bell = tmp_path / "bell"
    with (
        installation.serving("normal", "survivor", MAX_DELIVERIES="3") as survivor,
        installation.serving("normal", "victim", MAX_DELIVERIES="3") as victim,
    ):
        row = wait_until(lambda: Consumer.get_or_none(pid=victim.pid))
        runs = [slow_tasks.snooze(str(bell)).id for _ in range(2)]
        run_id = wait_until(lambda: held_run_id(row.id))
        assert run_id in runs and survivor.process.poll() is None
        page = open_page("/workers", java_script_enabled=java_script)
        line = page.locator(f'[id="worker-{row.id}"]')
        os.killpg(victim.pid, signal.SIGKILL)
        victim.process.wait()
        bell.touch()
        expect_to_contain(page, line, "late")
        expect_to_contain(page, line, "lost")
        wait_until(lambda: Run.get_or_none((Run.id == run_id) & (Run.state == "succeeded")), 30)
        page.goto(f"/runs/{run_id}")
        expect(page.locator("#story")).to_contain_text("the worker died")
        expect(page.locator("#title")).to_contain_text("succeeded")


def held_run_id(consumer_id: str) -> str:
    return next((held.run_id for held in tasks.normal.storage.deliveries.held() if held.consumer == consumer_id), "")


# --- dead runs -----------------------------------------------------------------------------------------------


@with_and_without
@pytest.mark.usefixtures("installation")
def test_dead_run_is_requeued_and_succeeds(
    open_page: Open, installation: SlowInstallation, tmp_path: Path, java_script: bool
) -> None:
    stand = tmp_path / "stand"
    with installation.serving("light", "collapsing"):
        run_id = slow_tasks.collapse(str(stand)).id
        wait_until(lambda: Run.get_or_none((Run.id == run_id) & (Run.state == "dead")))
        stand.touch()
        page = open_page("/dead", email=PEOPLE["operator"], java_script_enabled=java_script)
        row = page.locator(f'[id="run-{run_id}"]')
        expect(row).to_contain_text("Worker-1 died (signal 9)")
        row.get_by_role("link").first.click()
        expect(page.locator("#raw")).to_contain_text("slow_tasks.collapse")
        expect(page.locator("#arguments")).to_contain_text(str(stand))
        page.get_by_role("button", name="Re-queue").click()
        page.wait_for_url(f"**/runs/{run_id}")
        expect_to_contain(page, page.locator("#title"), "succeeded")
        page.goto("/dead")
        expect(page.get_by_text("There are no dead runs.")).to_be_visible()


# --- appearance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_queue_and_worker_pages_fit_the_window_with_enough_contrast(
    open_page: Open, installation: SlowInstallation, size: dict[str, int], theme: str
) -> None:
    with requested_by(Requester("operator", "a.person.with.quite.a.long.name@library.example.org")):
        for number in range(12):
            slow_tasks.grind(number, page=number)
    pause_queue(tasks.light, by=Requester("operator", "ann@example.org"), reason="a long reason " * 12)
    create_dead_letter("0" * 36, b"\x80\x04 garbage \xff" * 40)
    create_dead_letter(
        "1" * 36, tasks.light.serialize_task(slow_tasks.nap.s(1)).replace(b"slow_tasks.nap", b"slow_tasks.gone")
    )
    lost = Consumer.create(
        id="a-host-with-a-long-name.example.org:1:x", host="a-host-with-a-long-name.example.org", pid=4711,
        queue="light",
        code_version="2.4.1-4fc424b", worker_type="process", worker_count=2, periodic=True,
        started_at="2026-01-01 00:00:00+00:00", beat_at="2026-01-01 00:00:00+00:00",
        running=[{"worker": "Worker-1", "run_id": "x", "task": "nap", "since": "2026-01-01T00:00:00+00:00"}],
    )  # fmt: skip
    with installation.serving("heavy", "looks", workers=2):
        page = open_page("/workers", viewport=size, color_scheme=theme)
        page.locator("#workers").get_by_role("link", name="heavy").click()
        page.get_by_role("button", name="Get stack traces").click()
        consumer_page = page.url.partition("#")[0]
        for path in (
            consumer_page, "/queues", "/queues/heavy", "/queues/light", "/queues/heavy/purge", "/workers",
            f"/workers/{lost.id}",
            f"{consumer_page}/stop", f"{consumer_page}/restart", "/dead", f"/dead/{'0' * 36}", f"/dead/{'1' * 36}",
            f"/dead/{'1' * 36}/discard",
        ):  # fmt: skip
            for language in ("ru", "en"):
                assert_fits(page, path, language)
            assert page.evaluate(FAINT_TEXTS) == [], path


def create_dead_letter(run_id: str, data: bytes) -> None:
    storage = tasks.normal.storage
    storage.messages.write(Effects().enqueue(run_id, data))
    taken = storage.deliveries.settle_and_claim("app-1:1:x", "Worker-1", False, "{}").claimed
    storage.deliveries.dead_letter("app-1:1:x", taken, "the signature does not match SECRET_KEY")
