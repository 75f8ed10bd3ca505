"""The probe queue with consumer steps that fail a few times in each process.

Start it with `huey_consumer failing_steps.probe`. STUMBLE names the steps. The product has no hooks for this.
"""

import os
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

from sample_tasks import probe

from engine.history.recorder import Recorder
from engine.worker.commands import CommandExecutor
from engine.worker.consumer import Consumer
from engine.worker.heartbeat import HeartbeatSender
from engine.worker.limits import LimitEnforcer
from engine.worker.scheduler import Scheduler

__all__ = ["probe"]

#: The calls of a step that fail. The first may belong to the start and succeeds.
FAILING = range(2, 4)


class Step(NamedTuple):
    owner: type
    name: str
    error: BaseException = RuntimeError("stumbled")


STEPS = {
    "ending": Step(Recorder, "attempt", SystemExit()),
    "gathering": Step(Recorder, "wait_for_batch"),
    "recording": Step(Recorder, "record"),
    "moving": Step(Scheduler, "enqueue_due"),
    "reaping": Step(Scheduler, "reap"),
    "children": Step(Consumer, "check_children"),
    "runs": Step(LimitEnforcer, "enforce_limits"),
    "orders": Step(CommandExecutor, "poll_commands"),
    "beating": Step(HeartbeatSender, "send"),
}


def failing(step: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    numbers = count(1)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if next(numbers) in FAILING:
            raise error
        return step(*arguments, **options)

    return wrapped


def make_failing(step: Step) -> None:
    setattr(step.owner, step.name, failing(getattr(step.owner, step.name), step.error))


for name in os.environ.get("STUMBLE", "").split():
    make_failing(STEPS[name])
