"""The tasks of a storm, the same for Dewey's queue and for stock Huey's."""

import os
import time
from typing import Any, NamedTuple

from delivery_log import append_line


def work(ledger: str, seconds: float = 0, task: Any = None) -> int:
    """Write a line, sleep that long, write another. Return the process id."""
    append_line(ledger, "start", task.id)
    time.sleep(seconds)
    append_line(ledger, "end", task.id)
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), 9)


def vanish() -> None:
    """Kill the worker without any sign of failure."""
    os._exit(0)


def minutely() -> None:
    append_line(os.environ["FAULTS_LEDGER"], "tick", str(int(time.time()) // 60))


class StormTasks(NamedTuple):
    work: Any
    die: Any
    vanish: Any
    minutely: Any


def register(queue: Any, each_minute: Any) -> StormTasks:
    """Register the tasks on a queue."""
    return StormTasks(
        queue.task(context=True)(work),
        queue.task()(die),
        queue.task()(vanish),
        queue.periodic_task(each_minute)(minutely),
    )
