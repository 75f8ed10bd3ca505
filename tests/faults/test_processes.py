"""Processes started by tasks end with their worker, have default signals, and may use `multiprocessing`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from consumers import ROOT, ConsumerProcess, consumer, share_with_consumers
from process_tasks import (
    clean_up_slowly,
    compute,
    hang_shortly,
    leave_child,
    masks_of_programs,
    share,
    start,
    start_and_hang,
    start_and_ignore_signals,
    terminate_forked,
    terminate_programs,
    use_alarm,
)
from sample_tasks import allocate_memory, echo, hold, probe, read_lines, release, work
from waiting import wait_until

from admin.cli.start import PROGRAM, SUPERVISOR
from engine.broker.messages import Requester
from engine.control import runs
from engine.models import Attempt, LogLine, Run, now

ONE_WORKER = ("-k", "process", "-w", "1", "-n")
TOGETHER = 10  # seconds in which the supervisor must end everything


@pytest.fixture(params=["sqlite", "redis and postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of consumers that share their broker and database with this process."""
    names = () if request.param == "sqlite" else ("redis_url", "postgresql_library")
    with share_with_consumers(probe, tmp_path, *map(request.getfixturevalue, names)) as environment:
        yield environment


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def serving(environment: dict[str, str], log: Path) -> Iterator[ConsumerProcess]:
    with consumer("process_tasks.probe", *ONE_WORKER, environment=environment, log=log) as running:
        yield running


