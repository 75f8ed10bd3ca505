"""A queue of tasks for tests, and the ledger that the tasks write. Tests read outcomes there, not from the queue.

A consumer serves it with `huey_consumer sample_tasks.probe` with this folder on its path.
"""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from engine.queues.crontab import crontab
from engine.queues.task import QueueTask
from engine.worker.served_queue import ServedQueue

probe = ServedQueue("probe")


def append_line(ledger: str, *words: Any) -> None:
    """Append one line atomically."""
    line = " ".join(map(str, (*words, os.getpid()))) + "\n"
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read_lines(ledger: Path | str) -> list[list[str]]:
    return [line.split() for line in Path(ledger).read_text().splitlines()] if Path(ledger).exists() else []


@probe.task(context=True)
def work(ledger: str, seconds: float = 0, task: QueueTask | None = None) -> str:
    """Write a line, sleep that long, write another."""
    assert task is not None
    append_line(ledger, "start", task.id)
    time.sleep(seconds)
    append_line(ledger, "end", task.id)
    return "done"


@probe.task(context=True)
def hold(ledger: str, task: QueueTask | None = None) -> str:
    """Write a line, wait for `release`, write another."""
    assert task is not None
    append_line(ledger, "start", task.id)
    while not released(ledger).exists():
        time.sleep(0.02)
    append_line(ledger, "end", task.id)
    return "done"


def release(ledger: Path | str) -> None:
    """End the runs of `hold` that use this ledger."""
    released(ledger).touch()


def released(ledger: Path | str) -> Path:
    return Path(f"{ledger}.released")


@probe.task(context=True, retries=2)
def fail(ledger: str, task: QueueTask | None = None) -> None:
    assert task is not None
    append_line(ledger, "start", task.id)
    raise ValueError("always")


@probe.task(context=True, retries=1, failed_result=lambda task, error: {"error": str(error)})
def fail_with_result(ledger: str, task: QueueTask | None = None) -> None:
    raise ValueError("no luck")


@probe.task(timeout=0.5, retries=1)
def exceed_soft_limit(ledger: str) -> None:
    """Exceed the soft limit and catch ordinary exceptions."""
    append_line(ledger, "start")
    try:
        time.sleep(30)
    except Exception:
        append_line(ledger, "swallowed")


@probe.task(time_limit=2, retries=1, context=True)
def hang(ledger: str, task: QueueTask | None = None) -> None:
    """Exceed the hard limit in code that no exception interrupts."""
    assert task is not None
    append_line(ledger, "start", task.id)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGUSR1})
    time.sleep(30)


@probe.task()
def ignore_signals(ledger: str) -> None:
    """Ignore every signal that can be ignored."""
    append_line(ledger, "start")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2})
    time.sleep(30)


@probe.task()
def spin(ledger: str) -> None:
    """Compute for some seconds in C code that holds the GIL."""
    append_line(ledger, "start")
    re.match(r"(a+)+$", "a" * 28 + "b")


@probe.task()
def exit_task() -> None:
    raise SystemExit(3)


@probe.task()
def die() -> None:
    os.kill(os.getpid(), 9)


@probe.task()
def echo(value: Any) -> Any:
    return value


@probe.task(context=True)
def enqueue_child(ledger: str, task: QueueTask | None = None) -> str:
    return str(work(ledger).id)


@probe.task()
def allocate_memory(megabytes: int) -> int:
    """Allocate memory and keep it."""
    kept.append(bytearray(os.urandom(1) * (megabytes << 20)))
    return os.getpid()


kept: list[bytearray] = []


@probe.periodic_task(crontab(minute="*/30"), catch_up=True)
def half_hourly() -> str:
    return "caught"


@probe.periodic_task(crontab(minute="*/10"))
def each_ten_minutes() -> None:
    """Run every ten minutes. Missed ticks are not caught up."""
