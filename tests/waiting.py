"""Wait for what happens in another process or thread, instead of sleeping for as long as it might take."""

import time
from collections.abc import Callable
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
