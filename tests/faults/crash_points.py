"""Crash points: the first process to reach a named step is killed there, or a reply of the broker is lost.

The product has no hooks for this. Only this module names the steps of its processes.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from engine.broker.deliveries import FinishedRun, TurnResult
from engine.exceptions import BrokerUnavailable


class Point(NamedTuple):
    """A crash on entering one of these steps, or (`after`) on leaving it. The condition gets the arguments and the
    result.
    """

    owner: str
    steps: tuple[str, ...]
    after: bool = False
    condition: Callable[[tuple[Any, ...], Any], bool] = lambda arguments, answer: True
    deadly: bool = True


def settles(arguments: tuple[Any, ...], answer: Any = None) -> bool:
    """Return true if the step settles a run, alone or together with the claim of the next one."""
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
    """Arm the crash in this process and its forks. `marker` is a file that the killed process creates."""
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
        raise BrokerUnavailable("the reply was lost")
    os.kill(os.getpid(), 9)
