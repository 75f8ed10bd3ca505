"""Crash points: the process that comes to a named place first is killed there, once; or an answer of the broker is
lost there. The product has no hooks for it, and this is the one place that knows which steps its processes take.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from engine.broker.deliveries import FinishedRun, TurnResult
from engine.exceptions import BrokerUnavailable


class Point(NamedTuple):
    """On entering one of these steps, or (`after`) on leaving it. The condition sees the arguments and the answer."""

    owner: str
    steps: tuple[str, ...]
    after: bool = False
    condition: Callable[[tuple[Any, ...], Any], bool] = lambda arguments, answer: True
    deadly: bool = True


def settles(arguments: tuple[Any, ...], answer: Any = None) -> bool:
    """A run is settled alone, or in the step that takes the next."""
    return any(isinstance(argument, FinishedRun) for argument in arguments)


def has_claimed(arguments: tuple[Any, ...], turn: TurnResult) -> bool:
    return turn.claimed is not None


POINTS = {
    "after_take": Point("deliveries", ("settle_and_claim",), True, has_claimed),
    "before_result": Point("queue", ("put_result",)),
    "before_settle": Point("deliveries", ("settle_and_claim", "settle"), False, settles),
    "after_settle": Point("deliveries", ("settle_and_claim", "settle"), True, settles),
    "answer_lost": Point("deliveries", ("settle_and_claim",), True, has_claimed, deadly=False),
    "settling_answer_lost": Point("deliveries", ("settle_and_claim", "settle"), True, settles, deadly=False),
    "after_due_move": Point("messages", ("enqueue_due",), True, lambda arguments, moved: moved > 0),
}


def crash_once(queue: Any, name: str, marker: str) -> None:
    """Arrange it in this process and those that it forks. `marker`: a file, made by whoever is killed."""
    point = POINTS[name]
    owner = queue if point.owner == "queue" else getattr(queue.storage, point.owner)
    for step in point.steps:
        setattr(owner, step, crashing(getattr(owner, step), point, marker))


def crashing(step: Callable[..., Any], point: Point, marker: str) -> Callable[..., Any]:
    def wrapped(*arguments: Any) -> Any:
        if not point.after and point.condition(arguments, None):
            crash(point, marker)
        answer = step(*arguments)
        if point.after and point.condition(arguments, answer):
            crash(point, marker)
        return answer

    return wrapped


def crash(point: Point, marker: str) -> None:
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if not point.deadly:
        raise BrokerUnavailable("the answer was lost")
    os.kill(os.getpid(), 9)
