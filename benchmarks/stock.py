"""The same tasks on stock Huey: RedisHuey, or SqliteHuey without a Redis URL. Pickle, no history."""

import os
import time

from huey import RedisHuey, SqliteHuey

import models  # noqa: F401 - Dewey's consumers load them, so both peers do

url = os.environ["REDIS_URL"]
queue = RedisHuey("stock", url=url) if url else SqliteHuey("stock", filename=f"{os.environ['DATA_DIR']}/stock.db")


@queue.task()
def nothing() -> None:
    """An empty task."""


@queue.task()
def stamp(path: str, asked_at: int) -> None:
    took = time.time_ns() - asked_at
    with open(path, "a", buffering=1) as file:
        file.write(f"{took}\n")


def enqueue_in_bulk(count: int) -> None:
    """Enqueue with stock Huey's `.map`, one message at a time."""
    nothing.map([()] * count)
