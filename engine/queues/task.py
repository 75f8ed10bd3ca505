"""QueueTask: Huey's Task as a run, and the context in which its code runs."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from huey import CancelExecution, RetryTask, api
from huey.api import ResultGroup, Task
from huey.exceptions import ConfigurationError
from huey.utils import normalize_time

from config import settings
from engine.broker.deliveries import Delivery
from engine.broker.messages import Envelope
from engine.exceptions import Interruption, InvalidDelay, RunCancelled, TaskCalledExit, TaskRaised
from engine.models import now
from engine.queues import log_capture
from engine.queues.interfaces import TaskQueue
from engine.queues.options import bad_option, check_declaration
from engine.secret_arguments import SecretParameters, secret_parameters

#: Runs due later than this are rejected. Times near the year 9999 cannot be shown in every time zone.
MAX_YEARS_AHEAD = 1000


class WorkerInterrupted(KeyboardInterrupt):
    """The consumer stops without waiting longer. Huey handles it as a KeyboardInterrupt."""


class QueueTask(Task):
    """Huey's Task with the envelope of its message. Its id is the run's id."""

    queue: TaskQueue
    function: Callable[..., object]
    schedule: Any = None  # Cron, or another function of a time
    catch_up = False
    time_limit: float | None = None  # seconds; hard limit of this task if it differs from the global one
    rate_limit: str = ""  # such as 10/m: at most this many starts in any minute, across all consumers
    unique = False  # a second call with the same arguments returns the first run while that one waits or runs
    secret_parameters = SecretParameters()
    secrets: Sequence[object] = ()  # the values of its secret arguments, once it is read from its message
    envelope: Envelope | None = None
    taken: Delivery | None = None  # its message, while a worker holds it
    began: float | None = None  # Unix seconds, if an earlier worker began it and was killed

    def run_timestamp(self) -> tuple[datetime, bool]:
        """Return the one time of this run, the same for all its attempts, and True if this call has set it."""
        instant, key = now(), f"instant:{self.id}"
        is_first = self.queue.put_if_empty(key, instant.isoformat(), ttl=7 * 86400)
        if not is_first:
            try:
                instant = datetime.fromisoformat(self.queue.get(key, peek=True))
            except (TypeError, ValueError) as error:  # not signed as the time of this run
                self.queue.report_forged("instant", self.id, str(error))
                self.queue.delete(key)
                is_first = self.queue.put_if_empty(key, instant.isoformat(), ttl=7 * 86400)
        self.queue.record_metadata(self, {"instant_at": instant.isoformat()})
        return instant, is_first

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Show the progress on the run's page. It may be called often and is sent at most twice a second."""
        if log := log_capture.current():
            log.set_progress(done, total, text)


class TaskContext:
    def __init__(self, queue: TaskQueue, task: QueueTask) -> None:
        self.queue, self.current = queue, queue.state.current
        send = functools.partial(queue.record_metadata, task) if self.current else None
        self.capture = log_capture.capture_logs(send)
        seconds = task.timeout or settings.soft_time_limit
        self.limit = queue._timeout_handler(seconds) if seconds and queue._timeout_handler else None

    def __enter__(self) -> None:
        log = self.capture.__enter__()
        if self.limit:
            self.limit.__enter__()
        if self.current:
            self.current.log, self.current.in_code, self.current.has_begun = log, True, True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._exit(kind, error, at)
            if isinstance(error, RunCancelled):
                raise error
        except RunCancelled as cancelled:
            raise CancelExecution(str(cancelled), retry=False) from None

    def _exit(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if self.limit:
                self.limit.__exit__(kind, error, at)
        finally:
            if self.current:
                self.current.in_code = False
            try:
                self.capture.__exit__()
            finally:
                if self.current and error and not isinstance(error, Exception):  # at an arbitrary instruction
                    self.queue.storage.rollback_interrupted()


PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_rate(text: str) -> tuple[int, int]:
    """Parse a rate: `10/m` → 10 starts, 60 seconds. Raises ValueError."""
    if not (match := re.fullmatch(r"([1-9][0-9]{0,8})/([smhd])", text)):
        raise ValueError(f"rate_limit must be a rate such as 10/m (s, m, h or d), not {text!r}")
    return int(match[1]), PERIODS[match[2]]


class TaskWrapper(api.TaskWrapper):
    task_base = QueueTask

    def map(self, it: Iterable[object]) -> ResultGroup:
        """Enqueue a run for each item at once, like Huey's map."""
        calls = [tuple(arguments) if isinstance(arguments, tuple) else (arguments,) for arguments in it]
        results: ResultGroup = self.huey.enqueue_calls(self, calls)
        return results

    def create_task(
        self, func: Callable[..., object], context: bool = False, name: str | None = None, **options: object
    ) -> type[QueueTask]:
        if inspect.iscoroutinefunction(func):
            raise ConfigurationError(f"{func.__name__} is a coroutine: call it with asyncio.run in a plain function")
        check_declaration(name or func.__name__, options)
        secrets = declared_secrets(name or func.__name__, func, options.pop("secrets", ()))
        if rate := options.get("rate_limit"):
            parse_rate(str(rate))
        task_class: type[QueueTask] = super().create_task(func, context, name, **options)
        task_class.queue, task_class.function = self.huey, staticmethod(func)
        task_class.execute = contain_errors(task_class.execute)
        task_class.secret_parameters = secrets
        return task_class


def declared_secrets(task: str, function: Callable[..., object], names: Any) -> SecretParameters:
    """Return the secret parameters of a function: these, and those whose name looks like a secret.

    Raises InvalidOption for a name that is no parameter.
    """
    parameters = inspect.signature(function).parameters
    takes_any_name = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    is_list = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if not is_list or not (takes_any_name or set(names) <= set(parameters)):
        raise bad_option("secrets", task, 'a list of its parameters such as ("password",)', names)
    return secret_parameters(parameters.values(), names)


def contain_errors(execute: Callable[[QueueTask], object]) -> Callable[[QueueTask], object]:
    """Wrap a task's code so that whatever it raises ends one attempt. Huey retries after an Exception only."""

    @functools.wraps(execute)
    def execute_or_fail(task: QueueTask) -> object:
        try:
            value = execute(task)
            task.queue.check_result(task, value)
        except Exception as error:
            check_delay(error)
            raise
        except (Interruption, WorkerInterrupted):
            raise
        except SystemExit as exit:
            raise TaskCalledExit(f"the task called sys.exit({exit.code!r})") from exit
        except BaseException as error:
            if task.queue.state.current is None:  # called in a user's own process, whose Ctrl-C this may be
                raise
            raise TaskRaised(error) from error
        return value

    return execute_or_fail


def check_delay(error: Exception) -> None:
    """Raise InvalidDelay for a RetryTask whose `eta` or `delay` is not a valid time."""
    if not isinstance(error, RetryTask) or (error.delay is None and not error.eta):
        return
    try:
        check_due(normalize_time(error.eta, error.delay))
    except (OverflowError, TypeError, ValueError) as reason:
        argument = f"eta={error.eta!r:.50}" if error.eta else f"delay={error.delay!r:.50}"
        raise InvalidDelay(f"RetryTask({argument}) is no time at which a run can be due: {reason}") from error


def check_due(at: datetime) -> None:
    """Raise ValueError for a time too far ahead."""
    if at.year - datetime.now(UTC).year > MAX_YEARS_AHEAD:
        raise ValueError(f"more than {MAX_YEARS_AHEAD} years ahead")
