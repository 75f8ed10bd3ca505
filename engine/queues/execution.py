"""Execution: one execution of a run, from its claim to the effects that settle it.

It collects what Huey does meanwhile. The end stores everything in one step.
"""

import time
from functools import cached_property
from typing import TypeVar

import orjson
from huey import signals as S
from huey.api import Task

from engine.broker.deliveries import Delivery, FinishedRun
from engine.broker.effects import Effects, event_json, to_timestamp
from engine.exceptions import TaskRaised
from engine.models import State
from engine.queues.log_capture import AttemptLog
from engine.secret_texts import is_hiding, mask_json
from engine.text import error_text, traceback_text

T = TypeVar("T")

#: The state after each of Huey's signals. A later signal wins: an error that is retried ends as `retrying`.
ENDINGS = {
    S.SIGNAL_COMPLETE: State.SUCCEEDED,
    S.SIGNAL_ERROR: State.FAILED,
    S.SIGNAL_TIMEOUT: State.FAILED,
    S.SIGNAL_LOCKED: State.FAILED,
    S.SIGNAL_RATE_LIMITED: State.FAILED,
    S.SIGNAL_RETRYING: State.RETRYING,
    S.SIGNAL_CANCELED: State.CANCELLED,
    S.SIGNAL_REVOKED: State.CANCELLED,
    S.SIGNAL_EXPIRED: State.EXPIRED,
}
MAX_RESULT = 64 * 1024


class Execution:
    """The state of one execution. `effects` is stored together with the acknowledgement."""

    def __init__(self, task: Task, taken: Delivery) -> None:
        self.task, self.taken = task, taken
        self.attempt: int = task.envelope.attempt
        self.due = to_timestamp(task.eta or task.envelope.enqueued_at)
        self.effects = Effects()
        self.state: State | None = None
        self.interrupted = False
        self.exception: BaseException | None = None
        self.value: object = None
        self.checked: tuple[object, bytes] | None = None  # what the task's code returned, and the result built from it
        self.started, self.started_at = time.monotonic(), time.time()
        self.run_ms: float | None = None
        self._finished: FinishedRun | None = None
        self.log: AttemptLog | None = None
        self.in_code = self.has_begun = False  # in_code: the task's own code is running; has_begun: it has started

    def on_signal(self, signal: str) -> None:
        if signal == S.SIGNAL_EXECUTING:
            self.started, self.started_at = time.monotonic(), time.time()
        elif signal == S.SIGNAL_INTERRUPTED:
            self.interrupted = True
        elif signal == S.SIGNAL_SCHEDULED:
            self.state = self.state or State.SCHEDULED
        else:
            self.state = ENDINGS.get(signal, self.state)

    def set_result(self, value: object, exception: BaseException | None) -> None:
        self.exception = raised_by_task(exception)
        if exception is None:  # else the result that the task wants instead is already set
            self.value = value
        began = self.task.began
        if began is not None:
            self.started_at = began
        self.run_ms = (time.monotonic() - self.started if began is None else time.time() - began) * 1000

    @property
    def failed(self) -> bool:
        return self.state in (State.FAILED, State.RETRYING)

    @cached_property
    def error(self) -> str | None:
        """The text of the exception. Like the traceback it is built once, after the end."""
        return None if self.exception is None else error_text(self.exception)

    @cached_property
    def traceback(self) -> str | None:
        return None if self.exception is None else traceback_text(self.exception)

    def finalize(self, worker: str, version: str) -> None:
        """Add the event of this attempt and build what is stored. No effect may be added afterwards."""
        self.effects.event(self.event(worker, version))
        self._finished = FinishedRun(self.taken, self.effects, is_cancel=self.state == State.CANCELLED)

    @property
    def finished(self) -> FinishedRun:
        """The data that settles this execution at the broker. Raises RuntimeError before `finalize`."""
        if self._finished is None:
            raise RuntimeError(f"run {self.taken.run_id} has not ended yet")
        return self._finished

    def take_over(self, earlier: "Execution") -> None:
        for name in ("started", "started_at", "run_ms", "log", "has_begun"):
            setattr(self, name, getattr(earlier, name))
        if self.run_ms is None:
            self.run_ms = (time.monotonic() - self.started) * 1000

    @property
    def wait_ms(self) -> float | None:
        """The time between due (or enqueued) and the first start. None for a later delivery."""
        if self.taken.delivery > 1:
            return None
        return max(self.started_at - self.due, 0) * 1000

    def event(self, worker: str, version: str) -> str:
        task, exception, state = self.task, self.exception, self.state or State.SUCCEEDED
        facts: dict[str, object] = {
            "state": state, "task": task.name, "delivery": self.taken.delivery, "attempt": self.attempt,
            "worker": worker, "version": version, "started": self.started_at,
            "wait_ms": self.wait_ms, "run_ms": self.run_ms,
        }  # fmt: skip
        if self.log:
            facts.update(self.log.pending())
        if self.value is not None:
            facts["result"] = json_safe(self.value)
        if exception is not None:
            facts |= {"error": self.error, "traceback": self.traceback}
        if task.eta and state in (State.RETRYING, State.SCHEDULED):
            facts["next_at"] = to_timestamp(task.eta)
        return event_json("ended", self.taken.run_id, time.time(), **facts)


def raised_by_task(exception: T) -> T | BaseException:
    return exception.original if isinstance(exception, TaskRaised) else exception


def json_safe(value: object) -> orjson.Fragment | str:
    """Return a result as JSON for the history, with masks for secrets. A very long one is cut."""
    text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    if is_hiding():
        text = orjson.dumps(mask_json(orjson.loads(text)))
    return orjson.Fragment(text) if len(text) <= MAX_RESULT else text[:MAX_RESULT].decode(errors="ignore") + " …"
