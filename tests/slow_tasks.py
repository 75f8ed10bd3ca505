"""The program's own queues, with tasks that take their time.

A consumer serves `slow_tasks.light`, the web server is `slow_tasks:create_app()`, this folder being on their path.
"""

import os
import time
from pathlib import Path
from typing import Any

from tasks import heavy, light, normal


@light.task(priority=2)
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "awake"


@normal.task(priority=3)
def snooze(bell: str) -> None:
    """Until there is such a file."""
    while not Path(bell).exists():
        time.sleep(0.05)


@heavy.task(priority=5)
def grind(seconds: float, page: int = 0) -> int:
    """Busy, and not asleep."""
    until, turns = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        turns += 1
        time.sleep(0.002)
    return turns


@light.task()
def collapse(unless: str) -> str:
    """Take the worker down, unless there is such a file."""
    if not Path(unless).exists():
        os.kill(os.getpid(), 9)
    return "stood"


def create_app() -> Any:
    """The console that knows these tasks; a consumer has no use for it."""
    from app import create_app

    return create_app()
