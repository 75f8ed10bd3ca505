"""Real consumers: what they log, how they end, and that nothing is lost when a worker dies."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from consumers import BIN, ROOT, Consumer, consumer, shared_with_consumers
from probes import (
    call_another,
    dawdle,
    deaf,
    die,
    echo,
    fail,
    fail_politely,
    hang,
    hold,
    leave,
    lines,
    probe,
    release,
    swell,
    work,
)
from waiting import wait_until

from engine import exceptions
from engine.broker.effects import Effects
from engine.broker.messages import Requester
from engine.control import queues, runs
from engine.database import database
from engine.history import run_counts
from engine.models import Attempt, Run, WorkerProcess
from engine.queues.enqueue import asked_by


@pytest.fixture(params=["sqlite", "redis and postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    names = ("redis_url", "fresh_postgresql") if request.param != "sqlite" else ()
    with shared_with_consumers(probe, tmp_path, *map(request.getfixturevalue, names)) as environment:
        yield environment


@pytest.fixture
def serving(environment: dict[str, str], tmp_path: Path) -> Iterator[Consumer]:
    with consumer("probes.probe", environment=environment, log=tmp_path / "log") as running:
        yield running


def recorded(run_id: str, state: str) -> Run:
    """The run's record, once it has this state."""
    return wait_until(lambda: Run.get_or_none((Run.id == run_id) & (Run.state == state)))


def test_a_run_is_carried_out_and_everything_about_it_is_recorded(serving: Consumer) -> None:
    with asked_by(Requester("operator", "vera@example.org")):
        result = echo({"answer": [42, None]})
    assert result.get(blocking=True, timeout=25) == {"answer": [42, None]}
    run = recorded(result.id, "succeeded")
    assert (run.task, run.queue, run.args, run.result) == (
        "echo",
        "probe",
        [{"answer": [42, None]}],
        {"answer": [42, None]},
    )
    assert (run.asked_by_kind, run.asked_by, run.attempts, run.deliveries) == ("operator", "vera@example.org", 1, 1)
    assert run.enqueued_at <= run.started_at <= run.ended_at
    assert run.wait_ms >= 0 and run.run_ms >= 0
    [attempt] = run.history
    assert (attempt.state, attempt.number, attempt.error) == ("succeeded", 1, None)
    assert re.fullmatch(r"Worker-\d on \S+:\d+:\w+", attempt.worker)


def test_a_result_is_kept_after_it_was_read(serving: Consumer) -> None:
    result = echo("kept")
    assert result.get(blocking=True, timeout=25) == "kept"
    assert probe.result(result.id) == "kept"


