"""More tasks of the queue of `sample_tasks`: they start processes and use signals."""

import logging
import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from sample_tasks import append_line, echo, probe

from engine.database import database
from engine.models import Run

logger = logging.getLogger(__name__)

SLEEP = ["sleep", "300"]
#: A shell whose child has a child, and a shell that ends before its child.
DEEP, ORPHANED = ["sh", "-c", "sh -c 'sleep 300 & wait' & wait"], ["sh", "-c", "sleep 300 &"]

if seconds := os.environ.get("SPAWNING_STARTUP_SECONDS"):
    probe.on_startup("slow")(lambda: time.sleep(float(seconds)))


def start_all(ledger: str) -> None:
    """Start processes in each way that a worker can end. Write their ids, and a line once they run."""
    family = [subprocess.Popen(SLEEP), subprocess.Popen(DEEP), subprocess.Popen(ORPHANED)]
    forked = multiprocessing.Process(target=time.sleep, args=(300,))
    forked.start()
    append_line(ledger, "started", len(family), forked.pid)


def start_apart(ledger: str) -> None:
    """Start a program in a separate session."""
    append_line(ledger, "apart", subprocess.Popen(DEEP, start_new_session=True).pid)


@probe.task()
def start(ledger: str, seconds: float = 300) -> None:
    start_all(ledger)
    start_apart(ledger)
    append_line(ledger, "ready")
    time.sleep(seconds)


@probe.task(time_limit=8)
def start_and_hang(ledger: str) -> None:
    start_all(ledger)
    start_apart(ledger)
    append_line(ledger, "ready")
    time.sleep(300)


@probe.task()
def start_and_ignore_signals(ledger: str) -> None:
    start_all(ledger)
    start_apart(ledger)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
    append_line(ledger, "ready")
    time.sleep(300)


# --- signals -------------------------------------------------------------------------------------------------


def masks(status: str) -> dict[str, int]:
    """Return the signals (1 to 31) that a process blocks, ignores and catches, from its /proc status."""
    return {
        name: int(mask, 16) & 0x7FFFFFFF for name, mask in re.findall(r"^(Sig(?:Blk|Ign|Cgt)):\s*(\w+)", status, re.M)
    }


@probe.task()
def masks_of_programs(file: str) -> dict[str, dict[str, int]]:
    """Return the signal masks of programs started by `subprocess` and by `os.system`."""
    os.system(f"cat /proc/self/status > {file}")
    status, words = ["cat", "/proc/self/status"], {"capture_output": True, "text": True}
    answers = {
        "system": Path(file).read_text(),
        "subprocess": subprocess.run(status, **words).stdout,
        "preexec_fn": subprocess.run(status, preexec_fn=lambda: None, **words).stdout,
    }
    return {how: masks(answer) for how, answer in answers.items()}


@probe.task()
def terminate_programs() -> list[int]:
    """Return the exit codes of programs after these signals."""
    codes = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        program = subprocess.Popen(SLEEP)
        program.send_signal(number)
        codes.append(program.wait(10))
    return codes


def in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@probe.task()
def terminate_forked() -> list[int | None]:
    """Return the exit codes of forked processes after these signals, forked by the main thread and by another one."""
    codes: list[int | None] = []

    def fork_and_send() -> None:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
            ready = multiprocessing.Event()
            process = multiprocessing.Process(target=announce, args=(ready,))
            process.start()
            assert ready.wait(10)
            os.kill(process.pid or 0, number)
            process.join(10)
            codes.append(process.exitcode)

    fork_and_send()
    in_thread(fork_and_send)
    return codes


def announce(ready: Any) -> None:
    ready.set()
    time.sleep(300)


# --- multiprocessing -----------------------------------------------------------------------------------------


def square(number: int) -> int:
    return number * number


@probe.task()
def compute(how: str, method: str) -> list[int]:
    context: Any = multiprocessing.get_context(method)
    if how == "pool":
        with context.Pool(2) as pool:
            squares = list(pool.map(square, [1, 2, 3]))
            pool.close()
            pool.join()  # The end of the block terminates the pool, which can hang on a process that is being killed.
            return squares
    if how == "executor":
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            return list(executor.map(square, [1, 2, 3]))
    queue = context.SimpleQueue()
    processes = [context.Process(target=put_square, args=(queue, number)) for number in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return sorted(queue.get() for _ in processes)


def put_square(queue: Any, number: int) -> None:
    queue.put(square(number))


@probe.task()
def share(times: int) -> list[Any]:
    """Use broker, database and log in this process and in its children at the same time."""
    assert Run.select().count() >= 0  # opens the connection before the fork
    context: Any = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=ask_often, args=(queue, times)) for _ in range(3)]
    for process in processes:
        process.start()
    ask_often(queue, times)
    for process in processes:
        process.join()
    logger.info("The parent has ended")
    return [queue.get() for _ in range(4)] + [process.exitcode for process in processes]


def ask_often(queue: Any, times: int) -> None:
    wrong = 0
    for number in range(times):
        probe.put(f"shared-{os.getpid()}", number)
        wrong += probe.get(f"shared-{os.getpid()}", peek=True) != number
        wrong += database.execute_sql(f"SELECT {number}").fetchone() != (number,)
    if multiprocessing.current_process().name != "Worker-1":
        logger.info("A child logs")
        time.sleep(1)  # Longer than the interval at which notes would be sent.
    queue.put([wrong, echo(os.getpid()).id])


@probe.task()
def leave_child(ledger: str) -> int:
    """End while a child of `multiprocessing` still runs."""
    child = multiprocessing.Process(target=time.sleep, args=(300,))
    child.start()
    append_line(ledger, "left", child.pid)
    return os.getpid()


# --- the soft limit ------------------------------------------------------------------------------------------


@probe.task(timeout=1)
def use_alarm(how: str) -> str:
    """Use SIGALRM as libraries do, and exceed the soft limit."""
    if how == "switched off":
        signal.alarm(0)
    elif how == "handled":
        signal.signal(signal.SIGALRM, lambda number, frame: None)
    elif how == "used":
        before = signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        time.sleep(0.4)
        signal.signal(signal.SIGALRM, before)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        time.sleep(0.1)
    return "too long"


@probe.task(timeout=1)
def clean_up_slowly(ledger: str) -> None:
    """Clean up after the soft limit for longer than the parent waits before it sends the signal again."""
    try:
        time.sleep(20)
    finally:
        time.sleep(2)
        append_line(ledger, "cleaned")


@probe.task(time_limit=1)
def hang_shortly(ledger: str) -> None:
    append_line(ledger, "start")
    time.sleep(300)
