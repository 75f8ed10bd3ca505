"""RunTask: Huey's Task as a run of ours; and the block in which its code runs."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from huey import CancelExecution, RetryTask
from huey.api import ResultGroup, Task, TaskWrapper
from huey.exceptions import ConfigurationError
from huey.utils import normalize_time

from config import settings
from engine.broker.messages import Envelope
from engine.exceptions import BadDelay, Interruption, RunCancelled, TaskExited, TaskRaised
from engine.models import now
from engine.queues import log_capture
from engine.queues.options import check_declaration

#: A run is due within these years, or refused: times near the year 9999 cannot be shown in every time zone.
MAX_YEARS_AHEAD = 1000


class WorkerInterrupted(KeyboardInterrupt):
    """The consumer stops and waits no longer. Huey takes a KeyboardInterrupt for that."""


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
        if notes := log_capture.current():
            notes.come_to(done, total, text)


class InCode:
    """A block in which a task's own code runs: its notes are taken, and an end is put to it when it takes too long or
    is cancelled.
    """

    def __init__(self, queue: Any, task: RunTask) -> None:
        self.queue, self.current = queue, queue.current
        self.capture = log_capture.captured(functools.partial(queue.note, task) if self.current else None)
        seconds = task.timeout or settings.soft_time_limit
        self.limit = queue._timeout_handler(seconds) if seconds and queue._timeout_handler else None

    def __enter__(self) -> None:
        notes = self.capture.__enter__()
        if self.limit:
            self.limit.__enter__()
        if self.current:
            self.current.notes, self.current.in_code, self.current.has_begun = notes, True, True

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
                    self.queue.storage.rollback_interrupted()


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

        if rate := settings.get("rate_limit"):
            parse_rate(rate)
        task_class: type[RunTask] = super().create_task(func, *args, **settings)
        task_class.queue, task_class.function = self.huey, staticmethod(func)
        task_class.execute = failing_normally(task_class.execute)
        return task_class


def failing_normally(execute: Callable[[RunTask], Any]) -> Callable[[RunTask], Any]:
    """Wrap a task's code so that whatever it raises or returns ends as one attempt: Huey lets an Exception be retried,
    and nothing else.
    """

    @functools.wraps(execute)
    def execute_or_fail(task: RunTask) -> Any:
        try:
            value = execute(task)
            task.queue.check_result(task, value)
        except Exception as error:
            check_delay(error)
            raise
        except (Interruption, WorkerInterrupted):
            raise
        except SystemExit as exit:
            raise TaskExited(f"the task called sys.exit({exit.code!r})") from exit
        except BaseException as error:
            if task.queue.current is None:  # called in the process of a person, whose Ctrl-C this may be
                raise
            raise TaskRaised(error) from error
        return value

    return execute_or_fail


def check_delay(error: Exception) -> None:
    """Raise BadDelay for a RetryTask with an `eta` or `delay` that is no time."""
    if not isinstance(error, RetryTask) or (error.delay is None and not error.eta):
        return
    try:
        check_due(normalize_time(error.eta, error.delay))
    except (OverflowError, TypeError, ValueError) as reason:
        asked = f"eta={error.eta!r:.50}" if error.eta else f"delay={error.delay!r:.50}"
        raise BadDelay(f"RetryTask({asked}) is no time at which a run can be due: {reason}") from error


def check_due(at: datetime) -> None:
    """Raise ValueError for a time that lies too far ahead."""
    if at.year - datetime.now(UTC).year > MAX_YEARS_AHEAD:
        raise ValueError(f"more than {MAX_YEARS_AHEAD} years ahead")
