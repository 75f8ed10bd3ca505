"""Crash points: the process that comes to a named place first is killed there, once. The product has no hooks for it.

This is the one place that knows which steps a worker and a scheduler take.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple


class Point(NamedTuple):
    """Before a step, or after it when its answer is true in the sense of `if_`."""

    owner: str
    step: str
    if_: Callable[[Any], bool] | None = None


POINTS = {
    "after_take": Point("storage", "take", lambda taken: taken is not None),
    "before_result": Point("queue", "put_result"),
    "before_settle": Point("storage", "settle"),
    "after_settle": Point("storage", "settle", bool),
    "after_due_move": Point("storage", "move_due", bool),
}


def crash_once(queue: Any, name: str, marker: str) -> None:
    """Arrange it in this process and those that it forks. `marker`: a file, made by whoever is killed."""
    point = POINTS[name]
    owner = queue if point.owner == "queue" else queue.storage
    step = getattr(owner, point.step)

    def crashing(*args: Any, **kwargs: Any) -> Any:
        if point.if_ is None:
            crash(marker)
        answer = step(*args, **kwargs)
        if point.if_ and point.if_(answer):
            crash(marker)
        return answer

    setattr(owner, point.step, crashing)


def crash(marker: str) -> None:
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), 9)
