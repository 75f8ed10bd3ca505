"""Real consumers: their log, their exit, and no lost run when a worker dies."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import fork_server
import psutil
import pytest
from consumers import BIN, ROOT, ConsumerProcess, consumer, share_with_consumers
from sample_tasks import (
    allocate_memory,
    die,
    echo,
    enqueue_child,
    exceed_soft_limit,
    exit_task,
    fail,
    fail_with_result,
    hang,
    hold,
    ignore_signals,
    probe,
    read_lines,
    release,
    work,
)
from waiting import wait_until

from engine import exceptions
from engine.broker.effects import Effects
from engine.broker.messages import Requester
from engine.control import queues, runs
from engine.database import database
from engine.history import run_counts
from engine.models import Attempt, Consumer, Run
from engine.queues.enqueue import requested_by


@pytest.fixture(params=["sqlite", "redis and postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    names = ("redis_url", "fresh_postgresql") if request.param != "sqlite" else ()
    with share_with_consumers(probe, tmp_path, *map(request.getfixturevalue, names)) as environment:
        yield environment


@pytest.fixture
def serving(environment: dict[str, str], tmp_path: Path) -> Iterator[ConsumerProcess]:
    with consumer("sample_tasks.probe", environment=environment, log=tmp_path / "log") as running:
        yield running


def wait_for_run(run_id: str, state: str) -> Run:
    """Return the run's row once it has this state."""
    return wait_until(lambda: Run.get_or_none((Run.id == run_id) & (Run.state == state)))


def test_run_is_executed_and_recorded(serving: ConsumerProcess) -> None:
    with requested_by(Requester("operator", "vera@example.org")):
        result = echo({"answer": [42, None]})
    assert result.get(blocking=True, timeout=25) == {"answer": [42, None]}
    run = wait_for_run(result.id, "succeeded")
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


def test_result_is_kept_after_it_was_read(serving: ConsumerProcess) -> None:
    result = echo("kept")
    assert result.get(blocking=True, timeout=25) == "kept"
    assert probe.result(result.id) == "kept"