def test_a_failing_run_is_retried_and_each_attempt_is_recorded_with_its_traceback(
    serving: Consumer, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    run = recorded(fail(str(ledger)).id, "failed")
    assert (run.error, run.attempts, len(lines(ledger))) == ("ValueError: always", 3, 3)
    assert [(one.attempt, one.state, one.error) for one in run.history] == [
        (number, "failed", "ValueError: always") for number in (1, 2, 3)
    ]
    assert all('raise ValueError("always")' in one.traceback for one in run.history)
    assert run_counts.totals(run.ended_at).counts == {"failed": 1, "again": 1, "retried": 2}
    assert "Retrying task in 0s (attempt 1/2)" in serving.log
    assert "Retrying task in 0s (attempt 2/2)" in serving.log


def test_a_task_may_say_what_its_result_is_when_it_has_failed_for_good(serving: Consumer, tmp_path: Path) -> None:
    result = fail_politely(str(tmp_path))
    assert result.get(blocking=True, timeout=25) == {"error": "no luck"}
    assert recorded(result.id, "failed").result == {"error": "no luck"}


def test_a_task_that_exits_has_failed_and_its_worker_lives_on(serving: Consumer) -> None:
    before = wait_until(lambda: len(found := {one.pid for one in serving.children()}) == 3 and found)
    assert recorded(leave().id, "failed").error == "TaskExited: the task called sys.exit(3)"
    assert {one.pid for one in serving.children()} == before


def test_a_run_that_a_task_asked_for_names_its_parent(serving: Consumer, tmp_path: Path) -> None:
    parent = call_another(str(tmp_path / "ledger"))
    child = recorded(parent.get(blocking=True, timeout=25), "succeeded")
    assert (child.parent_id, child.asked_by_kind, child.asked_by) == (parent.id, "run", parent.id)


def test_the_task_of_a_killed_worker_is_started_again_and_the_delivery_is_shown(
    serving: Consumer, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    result = hold(str(ledger))
    [[_, _, pid]] = wait_until(lambda: lines(ledger))
    os.kill(int(pid), signal.SIGKILL)
    release(ledger)
    assert result.get(blocking=True, timeout=25) == "done"
    assert [line[0] for line in lines(ledger)] == ["start", "start", "end"]
    run = recorded(result.id, "succeeded")
    assert (run.deliveries, run.attempts) == (2, 1)
    assert [(one.state, one.attempt) for one in run.history] == [("died", 1), ("succeeded", 1)]
    assert "died (signal 9)" in run.history[0].error
    assert len(serving.children()) == 3  # two workers, scheduler


def test_a_task_that_kills_every_worker_ends_as_dead(environment: dict[str, str], tmp_path: Path) -> None:
    with consumer("probes.probe", environment={**environment, "MAX_DELIVERIES": "3"}, log=tmp_path / "log") as serving:
        poison, good = die(), echo(1)
        run = recorded(poison.id, "dead")
        assert (run.deliveries, [one.state for one in run.history]) == (3, ["died"] * 3)
        assert good.get(blocking=True, timeout=25) == 1
        assert serving.process.poll() is None


def test_a_message_that_cannot_be_read_is_dead_and_blocks_nobody(serving: Consumer) -> None:
    probe.storage.messages.write(Effects().enqueue("garbage", b"garbage", None))
    renamed = probe.serialize_task(echo.s(1)).replace(b"probes.echo", b"probes.gone")
    probe.storage.messages.write(Effects().enqueue("forged", renamed, None))
    assert echo("after").get(blocking=True, timeout=25) == "after"
    assert recorded("garbage", "dead").error == "not a message of this program"
    assert recorded("forged", "dead").error == "the signature is not ours"
    assert probe.storage.messages.get("garbage") == b"garbage"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_consumer_lets_its_running_task_end(serving: Consumer, tmp_path: Path, how: int) -> None:
    ledger = tmp_path / "ledger"
    result = hold(str(ledger))
    wait_until(lambda: lines(ledger))
    family = [psutil.Process(serving.pid), *serving.children()]
    serving.process.send_signal(how)
    serving.logged("running task(s)")
    release(ledger)
    assert serving.process.wait(30) == 0
    assert [line[0] for line in lines(ledger)] == ["start", "end"]
    assert recorded(result.id, "succeeded").deliveries == 1
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_what_does_not_end_in_time_is_handed_back_and_run_by_the_next(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    options = ("-k", "process", "-w", "1", "-t", "0.5", "-n")
    with consumer("probes.probe", *options, environment=environment, log=tmp_path / "log") as first:
        result = hold(str(ledger))
        wait_until(lambda: lines(ledger))
        assert first.stop() == 0
        assert "Waiting up to 0.5 s for 1 running task(s)" in first.log
    assert len(lines(ledger)) == 1
    assert recorded(result.id, "waiting").history[0].state == "returned"
    release(ledger)
    with consumer("probes.probe", environment=environment, log=tmp_path / "log"):
        assert result.get(blocking=True, timeout=25) == "done"
        assert recorded(result.id, "succeeded").deliveries == 2


def test_children_do_not_outlive_a_killed_parent(serving: Consumer) -> None:
    children = serving.children()
    os.kill(serving.pid, signal.SIGKILL)
    serving.process.wait()
    assert psutil.wait_procs(children, 20)[1] == []


def test_what_a_killed_consumer_held_is_run_by_another_within_a_lease(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ledger, short = tmp_path / "ledger", {**environment, "LEASE_SECONDS": "2"}
    with consumer("probes.probe", environment=short, log=tmp_path / "log") as first:
        result = hold(str(ledger))
        wait_until(lambda: lines(ledger))
        with consumer(
            "probes.probe", "-k", "process", "-w", "1", "-n", environment=short, log=tmp_path / "log2"
        ) as second:
            os.killpg(first.pid, signal.SIGKILL)
            first.process.wait()
            release(ledger)
            assert result.get(blocking=True, timeout=25) == "done"
            assert "is lost; what it held is back in the queue" in second.logged("is lost")


def test_the_consumers_record_tells_who_works_on_what_and_when_it_has_stopped(
    serving: Consumer, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    result = hold(str(ledger))

    def busy() -> WorkerProcess | None:
        return next((one for one in WorkerProcess.select() if one.running), None)

    row = wait_until(busy)
    known = (row.queue, row.pid, row.worker_type, row.worker_count, row.periodic)
    assert known == ("probe", serving.pid, "process", 2, False)
    assert row.running[0]["run_id"] == result.id
    assert row.rss_bytes > 10_000_000
    release(ledger)
    serving.stop()
    row = WorkerProcess.get_by_id(row.id)
    assert row.stopped_at and row.running == [] and row.processed == 1


def test_a_worker_is_replaced_after_its_number_of_tasks(environment: dict[str, str], tmp_path: Path) -> None:
    options = ("-k", "process", "-w", "1", "-M", "2", "-n")
    with consumer("probes.probe", *options, environment=environment, log=tmp_path / "log") as running:
        pids = [swell(0).get(blocking=True, timeout=25) for _ in range(6)]
        assert len(set(pids)) == 3
        assert "died" not in running.log


def test_a_worker_that_has_grown_too_large_is_replaced_after_its_task(
    environment: dict[str, str], tmp_path: Path
) -> None:
    small = {**environment, "WORKER_MAX_MEMORY_MB": "200"}
    with consumer("probes.probe", "-k", "process", "-w", "1", "-n", environment=small, log=tmp_path / "log") as running:
        large = swell(250).get(blocking=True, timeout=25)
        assert swell(0).get(blocking=True, timeout=25) != large
        assert "MB of 200 and is replaced" in running.log


def test_every_line_begins_as_operators_know_it(environment: dict[str, str], tmp_path: Path) -> None:
    with consumer("probes.probe", environment=environment, log=tmp_path / "log") as running:
        result = echo(1)
        running.logged(f"Task probes.echo[{result.id}] succeeded in ")
        running.stop()
        head = re.compile(
            r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: (INFO|WARNING)/(MainProcess|Worker-[12])\] \S|\+ probes\."
        )
        assert [line for line in running.log.splitlines() if not head.match(line)] == []
        assert re.search(r"INFO/Worker-[12]\] Task probes\.echo", running.log)


def test_history_that_cannot_be_written_is_tried_again_until_it_can_and_that_is_logged_once(serving: Consumer) -> None:
    database.execute_sql("ALTER TABLE dewey_runs RENAME TO elsewhere")
    run_id = echo(1).id
    serving.logged("The recorder waits")
    database.execute_sql("ALTER TABLE elsewhere RENAME TO dewey_runs")
    recorded(run_id, "succeeded")
    serving.logged("The recorder works again")
    assert serving.log.count("The recorder waits") == 1


@pytest.mark.parametrize(
    ("setting", "options", "expected", "absent"),
    [
        ("INFO", (), "INFO/MainProcess", "DEBUG/"),
        ("WARNING", (), "", "INFO/"),
        ("DEBUG", (), "DEBUG/", "nothing of the kind"),
        ("WARNING", ("-v",), "DEBUG/", "nothing of the kind"),
        ("DEBUG", ("-q",), "", "INFO/"),
    ],
)
def test_the_level_is_the_settings_unless_an_option_says_otherwise(
    tmp_path: Path, setting: str, options: tuple[str, ...], expected: str, absent: str
) -> None:
    log = tmp_path / "log"
    environment = {"DATA_DIR": str(tmp_path), "LOG_LEVEL": setting}
    running = Consumer("probes.probe", "-k", "process", *options, environment=environment, log=log)
    try:
        wait_until(lambda: (tmp_path / "queue.db").exists() and len(running.children()) == 2)
        wait_until(lambda: expected in running.log)
    finally:
        running.stop()
    assert absent not in running.log


def test_lines_may_be_json_and_go_to_a_file(tmp_path: Path) -> None:
    environment = {"DATA_DIR": str(tmp_path), "LOG_FORMAT": "json"}
    target = tmp_path / "consumer.log"
    running = Consumer(
        "probes.probe", "-k", "process", "-l", str(target), environment=environment, log=tmp_path / "out"
    )
    try:
        wait_until(lambda: target.exists() and "commands are available" in target.read_text())
    finally:
        running.stop()
    entries = [json.loads(line) for line in target.read_text().splitlines()]
    assert {"at", "level", "process", "logger", "message"} <= set(entries[0])
    assert running.log == ""


def test_the_soft_limit_is_an_exception_that_the_task_cannot_swallow(serving: Consumer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run = recorded(dawdle(str(ledger)).id, "failed")
    assert run.error == "TaskTimeout: the soft time limit of 0.5 s has passed"
    assert [line[0] for line in lines(ledger)] == ["start", "start"]
    assert 500 <= run.run_ms < 10_000


def test_the_hard_limit_ends_the_worker_and_is_a_failed_attempt(serving: Consumer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run = recorded(hang(str(ledger)).id, "failed")
    assert run.error == "HardTimeLimit: the time limit of 2 s has passed; the worker was killed"
    assert [(one.attempt, one.state) for one in run.history] == [(1, "failed"), (2, "failed")]
    assert run.run_ms >= 2000
    assert "is cut off: the time limit of 2 s has passed" in serving.log


@pytest.mark.alone
def test_a_running_task_is_cancelled_within_moments(serving: Consumer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    result = work(str(ledger), 30)
    wait_until(lambda: lines(ledger))
    before = {one.pid for one in serving.children()}
    started = time.monotonic()
    assert runs.cancel({"probe": probe}, result.id, Requester("cli", "vera")) == "running"
    assert recorded(result.id, "cancelled").error == "CancelExecution: cancelled by vera"
    assert time.monotonic() - started < 4
    assert [line[0] for line in lines(ledger)] == ["start"]
    assert {one.pid for one in serving.children()} == before
    assert echo("after").get(blocking=True, timeout=25) == "after"


def test_a_task_that_does_not_heed_its_cancelling_loses_its_worker(serving: Consumer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    result = deaf(str(ledger))
    wait_until(lambda: lines(ledger))
    runs.cancel({"probe": probe}, result.id, Requester("cli", "vera"))
    run = recorded(result.id, "cancelled")
    assert run.error == "CancelExecution: cancelled by vera; the worker was killed"
    assert [one.state for one in run.history] == ["cancelled"]


def test_a_run_that_failed_is_retried_under_its_id_and_its_attempts_go_on(serving: Consumer, tmp_path: Path) -> None:
    run = recorded(fail(str(tmp_path / "ledger")).id, "failed")
    runs.retry({"probe": probe}, run.id, Requester("cli", "vera"))
    wait_until(lambda: len(lines(tmp_path / "ledger")) == 6)
    run = recorded(run.id, "failed")
    assert [one.attempt for one in run.history] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(exceptions.NotPossible):
        runs.cancel({"probe": probe}, run.id, Requester("cli", "vera"))


def test_a_queue_that_is_paused_or_purged_starts_nothing_more(serving: Consumer) -> None:
    queues.pause(probe, by=Requester("cli", "vera"))
    results = [echo(number) for number in range(3)]
    assert queues.purge(probe, Requester("cli", "vera")) == 3
    assert [recorded(one.id, "cancelled").error for one in results] == ["cancelled by vera"] * 3
    waiting = echo("waiting")
    queues.resume(probe)
    assert waiting.get(blocking=True, timeout=25) == "waiting"


def test_threads_are_refused_a_task_that_declares_a_limit(tmp_path: Path) -> None:
    command = [str(BIN / "huey_consumer"), "probes.probe"]
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (
        2,
        ["dewey: dawdle declares a time limit, which needs -k process"],
    )


def test_threads_work_and_say_that_the_global_limits_are_off(tmp_path: Path) -> None:
    environment = {"DATA_DIR": str(tmp_path)}
    with consumer("tasks.light", "-w", "2", environment=environment, log=tmp_path / "log") as running:
        assert "WARNING/MainProcess] Time limits are off: they need -k process" in running.log
        assert running.stop() == 0


def test_greenlets_are_refused(tmp_path: Path) -> None:
    command = [str(BIN / "huey_consumer"), "tasks.light", "-k", "greenlet"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "DATA_DIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "-k greenlet is not supported" in done.stderr


def test_history_waits_while_the_database_is_away_and_is_written_when_it_is_back(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with consumer("probes.probe", environment=environment, log=tmp_path / "log") as running:
        database.execute_sql("ALTER TABLE dewey_runs RENAME TO elsewhere")
        results = [echo(number) for number in range(20)]
        assert [one.get(blocking=True, timeout=25) for one in results] == list(range(20))
        running.logged("The recorder waits")
        database.execute_sql("ALTER TABLE elsewhere RENAME TO dewey_runs")
        wait_until(lambda: Run.select().where(Run.state == "succeeded").count() == 20)
        assert Attempt.select().count() == 20
