"""Polling for changes in another process or thread, without fixed sleeps."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], within: float = 20.0) -> T:
    """Poll until the result is true and return it. Raises AssertionError after `within` seconds."""
    give_up_at = time.monotonic() + within
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < give_up_at, f"not within {within:g} s"
        time.sleep(0.02)


def avoid_end_of(span: timedelta, room: float = 10.0) -> None:
    """Return at once. Within `room` seconds of the end of a UTC hour or day, wait for the next one.

    For tests that compare times to the hour. The times they store and read then fall into the same hour.
    """
    wait_until(lambda: time.time() % span.total_seconds() < span.total_seconds() - room, within=room + 5)
