"""The soft time limit: an exception in the code of a task that runs too long."""

import signal
import time
from ctypes import c_double
from types import FrameType

from huey.exceptions import TaskTimeout

from engine.exceptions import SoftTimeLimitExceeded


class SoftLimit:
    """Interrupt a block after `seconds` with an exception that `except Exception` does not catch.

    The timer is SIGALRM, which the block may use itself. So `deadline`, shared with the consumer's parent, holds the
    limit
    too (monotonic seconds, 0: none or already raised).
    """

    def __init__(self, seconds: float, deadline: c_double) -> None:
        self.seconds, self.deadline = seconds, deadline

    def __enter__(self) -> None:
        self.deadline.value = time.monotonic() + self.seconds
        signal.signal(signal.SIGALRM, self.on_alarm)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        self.deadline.value = 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)
        if kind is SoftTimeLimitExceeded:
            raise TaskTimeout(f"the soft time limit of {self.seconds:g} s has passed") from error

    def on_alarm(self, signum: int, frame: FrameType | None) -> None:
        raise_if_passed(self.deadline)


def is_passed(deadline: c_double, by: float = 0.0) -> bool:
    return 0.0 < deadline.value <= time.monotonic() - by


def raise_if_passed(deadline: c_double) -> None:
    if is_passed(deadline):
        deadline.value = 0.0
        raise SoftTimeLimitExceeded
