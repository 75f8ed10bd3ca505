"""Wait for what happens in another process or thread, instead of sleeping for as long as it might take."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], within: float = 20.0) -> T:
    """Ask again and again until the answer is true, and give it back; AssertionError after `within` seconds."""
    give_up_at = time.monotonic() + within
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < give_up_at, f"not within {within:g} s"
        time.sleep(0.02)


def avoid_end_of(span: timedelta, room: float = 10.0) -> None:
    """Return at once, or, within `room` seconds of the end of an hour or day of UTC, when the next one has begun.

    For tests that compare times to the hour: what they store and what they read then lie in the same hour.
    """
    wait_until(lambda: time.time() % span.total_seconds() < span.total_seconds() - room, within=room + 5)