def test_failing_run_is_retried_and_each_attempt_recorded(serving: ConsumerProcess, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run = wait_for_run(fail(str(ledger)).id, "failed")
    assert (run.error, run.attempts, len(read_lines(ledger))) == ("ValueError: always", 3, 3)
    assert [(attempt.attempt, attempt.state, attempt.error) for attempt in run.history] == [
        (number, "failed", "ValueError: always") for number in (1, 2, 3)
    ]
    assert all('raise ValueError("always")' in attempt.traceback for attempt in run.history)
    assert run_counts.load_totals(run.ended_at).counts == {"failed": 1, "again": 1, "retried": 2}
    assert "Retrying task in 0s (attempt 1/2)" in serving.log
    assert "Retrying task in 0s (attempt 2/2)" in serving.log


def test_failed_task_may_set_its_own_result(serving: ConsumerProcess, tmp_path: Path) -> None:
    result = fail_with_result(str(tmp_path))
    assert result.get(blocking=True, timeout=25) == {"error": "no luck"}
    assert wait_for_run(result.id, "failed").result == {"error": "no luck"}


def test_task_that_exits_fails_and_its_worker_survives(serving: ConsumerProcess) -> None:
    before = wait_until(lambda: len(pids := {process.pid for process in serving.children()}) == 3 and pids)
    assert wait_for_run(exit_task().id, "failed").error == "TaskCalledExit: the task called sys.exit(3)"
    assert {process.pid for process in serving.children()} == before


def test_run_enqueued_by_a_task_names_its_parent(serving: ConsumerProcess, tmp_path: Path) -> None:
    parent = enqueue_child(str(tmp_path / "ledger"))
    child = wait_for_run(parent.get(blocking=True, timeout=25), "succeeded")
    assert (child.parent_id, child.asked_by_kind, child.asked_by) == (parent.id, "run", parent.id)


def test_run_of_a_killed_worker_is_redelivered(serving: ConsumerProcess, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    result = hold(str(ledger))
    [[_, _, pid]] = wait_until(lambda: read_lines(ledger))
    os.kill(int(pid), signal.SIGKILL)
    release(ledger)
    assert result.get(blocking=True, timeout=25) == "done"
    assert [line[0] for line in read_lines(ledger)] == ["start", "start", "end"]
    run = wait_for_run(result.id, "succeeded")
    assert (run.deliveries, run.attempts) == (2, 1)
    assert [(attempt.state, attempt.attempt) for attempt in run.history] == [("died", 1), ("succeeded", 1)]
    assert "died (signal 9)" in run.history[0].error
    assert len(serving.children()) == 3  # two workers, scheduler


def test_task_that_kills_every_worker_ends_dead(environment: dict[str, str], tmp_path: Path) -> None:
    with consumer(
        "sample_tasks.probe", environment={**environment, "MAX_DELIVERIES": "3"}, log=tmp_path / "log"
    ) as serving:
        poison, good = die(), echo(1)
        run = wait_for_run(poison.id, "dead")
        assert (run.deliveries, [attempt.state for attempt in run.history]) == (3, ["died"] * 3)
        assert good.get(blocking=True, timeout=25) == 1
        assert serving.process.poll() is None


def test_unparseable_message_is_dead_lettered_and_blocks_no_other(serving: ConsumerProcess) -> None:
    probe.storage.messages.write(Effects().enqueue("garbage", b"garbage", None))
    renamed = probe.serialize_task(echo.s(1)).replace(b"sample_tasks.echo", b"sample_tasks.gone")
    probe.storage.messages.write(Effects().enqueue("forged", renamed, None))
    assert echo("after").get(blocking=True, timeout=25) == "after"
    assert wait_for_run("garbage", "dead").error == "not a message of this program"
    assert wait_for_run("forged", "dead").error == "the signature does not match SECRET_KEY"
    assert probe.storage.messages.get("garbage") == b"garbage"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_stopping_consumer_lets_its_running_task_finish(serving: ConsumerProcess, tmp_path: Path, how: int) -> None:
    ledger = tmp_path / "ledger"
    result = hold(str(ledger))
    wait_until(lambda: read_lines(ledger))
    family = [psutil.Process(serving.pid), *serving.children()]
    serving.process.send_signal(how)
    serving.logged("running task(s)")
    release(ledger)
    assert serving.process.wait(30) == 0
    assert [line[0] for line in read_lines(ledger)] == ["start", "end"]
    assert wait_for_run(result.id, "succeeded").deliveries == 1
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_unfinished_run_is_released_and_run_by_the_next_consumer(environment: dict[str, str], tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    options = ("-k", "process", "-w", "1", "-t", "0.5", "-n")
    with consumer("sample_tasks.probe", *options, environment=environment, log=tmp_path / "log") as first:
        result = hold(str(ledger))
        wait_until(lambda: read_lines(ledger))
        assert first.stop() == 0
        assert "Waiting up to 0.5 s for 1 running task(s)" in first.log
    assert len(read_lines(ledger)) == 1
    assert wait_for_run(result.id, "waiting").history[0].state == "returned"
    release(ledger)
    with consumer("sample_tasks.probe", environment=environment, log=tmp_path / "log"):
        assert result.get(blocking=True, timeout=25) == "done"
        assert wait_for_run(result.id, "succeeded").deliveries == 2


def test_children_end_with_a_killed_parent(serving: ConsumerProcess) -> None:
    children = serving.children()
    os.kill(serving.pid, signal.SIGKILL)
    serving.process.wait()
    assert psutil.wait_procs(children, 20)[1] == []


def test_run_of_a_killed_consumer_is_redelivered_within_a_lease(environment: dict[str, str], tmp_path: Path) -> None:
    ledger, short = tmp_path / "ledger", {**environment, "LEASE_SECONDS": "2"}
    with consumer("sample_tasks.probe", environment=short, log=tmp_path / "log") as first:
        result = hold(str(ledger))
        wait_until(lambda: read_lines(ledger))
        with consumer(
            "sample_tasks.probe", "-k", "process", "-w", "1", "-n", environment=short, log=tmp_path / "log2"
        ) as second:
            os.killpg(first.pid, signal.SIGKILL)
            first.process.wait()
            release(ledger)
            assert result.get(blocking=True, timeout=25) == "done"
            assert "is lost. Its runs returned to the queue" in second.logged("is lost")


def test_consumer_row_shows_running_tasks_and_its_stop(serving: ConsumerProcess, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    result = hold(str(ledger))

    def busy() -> Consumer | None:
        return next((consumer_row for consumer_row in Consumer.select() if consumer_row.running), None)

    row = wait_until(busy)
    facts = (row.queue, row.pid, row.worker_type, row.worker_count, row.periodic)
    assert facts == ("probe", serving.pid, "process", 2, False)
    assert row.running[0]["run_id"] == result.id
    assert row.rss_bytes > 10_000_000
    release(ledger)
    serving.stop()
    row = Consumer.get_by_id(row.id)
    assert row.stopped_at and row.running == [] and row.processed == 1


def test_worker_is_replaced_after_its_number_of_tasks(environment: dict[str, str], tmp_path: Path) -> None:
    options = ("-k", "process", "-w", "1", "-M", "2", "-n")
    with consumer("sample_tasks.probe", *options, environment=environment, log=tmp_path / "log") as running:
        pids = [allocate_memory(0).get(blocking=True, timeout=25) for _ in range(6)]
        assert len(set(pids)) == 3
        assert "died" not in running.log


def test_worker_over_the_memory_limit_is_replaced_after_its_task(environment: dict[str, str], tmp_path: Path) -> None:
    small = {**environment, "WORKER_MAX_MEMORY_MB": "200"}
    with consumer(
        "sample_tasks.probe", "-k", "process", "-w", "1", "-n", environment=small, log=tmp_path / "log"
    ) as running:
        large = allocate_memory(250).get(blocking=True, timeout=25)
        assert allocate_memory(0).get(blocking=True, timeout=25) != large
        assert "MB of 200 and is replaced" in running.log


def test_log_lines_have_the_documented_prefix(environment: dict[str, str], tmp_path: Path) -> None:
    with consumer("sample_tasks.probe", environment=environment, log=tmp_path / "log") as running:
        result = echo(1)
        running.logged(f"Task sample_tasks.echo[{result.id}] succeeded in ")
        running.stop()
        head = re.compile(
            r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: (INFO|WARNING)/(MainProcess|Worker-[12])\] \S|\+ sample_tasks\."
        )
        assert [line for line in running.log.splitlines() if not head.match(line)] == []
        assert re.search(r"INFO/Worker-[12]\] Task sample_tasks\.echo", running.log)


def test_unavailable_history_is_retried_and_logged_once(serving: ConsumerProcess) -> None:
    database.execute_sql("ALTER TABLE dewey_runs RENAME TO elsewhere")
    run_id = echo(1).id
    serving.logged("The recorder is waiting")
    database.execute_sql("ALTER TABLE elsewhere RENAME TO dewey_runs")
    wait_for_run(run_id, "succeeded")
    serving.logged("The recorder works again")
    assert serving.log.count("The recorder is waiting") == 1


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
def test_log_level_is_the_setting_unless_an_option_overrides_it(
    tmp_path: Path, setting: str, options: tuple[str, ...], expected: str, absent: str
) -> None:
    log = tmp_path / "log"
    environment = {"DATA_DIR": str(tmp_path), "LOG_LEVEL": setting}
    running = ConsumerProcess("sample_tasks.probe", "-k", "process", *options, environment=environment, log=log)
    try:
        wait_until(lambda: (tmp_path / "queue.db").exists() and len(running.children()) == 2)
        wait_until(lambda: expected in running.log)
    finally:
        running.stop()
    assert absent not in running.log


def test_log_may_be_json_in_a_file(tmp_path: Path) -> None:
    environment = {"DATA_DIR": str(tmp_path), "LOG_FORMAT": "json"}
    target = tmp_path / "consumer.log"
    running = ConsumerProcess(
        "sample_tasks.probe", "-k", "process", "-l", str(target), environment=environment, log=tmp_path / "out"
    )
    try:
        wait_until(lambda: target.exists() and "Periodic tasks are" in target.read_text())
    finally:
        running.stop()
    entries = [json.loads(line) for line in target.read_text().splitlines()]
    assert {"at", "level", "process", "logger", "message"} <= set(entries[0])
    assert running.log == ""


def test_soft_limit_raises_an_exception_the_task_cannot_swallow(serving: ConsumerProcess, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run = wait_for_run(exceed_soft_limit(str(ledger)).id, "failed")
    assert run.error == "TaskTimeout: the soft time limit of 0.5 s has passed"
    assert [line[0] for line in read_lines(ledger)] == ["start", "start"]
    assert 500 <= run.run_ms < 10_000


def test_hard_limit_kills_the_worker_and_fails_the_attempt(serving: ConsumerProcess, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run = wait_for_run(hang(str(ledger)).id, "failed")
    assert run.error == "HardTimeLimitExceeded: the time limit of 2 s has passed; the worker was killed"
    assert [(attempt.attempt, attempt.state) for attempt in run.history] == [(1, "failed"), (2, "failed")]
    assert run.run_ms >= 2000
    assert "is killed: the time limit of 2 s has passed" in serving.log


@pytest.mark.alone
def test_running_task_is_cancelled_quickly(serving: ConsumerProcess, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    result = work(str(ledger), 30)
    wait_until(lambda: read_lines(ledger))
    before = {process.pid for process in serving.children()}
    started = time.monotonic()
    assert runs.cancel_run({"probe": probe}, result.id, Requester("cli", "vera")) == "running"
    assert wait_for_run(result.id, "cancelled").error == "CancelExecution: cancelled by vera"
    assert time.monotonic() - started < 4
    assert [line[0] for line in read_lines(ledger)] == ["start"]
    assert {process.pid for process in serving.children()} == before
    assert echo("after").get(blocking=True, timeout=25) == "after"


def test_task_that_ignores_its_cancel_loses_its_worker(serving: ConsumerProcess, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    result = ignore_signals(str(ledger))
    wait_until(lambda: read_lines(ledger))
    runs.cancel_run({"probe": probe}, result.id, Requester("cli", "vera"))
    run = wait_for_run(result.id, "cancelled")
    assert run.error == "CancelExecution: cancelled by vera; the worker was killed"
    assert [attempt.state for attempt in run.history] == ["cancelled"]


def test_failed_run_is_retried_under_its_id_with_further_attempts(serving: ConsumerProcess, tmp_path: Path) -> None:
    run = wait_for_run(fail(str(tmp_path / "ledger")).id, "failed")
    runs.retry_run({"probe": probe}, run.id, Requester("cli", "vera"))
    wait_until(lambda: len(read_lines(tmp_path / "ledger")) == 6)
    run = wait_for_run(run.id, "failed")
    assert [attempt.attempt for attempt in run.history] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(exceptions.InvalidState):
        runs.cancel_run({"probe": probe}, run.id, Requester("cli", "vera"))


def test_paused_or_purged_queue_starts_no_run(serving: ConsumerProcess) -> None:
    queues.pause_queue(probe, by=Requester("cli", "vera"))
    results = [echo(number) for number in range(3)]
    assert queues.purge_queue(probe, Requester("cli", "vera")) == 3
    assert [wait_for_run(result.id, "cancelled").error for result in results] == ["cancelled by vera"] * 3
    waiting = echo("waiting")
    queues.resume_queue(probe)
    assert waiting.get(blocking=True, timeout=25) == "waiting"


def test_threads_are_rejected_for_a_task_with_a_time_limit(tmp_path: Path) -> None:
    command = [str(BIN / "huey_consumer"), "sample_tasks.probe"]
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = fork_server.run_to_end(command, cwd=ROOT, env=environment)
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (
        2,
        ["dewey: exceed_soft_limit declares a time limit, which needs -k process"],
    )


def test_threads_work_and_warn_that_time_limits_are_off(tmp_path: Path) -> None:
    environment = {"DATA_DIR": str(tmp_path)}
    with consumer("tasks.light", "-w", "2", environment=environment, log=tmp_path / "log") as running:
        assert "WARNING/MainProcess] Time limits are off: they need -k process" in running.log
        assert running.stop() == 0


def test_greenlets_are_rejected(tmp_path: Path) -> None:
    command = [str(BIN / "huey_consumer"), "tasks.light", "-k", "greenlet"]
    done = fork_server.run_to_end(command, cwd=ROOT, env={**os.environ, "DATA_DIR": str(tmp_path)})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "-k greenlet is not supported" in done.stderr


def test_history_is_written_when_the_database_returns(environment: dict[str, str], tmp_path: Path) -> None:
    with consumer("sample_tasks.probe", environment=environment, log=tmp_path / "log") as running:
        database.execute_sql("ALTER TABLE dewey_runs RENAME TO elsewhere")
        results = [echo(number) for number in range(20)]
        assert [result.get(blocking=True, timeout=25) for result in results] == list(range(20))
        running.logged("The recorder is waiting")
        database.execute_sql("ALTER TABLE elsewhere RENAME TO dewey_runs")
        wait_until(lambda: Run.select().where(Run.state == "succeeded").count() == 20)
        assert Attempt.select().count() == 20
