"""RunTask: Huey's Task as a run of ours; and the block in which its code runs."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from huey import CancelExecution
from huey.api import ResultGroup, Task, TaskWrapper
from huey.exceptions import ConfigurationError

from config import settings
from engine import capture
from engine.messages import Envelope
from engine.options import check_declaration
from engine.records import now


class TaskExited(Exception):
    """The task's code called `sys.exit`."""


class RunTask(Task):
    """Huey's Task with the envelope it came in. Its id is the run's id."""

    queue: Any
    function: Callable[..., Any]
    schedule: Any = None
    catch_up = False
    time_limit: float | None = None  # seconds; the hard limit of this task, where it differs from the global one
    rate_limit: str = ""  # such as 10/m: at most so many starts in any minute, across all consumers
    unique = False  # a second call with the same arguments, while one waits or runs, is the first
    envelope: Envelope | None = None

    def instant(self) -> tuple[datetime, bool]:
        """The one instant of this run, the same for all its attempts, and whether this call has set it."""
        mine, key = now(), f"instant:{self.id}"
        first = self.queue.put_if_empty(key, mine.isoformat(), ttl=7 * 86400)
        instant = mine if first else datetime.fromisoformat(self.queue.get(key, peek=True))
        self.queue.note(self, {"instant_at": instant.isoformat()})
        return instant, first

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Tell how far this run has come, for its page. As often as one likes: it is sent twice a second at most."""
        if notes := capture.current():
            notes.come_to(done, total, text)


class RunCancelled(BaseException):
    """Raised in the code of a running task that somebody has cancelled. The message says who."""


class InCode:
    """A block in which a task's own code runs: its notes are taken, and an end is put to it when it takes too long or
    is cancelled.
    """

    def __init__(self, queue: Any, task: RunTask) -> None:
        self.queue, self.current = queue, queue.current
        self.capture = capture.captured(functools.partial(queue.note, task) if self.current else None)
        seconds = task.timeout or settings.soft_time_limit
        self.limit = queue._timeout_handler(seconds) if seconds and queue._timeout_handler else None

    def __enter__(self) -> None:
        notes = self.capture.__enter__()
        if self.limit:
            self.limit.__enter__()
        if self.current:
            self.current.notes, self.current.in_code = notes, True

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        try:
            self.leave(kind, error, at)
            if isinstance(error, RunCancelled):
                raise error
        except RunCancelled as cancelled:
            raise CancelExecution(str(cancelled), retry=False) from None

    def leave(self, kind: Any, error: BaseException | None, at: Any) -> None:
        try:
            if self.limit:
                self.limit.__exit__(kind, error, at)
        finally:
            if self.current:
                self.current.in_code = False
            try:
                self.capture.__exit__()
            finally:
                if self.current and error and not isinstance(error, Exception):  # in the middle of anything
                    self.queue.storage.drop_unfinished()


PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_rate(text: str) -> tuple[int, int]:
    """`10/m` → 10 starts, 60 seconds. Raises ValueError."""
    if not (found := re.fullmatch(r"([1-9][0-9]{0,8})/([smhd])", text)):
        raise ValueError(f"a rate such as 10/m is needed (s, m, h or d), not {text!r}")
    return int(found[1]), PERIODS[found[2]]


class RunWrapper(TaskWrapper):
    task_base = RunTask

    def map(self, it: Iterable[Any]) -> ResultGroup:
        """Huey's map, all at once."""
        calls = [tuple(arguments) if isinstance(arguments, tuple) else (arguments,) for arguments in it]
        handles: ResultGroup = self.huey.enqueue_calls(self, calls)
        return handles

    def create_task(self, func: Callable[..., Any], *args: Any, **settings: Any) -> type[RunTask]:
        if inspect.iscoroutinefunction(func):
            raise ConfigurationError(f"{func.__name__} is a coroutine: call it with asyncio.run in a plain function")
        check_declaration(args[1] or func.__name__, settings)

        @functools.wraps(func)
        def without_exit(*args: Any, **kwargs: Any) -> Any:
            try:
                return func(*args, **kwargs)
            except SystemExit as exit:
                raise TaskExited(f"the task called sys.exit({exit.code!r})") from exit

        if rate := settings.get("rate_limit"):
            parse_rate(rate)
        task_class: type[RunTask] = super().create_task(without_exit, *args, **settings)
        task_class.queue, task_class.function = self.huey, staticmethod(func)
        return task_class
