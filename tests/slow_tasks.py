"""The program's queues with slow tasks.

A consumer serves `slow_tasks.light`. The web server is `slow_tasks:create_app()`. Both need this folder on their path.
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
    """Sleep until such a file exists."""
    while not Path(bell).exists():
        time.sleep(0.05)


@heavy.task(priority=5)
def grind(seconds: float, page: int = 0) -> int:
    """Compute without sleeping."""
    until, turns = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        turns += 1
        time.sleep(0.002)
    return turns


@light.task()
def collapse(unless: str) -> str:
    """Kill the worker unless such a file exists."""
    if not Path(unless).exists():
        os.kill(os.getpid(), 9)
    return "stood"


def create_app() -> Any:
    """Create the console that has these tasks. A consumer does not need it."""
    from app import create_app

    return create_app()
