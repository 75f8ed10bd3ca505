"""Tasks whose argument describes their outcome: odd results, odd errors, odd hooks.

Start it with `huey_consumer odd_tasks.odd`, with this folder and its parent on the path. A description is a JSON list
of a word and its details. `make` builds the described value. `act` returns it or raises.
"""

import asyncio
import logging
import os
from typing import Any

from huey import CancelExecution, RetryTask
from huey import signals as S
from huey.exceptions import RateLimitExceeded, TaskException, TaskLockedException, TaskTimeout
from sample_tasks import append_line

from engine.queues.task import QueueTask
from engine.worker.served_queue import ServedQueue

odd = ServedQueue("odd")
log = logging.getLogger("odd")
LEDGER = os.environ.get("ODD_LEDGER", "")


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class BadRepr(Exception):
    def __repr__(self) -> str:
        raise SystemExit(3)


class OwnBase(BaseException):
    pass


class BadObject:
    def __str__(self) -> str:
        raise OwnBase("no text")


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def cycle() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def chained() -> Exception:
    """Return two errors that are each other's cause."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def grouped(levels: int) -> Exception:
    error: Exception = ValueError("innermost")
    for level in range(levels):
        error = ExceptionGroup(f"level {level}", [error])
    return error


VALUES: dict[str, Any] = {
    "json": lambda value: value,
    "surrogate": lambda: "caf\udce9.epub",
    "surrogate key": lambda: {"\udcff": 1},
    "number": float,  # a text such as nan
    "power": lambda bits: 2**bits,
    "long": lambda kilobytes: "x" * (kilobytes << 10),
    "deep": deep,
    "cycle": cycle,
    "tuple key": lambda: {(1, 2): 3},
    "nan key": lambda: {float("nan"): 1},
    "set": lambda: {1, 2},
    "bytes": lambda: b"\xff\0",
    "object": BadObject,
    "nul": lambda: "a\0b",
    "list": lambda *parts: [make(part) for part in parts],
    "dict": lambda *parts: {f"key{number}": make(part) for number, part in enumerate(parts)},
}
ERRORS: dict[str, Any] = {
    "value": lambda text: ValueError(make(text)),
    "bad str": BadStr,
    "bad repr": BadRepr,
    "cancelled": lambda: asyncio.CancelledError("gone"),
    "generator": GeneratorExit,
    "keyboard": KeyboardInterrupt,
    "exit": lambda code: SystemExit(code),
    "own base": lambda: OwnBase("a library's own"),
    "memory": MemoryError,
    "stop": StopIteration,
    "chained": chained,
    "grouped": grouped,
    "retry": lambda delay: RetryTask(delay=make(delay)),
    "cancel": lambda retry: CancelExecution("enough", retry=retry),
    "rate": lambda delay: RateLimitExceeded("key", make(delay), retry=False),
    "locked": lambda: TaskLockedException("locked"),
    "timeout": lambda: TaskTimeout("late"),
    "task": lambda text: TaskException({"error": make(text)}),
}


def make(description: list[Any]) -> Any:
    word, *details = description
    return VALUES[word](*details)


def act(description: list[Any] | None) -> Any:
    """Return the described value, or raise the described error."""
    if description is None:
        return None
    word, *details = description
    if word in ERRORS:
        raise ERRORS[word](*details)
    return make(description)


@odd.task(context=True, failed_result=lambda task, error: act(task.args[0].get("failed result", ["json", "failed"])))
def misbehave(what: dict[str, Any], task: QueueTask | None = None) -> Any:
    assert task is not None and task.envelope is not None
    append_line(LEDGER, task.id)
    for line in what.get("lines", ()):
        log.info("%s", make(line))
    if "cancels itself" in what:
        odd.storage.messages.cancel(task.id, "itself")
    asks_for_retry = (what["outcome"] or [""])[0] == "retry"
    return "ended" if asks_for_retry and task.envelope.attempt > 2 else act(what["outcome"])


@odd.task()
def follow(*values: Any) -> str:
    return "followed"


@odd.task()
def gather(results: list[Any]) -> int:
    return len(results)


def point(name: str, task: Any) -> None:
    """Act as the task's argument describes for this point, if the run has one."""
    if task.args and isinstance(task.args[0], dict):
        act(task.args[0].get(name))


@odd.pre_execute()
def before(task: Any) -> None:
    point("before", task)


@odd.post_execute()
def after(task: Any, value: Any, error: Any) -> None:
    point("after", task)


@odd.signal(S.SIGNAL_COMPLETE, S.SIGNAL_ERROR, S.SIGNAL_RETRYING)
def receive(signal: str, task: Any, *details: Any) -> None:
    point(f"signal {signal}", task)
