"""The probe queue with steps of its consumer that fail some times, in each process: `huey_consumer stumbling.probe`.
STUMBLE names the steps. The product has no hooks for it.
"""

import os
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

from probes import probe

from engine.history.recorder import Recorder
from engine.worker.commands import CommandExecutor
from engine.worker.consumer import Consumer
from engine.worker.heartbeat import HeartbeatSender
from engine.worker.limits import LimitEnforcer
from engine.worker.scheduler import Scheduler

__all__ = ["probe"]

#: Of the calls of a step, those that fail: not the first, which may belong to the start.
FAILING = range(2, 4)


class Step(NamedTuple):
    owner: type
    name: str
    error: BaseException = RuntimeError("stumbled")


STEPS = {
    "ending": Step(Recorder, "attempt", SystemExit()),
    "gathering": Step(Recorder, "gather"),
    "recording": Step(Recorder, "record"),
    "moving": Step(Scheduler, "move_due"),
    "reaping": Step(Scheduler, "reap"),
    "children": Step(Consumer, "check_children"),
    "runs": Step(LimitEnforcer, "enforce_limits"),
    "orders": Step(CommandExecutor, "poll_commands"),
    "beating": Step(HeartbeatSender, "send"),
}


def stumbling(step: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    numbers = count(1)

    def wrapped(*arguments: Any, **more: Any) -> Any:
        if next(numbers) in FAILING:
            raise error
        return step(*arguments, **more)

    return wrapped


def stumble(step: Step) -> None:
    setattr(step.owner, step.name, stumbling(getattr(step.owner, step.name), step.error))


for name in os.environ.get("STUMBLE", "").split():
    stumble(STEPS[name])
