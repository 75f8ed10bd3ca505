"""The tasks that are measured, on our queue. Redis or SQLite, as the settings say."""

import os
import time

import models  # noqa: F401 - a consumer of ours has them in memory; both peers get the same
from engine.worker.served_queue import ServedQueue

queue = ServedQueue("benchmark")


@queue.task()
def nothing() -> None:
    """An empty task: what is measured is all that is around it."""


@queue.task()
def stamp(path: str, asked_at: int) -> None:
    """Write down how many nanoseconds passed from being asked for to being run."""
    took = time.time_ns() - asked_at
    with open(path, "a", buffering=1) as file:
        file.write(f"{took}\n")


def enqueue_in_bulk(count: int) -> None:
    nothing.map([()] * count)


def prepare() -> None:
    from engine.migrations import migrate

    os.makedirs(os.environ["DATA_DIR"], exist_ok=True)
    migrate()
