"""What one execution of a run came to, gathered while Huey runs it and stored in one step when it lets go."""

import time
from functools import cached_property
from typing import Any

import orjson
from huey import signals as S

from engine.broker.deliveries import Delivery, FinishedRun
from engine.broker.effects import Effects, event_json, to_timestamp
from engine.exceptions import TaskRaised
from engine.models import State
from engine.queues.log_capture import Notes
from engine.text import error_text, traceback_text

#: How Huey's signals end an execution. A later one replaces an earlier one: an error that is retried is `retrying`.
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


class Settlement:
    """The outcome of one execution. `effects` is everything that must be stored together with letting go."""

    def __init__(self, task: Any, taken: Delivery) -> None:
        self.task, self.taken, self.attempt = task, taken, task.envelope.attempt
        self.due = to_timestamp(task.eta or task.envelope.enqueued_at)
        self.effects = Effects()
        self.state: State | None = None
        self.interrupted = False
        self.exception: BaseException | None = None
        self.value: Any = None
        self.checked: tuple[Any, bytes] | None = None  # what the task's code returned, and the result made of it
        self.started, self.started_at = time.monotonic(), time.time()
        self.run_ms: float | None = None
        self.done: FinishedRun | None = None
        self.notes: Notes | None = None
        self.in_code = self.has_begun = False  # the task's own code runs; it has begun

    def notice(self, signal: str) -> None:
        if signal == S.SIGNAL_EXECUTING:
            self.started, self.started_at = time.monotonic(), time.time()
        elif signal == S.SIGNAL_INTERRUPTED:
            self.interrupted = True
        elif signal == S.SIGNAL_SCHEDULED:
            self.state = self.state or State.SCHEDULED
        else:
            self.state = ENDINGS.get(signal, self.state)

    def finish(self, value: Any, exception: BaseException | None) -> None:
        self.exception = raised_by_task(exception)
        if exception is None:  # else what the task wants stored in its place has been set already
            self.value = value
        began = getattr(self.task, "began", None)  # where it was cut off, and this is only the word of it
        if began is not None:
            self.started_at = began
        self.run_ms = (time.monotonic() - self.started if began is None else time.time() - began) * 1000

    @property
    def failed(self) -> bool:
        return self.state in (State.FAILED, State.RETRYING)

    @cached_property
    def error(self) -> str | None:
        """Asked for when the execution has ended, as is the traceback."""
        return None if self.exception is None else error_text(self.exception)

    @cached_property
    def traceback(self) -> str | None:
        return None if self.exception is None else traceback_text(self.exception)

    def close(self, worker: str, version: str) -> None:
        """Nothing more follows: this is what is to be stored."""
        self.effects.event(self.event(worker, version))
        self.done = FinishedRun(self.taken, self.effects, is_cancel=self.state == State.CANCELLED)

    def take_over(self, earlier: "Settlement") -> None:
        """Go on with what is known of the same execution."""
        for name in ("started", "started_at", "run_ms", "notes", "has_begun"):
            setattr(self, name, getattr(earlier, name))
        if self.run_ms is None:
            self.run_ms = (time.monotonic() - self.started) * 1000

    @property
    def wait_ms(self) -> float | None:
        """Between due (or enqueued) and the first start; of that only."""
        if self.taken.delivery > 1:
            return None
        return max(self.started_at - self.due, 0) * 1000

    def event(self, worker: str, version: str) -> str:
        """The line of history that ends this attempt."""
        task, exception, state = self.task, self.exception, self.state or State.SUCCEEDED
        facts: dict[str, Any] = {
            "state": state, "task": task.name, "delivery": self.taken.delivery, "attempt": self.attempt,
            "worker": worker, "version": version, "started": self.started_at,
            "wait_ms": self.wait_ms, "run_ms": self.run_ms,
        }  # fmt: skip
        if self.notes:
            facts |= self.notes.news()
        if self.value is not None:
            facts["result"] = readable(self.value)
        if exception is not None:
            facts |= {"error": self.error, "traceback": self.traceback}
        if task.eta and state in (State.RETRYING, State.SCHEDULED):
            facts["next_at"] = to_timestamp(task.eta)
        return event_json("ended", self.taken.run_id, time.time(), **facts)


def raised_by_task(exception: Any) -> Any:
    """Return what the task's code raised, where it is wrapped for Huey."""
    return exception.original if isinstance(exception, TaskRaised) else exception


def readable(value: Any) -> Any:
    """Return a result as JSON for the history, cut where it is very long."""
    text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    return orjson.Fragment(text) if len(text) <= MAX_RESULT else text[:MAX_RESULT].decode(errors="ignore") + " …"
