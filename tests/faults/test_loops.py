"""No loop of the program ends by an exception. The error is logged once, and the loop continues."""

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import Value
from pathlib import Path
from typing import Any

import pytest
from browsers import create_app_with_people
from consumers import KEY, ROOT, ConsumerProcess, consumer
from databases import bound_to_library
from failing_steps import FAILING, STEPS
from huey.consumer import ForkSafeFlag
from peewee import OperationalError, SqliteDatabase
from raw_entries import storage_factory, use_probe_queue
from receivers import WebhookReceiver, run_webhook_receiver
from sample_tasks import echo, probe
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.supervisord import Supervisor as Supervisord
from waiting import wait_until

from admin.alerts import channels, watcher
from admin.alerts.delivery import deliver_due
from admin.api import request_metrics
from admin.api.request_metrics import RequestCounter
from admin.cli import supervisor
from engine.back_off import BackOff
from engine.exceptions import BrokerUnavailable
from engine.models import Run, now
from engine.monitor.alerts import FIRED, Notice
from engine.queues import log_capture
from engine.queues.log_capture import AttemptLog
from engine.queues.task import QueueTask
from engine.worker.scheduler import Scheduler
from models import HttpCount


@pytest.fixture(params=["sqlite", "redis"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of consumers that share their broker and database with this process."""
    redis_url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    url = request.getfixturevalue("postgresql_library") if redis_url else f"sqlite:///{tmp_path}/dewey.db"
    wire, probe.serializer = probe.serializer, type(probe.serializer)(KEY)
    with use_probe_queue(storage_factory(request.param, request, tmp_path, probe.serializer)), bound_to_library(url):
        yield {"DATA_DIR": str(tmp_path), "DATABASE_URL": url, "REDIS_URL": redis_url, "SECRET_KEY": KEY}
    probe.serializer = wire


def is_recorded(run_id: str) -> bool:
    return Run.select().where((Run.id == run_id) & (Run.state == "succeeded")).exists()


def assert_consumer_works(running: ConsumerProcess) -> None:
    result = echo(1)
    assert result.get(blocking=True, timeout=20) == 1
    wait_until(lambda: is_recorded(result.id))
    assert running.process.poll() is None, running.log


# --- a consumer ----------------------------------------------------------------------------------------------


def failing_environment(environment: dict[str, str], *steps: str) -> dict[str, str]:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))
    return {**environment, "PYTHONPATH": path, "STUMBLE": " ".join(steps)}


def test_consumer_survives_exceptions_in_all_its_loops(environment: dict[str, str], tmp_path: Path) -> None:
    settings = failing_environment(environment, *(set(STEPS) - {"ending"}))
    loops = [
        "The recorder", "The scheduler", "The check of the workers", "The check of running runs",
        "The poll for commands", "The heartbeat",
    ]  # fmt: skip
    with consumer("failing_steps.probe", environment=settings, log=tmp_path / "log") as running:
        for loop in loops:
            running.logged(f"{loop} works again", within=40)
        assert_consumer_works(running)
        failed = re.findall(r"\] (.*) failed and will retry: stumbled", running.log)
        assert sorted(failed) == sorted(loops), "each logs its outage once"
        assert running.log.count("RuntimeError: stumbled") == len(loops)


def test_ended_recorder_is_replaced(environment: dict[str, str], tmp_path: Path) -> None:
    with consumer(
        "failing_steps.probe", environment=failing_environment(environment, "ending"), log=tmp_path / "log"
    ) as running:
        assert_consumer_works(running)
        assert running.log.count("The recorder has ended and is replaced") == len(FAILING)


def test_ended_scheduler_is_replaced_with_its_recorder(environment: dict[str, str], tmp_path: Path) -> None:
    with consumer("sample_tasks.probe", environment=environment, log=tmp_path / "log") as running:
        assert_consumer_works(running)
        scheduler, *_ = sorted(running.children(), key=lambda process: (process.create_time(), process.pid))
        scheduler.kill()
        running.logged("The scheduler died and is replaced")
        assert_consumer_works(running)


@pytest.mark.parametrize("environment", ["redis"], indirect=True)
def test_failover_that_unblocks_the_recorder_does_not_end_it(environment: dict[str, str], tmp_path: Path) -> None:
    redis = probe.storage.client.redis
    with consumer("sample_tasks.probe", environment=environment, log=tmp_path / "log") as running:
        assert_consumer_works(running)
        for _ in range(3):
            blocked = wait_until(lambda: [client["id"] for client in redis.client_list() if client["cmd"] == "xread"])
            for client_id in blocked:
                redis.execute_command("CLIENT", "UNBLOCK", client_id, "ERROR")
        running.logged("UNBLOCKED")
        assert_consumer_works(running)
        assert "Exception in thread" not in running.log


def test_raising_schedule_does_not_delay_the_others(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with use_probe_queue(storage_factory("sqlite", request, tmp_path)):

        @probe.periodic_task(lambda at: 1 / 0)
        def hopeless() -> None: ...

        @probe.periodic_task(lambda at: True)
        def sound() -> None: ...

        clock = Scheduler(probe, ForkSafeFlag(), 1, True)
        clock.seen_at = Value("d", 0.0)
        echo.schedule(args=(1,), eta=datetime(2020, 1, 1, tzinfo=UTC))
        try:
            with pytest.raises(ZeroDivisionError):
                clock.poll(datetime.now(UTC))
        finally:
            tasks: list[type[QueueTask]] = [hopeless.task_class, sound.task_class]
            for task in tasks:
                probe._registry.unregister(task)
        assert {"sound", "hopeless"} & probe.storage.ticks.last().keys() == {"sound"}
        assert (probe.storage.messages.count_scheduled(), probe.storage.messages.count_waiting()) == (0, 2)
        assert clock.next_reap > 0
        assert clock.seen_at.value == 0, "the scheduler must not report a working schedule"


def test_first_failure_of_an_outage_is_logged_and_pauses_grow(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    back_off = BackOff("The mill", 0.5, 3)
    assert not back_off.is_pausing
    assert [back_off.failed(BrokerUnavailable("no server")) for _ in range(5)] == [0.5, 1, 2, 3, 3]
    assert back_off.is_pausing
    with pytest.raises(OperationalError) as no_database:
        SqliteDatabase("/nowhere/library.db").connect()
    back_off.failed(no_database.value)
    back_off.succeeded()
    back_off.succeeded()
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "The mill is waiting: no server"),
        ("WARNING", "The mill is waiting: unable to open database file"),
        ("INFO", "The mill works again"),
    ]
    assert (back_off.failed(ValueError("")), caplog.records[-1].message) == (
        0.5, "The mill failed and will retry: ValueError",
    )  # fmt: skip


# --- log lines of a run --------------------------------------------------------------------------------------


def test_log_sender_skips_a_log_that_cannot_be_built() -> None:
    sent: list[Any] = []
    broken, sound = AttemptLog(sent.append), AttemptLog(sent.append)
    broken.progress = 5  # type: ignore[assignment]
    for number in range(2):
        broken.mark_dirty()
        sound.add(0, "INFO", "x", f"line {number}")
        wait_until(lambda number=number: len(sent) == number + 1)
    log_capture.active_logs.clear()
    assert log_capture.get_flusher().is_alive()


# --- the web server's request counter ------------------------------------------------------------------------


def test_request_counter_keeps_counts_it_could_not_write(
    sqlite_database: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(request_metrics, "FLUSH_SECONDS", 0.01)
    counter, ended = RequestCounter(), threading.Event()
    counter.record("pages.runs", "GET", 2**70, 0.1)  # more than a database column can store
    thread = threading.Thread(target=counter.flush_loop, args=[ended])
    thread.start()
    wait_until(lambda: "The request counter failed" in caplog.text)
    wait_until(lambda: counter.pending)
    with counter.writing:
        counter.pending.clear()
        counter.record("pages.runs", "GET", 200, 0.1)
    wait_until(lambda: HttpCount.select().exists())
    ended.set()
    thread.join()
    assert [(row.status, row.count) for row in HttpCount.select()] == [(200, 1)]
    assert caplog.text.count("The request counter failed") == 1


# --- the watcher ---------------------------------------------------------------------------------------------


@pytest.fixture
def receiver(sqlite_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookReceiver]:
    with run_webhook_receiver() as made, create_app_with_people().app_context():
        monkeypatch.setattr(channels, "settings", replace(channels.settings, alert_webhook_url=made.url))
        yield made


def test_watcher_continues_after_a_check_that_raised(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = watcher.WatchLoop(watcher.AlertWatcher(patience=lambda rule: now() - now()))
    with monkeypatch.context() as patch:
        patch.setattr(watcher, "evaluate_rules", lambda as_of: 1 // 0)
        for _ in range(3):
            rounds.attempt()
    assert caplog.text.count("The alert watcher failed and will retry") == 1
    rounds.attempt()
    assert receiver.posts, "no queue has a live worker"


def test_notice_that_cannot_be_rendered_does_not_delay_others(receiver: WebhookReceiver) -> None:
    at = now()
    for facts in ({"rule": ["odd"]}, valid_facts(at)):
        Notice.create(event=FIRED, channel="webhook", state="waiting", facts=facts, created_at=at, due_at=at)
    deliver_due(at)
    wait_until(lambda: deliver_due(now()) or receiver.posts)
    assert [post.json["rule"] for post in receiver.posts] == ["unserved"]
    odd = Notice.get_by_id(1)
    assert (odd.state, odd.tries) == ("waiting", 1)
    assert odd.error


def valid_facts(at: datetime) -> dict[str, Any]:
    return {
        "rule": "unserved", "subject": "light", "value": 1, "waiting": 0, "began_at": at.isoformat(), "ended_at": None,
    }  # fmt: skip


# --- the supervisor ------------------------------------------------------------------------------------------


def test_supervisor_continues_after_an_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    rounds: list[Callable[[], None]] = [lambda: 1 // 0, lambda: 1 // 0, stop_supervisor]
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(Supervisord, "runforever", lambda self: rounds.pop(0)())
    with pytest.raises(ExitNow):
        supervisor.Supervisor(None).runforever()
    assert rounds == []
    assert caplog.text.count("Supervisor error, continuing") == 1


def stop_supervisor() -> None:
    raise ExitNow