@pytest.fixture
def started() -> Iterator[set[psutil.Process]]:
    """Return a folder for the process ids of tasks. No such process outlives the test."""
    processes: set[psutil.Process] = set()
    yield processes
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def process_group(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return 0


def group_members(worker: int) -> set[psutil.Process]:
    """Return the live processes of the group."""
    group = (process for process in psutil.process_iter() if process_group(process) == worker and process.pid != worker)
    return set(filter(is_alive, group))


def session_members(ledger: Path) -> set[psutil.Process]:
    [apart] = [psutil.Process(int(line[1])) for line in read_lines(ledger) if line[0] == "apart"]
    return {apart, *apart.children(recursive=True)}


def wait_for_family(ledger: Path) -> tuple[int, set[psutil.Process], set[psutil.Process]]:
    """Return the worker, the processes of its group, and those in other sessions."""
    worker = int(wait_until(lambda: [line for line in read_lines(ledger) if line[0] == "ready"])[0][-1])
    # sleep, three of one pipeline, an orphan, and a forked process
    near = wait_until(lambda: len(members := group_members(worker)) == 6 and members)
    apart = wait_until(lambda: len(members := session_members(ledger)) == 3 and members)
    return worker, near, apart


def wait_until_dead(processes: set[psutil.Process], within: float = 5) -> None:
    try:
        wait_until(lambda: not any(map(is_alive, processes)), within)
    except AssertionError:
        raise AssertionError([process.cmdline() for process in processes if is_alive(process)]) from None


def wait_for_run(run_id: str, state: str) -> Run:
    return wait_until(lambda: Run.get_or_none((Run.id == run_id) & (Run.state == state)))


# --- a worker ends with its child processes ------------------------------------------------------------------


def test_hard_limit_kills_all_processes_of_the_task(
    serving: ConsumerProcess, ledger: Path, started: set[psutil.Process]
) -> None:
    run = start_and_hang(str(ledger))
    _, near, apart = wait_for_family(ledger)
    started |= near | apart
    assert "the time limit of 8 s has passed" in wait_for_run(run.id, "failed").error
    wait_until_dead(started)
    assert echo("after").get(blocking=True, timeout=25) == "after"


def test_cancel_that_kills_the_worker_kills_all_processes_of_the_task(
    serving: ConsumerProcess, ledger: Path, started: set[psutil.Process]
) -> None:
    run = start_and_ignore_signals(str(ledger))
    _, near, apart = wait_for_family(ledger)
    started |= near | apart
    runs.cancel_run({"probe": probe}, run.id, Requester("cli", "vera"))
    assert "the worker was killed" in wait_for_run(run.id, "cancelled").error
    wait_until_dead(started)


@pytest.mark.parametrize("task", [start, start_and_ignore_signals], ids=["interrupted", "killed"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_stop_after_the_grace_period_kills_all_processes_of_tasks(
    environment: dict[str, str], ledger: Path, log: Path, started: set[psutil.Process], task, how: int
) -> None:
    options = (*ONE_WORKER, "-t", "0.5")
    with consumer("process_tasks.probe", *options, environment=environment, log=log) as running:
        run = task(str(ledger))
        _, near, apart = wait_for_family(ledger)
        started |= near | apart
        assert running.stop(how) == 0
        wait_until_dead(started)
        assert wait_for_run(run.id, "waiting").history[0].state == "returned"


def test_stop_kills_processes_left_by_a_finished_task(
    serving: ConsumerProcess, ledger: Path, started: set[psutil.Process]
) -> None:
    run = start(str(ledger), 0)
    _, near, apart = wait_for_family(ledger)
    started |= near | apart
    run.get(blocking=True, timeout=25)
    assert serving.stop() == 0
    wait_until_dead(near)


def test_dying_worker_takes_its_process_group_with_it(
    serving: ConsumerProcess, ledger: Path, started: set[psutil.Process]
) -> None:
    start(str(ledger))
    worker, near, apart = wait_for_family(ledger)
    started |= near | apart
    os.kill(worker, signal.SIGKILL)
    wait_until_dead(near)


@pytest.mark.parametrize("whole", [False, True], ids=["the parent", "its process group"])
def test_killed_consumer_takes_the_process_groups_of_its_workers_with_it(
    serving: ConsumerProcess, ledger: Path, started: set[psutil.Process], whole: bool
) -> None:
    start(str(ledger))
    _, near, apart = wait_for_family(ledger)
    started |= near | apart
    children = set(serving.children())
    (os.killpg if whole else os.kill)(serving.pid, signal.SIGKILL)
    serving.process.wait()
    wait_until_dead(children | near)


def test_leftover_child_does_not_delay_the_replacement_of_its_worker(
    environment: dict[str, str], ledger: Path, log: Path, started: set[psutil.Process]
) -> None:
    with consumer("process_tasks.probe", *ONE_WORKER, "-M", "1", environment=environment, log=log):
        first = leave_child(str(ledger)).get(blocking=True, timeout=25)
        assert allocate_memory(0).get(blocking=True, timeout=25) != first
        [[_, child, _]] = read_lines(ledger)
        wait_until(lambda: not psutil.pid_exists(int(child)), 5)


def test_ctrl_c_does_not_reach_the_processes_of_a_task(
    serving: ConsumerProcess, ledger: Path, started: set[psutil.Process]
) -> None:
    """A terminal sends SIGINT to the process group of the consumer."""
    run = start(str(ledger), 1.5)
    _, near, apart = wait_for_family(ledger)
    started |= near | apart
    os.killpg(serving.pid, signal.SIGINT)
    serving.logged("Waiting up to 8 s for 1 running task(s)")
    assert all(map(is_alive, started))
    assert serving.process.wait(15) == 0
    wait_for_run(run.id, "succeeded")


# --- under the supervisor ------------------------------------------------------------------------------------


@pytest.fixture
def supervised(environment: dict[str, str], tmp_path: Path, log: Path) -> Iterator[psutil.Process]:
    """Run the supervisor of `flask start` with one consumer."""
    conf = tmp_path / "supervisord.conf"
    command = f"{sys.prefix}/bin/huey_consumer process_tasks.probe {' '.join(ONE_WORKER)}"
    conf.write_text(SUPERVISOR.format(names="worker") + PROGRAM.format(name="worker", command=command))
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "admin.cli.supervisor", "-c", str(conf)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdout=output,
            stderr=output,
            process_group=0,
        )
    supervisor = psutil.Process(process.pid)
    yield supervisor
    family = [supervisor, *supervisor.children(recursive=True)] if is_alive(supervisor) else []
    for member in family:
        member.kill()
    process.wait()


@pytest.mark.alone
@pytest.mark.parametrize("hangs", [False, True], ids=["answering", "hanging"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_supervisor_kills_all_processes_of_tasks(
    supervised: psutil.Process, ledger: Path, started: set[psutil.Process], how: int, hangs: bool
) -> None:
    start(str(ledger))
    _, near, apart = wait_for_family(ledger)
    started |= near | apart
    [parent] = supervised.children()
    everything = {supervised, *supervised.children(recursive=True), *near}
    if hangs:
        parent.suspend()
        everything -= apart  # cannot be found after every process of the consumer that saw them start has ended
    supervised.send_signal(how)
    wait_until_dead(everything, TOGETHER)


# --- signals -------------------------------------------------------------------------------------------------


def signal_mask(*numbers: int) -> int:
    return sum(1 << (number - 1) for number in numbers)


def test_programs_started_by_a_task_have_default_signals(serving: ConsumerProcess, tmp_path: Path) -> None:
    masks = masks_of_programs(str(tmp_path / "status")).get(blocking=True, timeout=25)
    assert masks["subprocess"] == masks["preexec_fn"] == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}
    python_ignores = signal_mask(signal.SIGPIPE, signal.SIGXFSZ)
    assert masks["system"] == {"SigBlk": 0, "SigIgn": python_ignores, "SigCgt": 0}
    expected = [-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP]
    assert terminate_programs().get(blocking=True, timeout=40) == expected


def test_processes_forked_by_a_task_have_default_signals(serving: ConsumerProcess) -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)
    assert terminate_forked().get(blocking=True, timeout=60) == [-number for number in numbers] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_worker_ignores_the_signals_of_its_consumer(serving: ConsumerProcess, ledger: Path, number: int) -> None:
    run = work(str(ledger), 1)
    [[_, _, worker]] = wait_until(lambda: read_lines(ledger))
    os.kill(int(worker), number)
    assert run.get(blocking=True, timeout=25) == "done"
    assert wait_for_run(run.id, "succeeded").deliveries == 1


# --- multiprocessing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("how", ["process", "pool", "executor"])
def test_task_may_use_multiprocessing(serving: ConsumerProcess, how: str, method: str) -> None:
    assert compute(how, method).get(blocking=True, timeout=30) == [1, 4, 9]


def test_child_processes_of_a_task_have_their_own_connections(serving: ConsumerProcess) -> None:
    run = share(200)
    *answers, first, second, third = run.get(blocking=True, timeout=60)
    assert [wrong for wrong, _ in answers] == [0] * 4
    assert (first, second, third) == (0, 0, 0)
    for _, run_id in answers:
        assert wait_for_run(run_id, "succeeded").parent_id == run.id
    wait_for_run(run.id, "succeeded")
    assert [line.text for line in LogLine.select().where(LogLine.run_id == run.id)] == ["The parent has ended"]
    assert serving.log.count("A child logs") == 3


# --- limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["switched off", "handled", "used"])
def test_soft_limit_interrupts_a_task_that_uses_sigalrm(serving: ConsumerProcess, how: str) -> None:
    run = wait_for_run(use_alarm(how).id, "failed")
    assert run.error == "TaskTimeout: the soft time limit of 1 s has passed"
    assert 1000 <= run.run_ms < 15_000


def test_soft_limit_interrupts_a_task_once(serving: ConsumerProcess, ledger: Path) -> None:
    wait_for_run(clean_up_slowly(str(ledger)).id, "failed")
    assert [line[0] for line in read_lines(ledger)] == ["cleaned"]


def test_hard_limit_kills_only_the_worker_of_its_run(environment: dict[str, str], ledger: Path, log: Path) -> None:
    """The run shares a worker entry with another one, as after a lost reply of the broker."""
    with consumer("process_tasks.probe", *ONE_WORKER, environment=environment, log=log) as running:
        innocent = hold(str(ledger))
        wait_until(lambda: read_lines(ledger))
        stray = hang_shortly(str(ledger))
        [beat] = probe.storage.heartbeats.all()
        assert (
            probe.storage.deliveries.settle_and_claim(beat.consumer, "Worker-1", False, "").claimed.run_id == stray.id
        )
        wait_until(lambda: Attempt.get_or_none((Attempt.run_id == stray.id) & (Attempt.state == "died")))
        release(ledger)
        assert innocent.get(blocking=True, timeout=25) == "done"
        run = wait_for_run(innocent.id, "succeeded")
        assert (run.deliveries, [attempt.state for attempt in run.history]) == (1, ["succeeded"])
        run = wait_for_run(stray.id, "failed")
        assert [(attempt.state, attempt.error) for attempt in run.history] == [
            ("died", "Worker-1 did not execute it"),
            ("failed", "HardTimeLimitExceeded: the time limit of 1 s has passed; the worker was killed"),
        ]
        assert len(running.children()) == 2


def test_worker_settling_for_a_killed_one_is_not_killed(environment: dict[str, str], ledger: Path, log: Path) -> None:
    slow = {**environment, "SPAWNING_STARTUP_SECONDS": "2"}
    with consumer("process_tasks.probe", *ONE_WORKER, environment=slow, log=log) as running:
        began = now()
        run = wait_for_run(hang_shortly(str(ledger)).id, "failed")
        assert run.ended_at > began
        assert running.log.count("is killed") == 1
