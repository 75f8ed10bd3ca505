"""The measured tasks on Dewey's queue, with Redis or SQLite according to the settings."""

import os
import time

import models  # noqa: F401 - Dewey's consumers load them, so both peers do
from engine.worker.served_queue import ServedQueue

queue = ServedQueue("benchmark")


@queue.task()
def nothing() -> None:
    """Do nothing, so that only the overhead is measured."""


@queue.task()
def stamp(path: str, asked_at: int) -> None:
    """Append the nanoseconds between enqueue and start to a file."""
    took = time.time_ns() - asked_at
    with open(path, "a", buffering=1) as file:
        file.write(f"{took}\n")


def enqueue_in_bulk(count: int) -> None:
    nothing.map([()] * count)


def prepare() -> None:
    from engine.migrations import migrate

    os.makedirs(os.environ["DATA_DIR"], exist_ok=True)
    migrate()
