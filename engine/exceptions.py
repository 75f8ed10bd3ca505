"""Errors that several rooms raise or catch.

Errors for users carry a sentence and its values by name, so that the console can translate them.
"""

from engine.text import error_repr, error_text


class BrokerUnavailable(ConnectionError):
    """The broker is unavailable. `reason`: the first line of the broker's own refusal, if it sent one."""

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class CancelRequested(Exception):
    """The run was cancelled before its outcome was stored, and nothing was stored. The message names the canceller."""


class InvalidMessage(ValueError):
    """Bytes from the broker that are not a Dewey message, or have an invalid signature."""


class NotSerializable(TypeError):
    """An argument that is not JSON-serializable. The message names the task."""


class NotStorable(ValueError):
    """A result or another value that is not JSON-serializable. The message gives the reason."""


class MessageTooLarge(ValueError):
    """The arguments are larger than a message may be."""


class HardTimeLimitExceeded(Exception):
    """The worker of a run was killed at the hard time limit."""


class TaskCalledExit(Exception):
    """The task's code called `sys.exit`."""


class TaskRaised(Exception):
    """The task's code raised `original`, a BaseException such as `asyncio.CancelledError`. The attempt fails."""

    def __init__(self, original: BaseException) -> None:
        super().__init__(error_text(original))
        self.original = original

    def __repr__(self) -> str:
        return error_repr(self.original)


class InvalidDelay(ValueError):
    """A retry was requested for an impossible time."""


class Interruption(BaseException):
    """Raised in a task's code from outside, at any instruction. `except Exception` does not catch it."""


class SoftTimeLimitExceeded(Interruption):
    """The soft time limit has passed."""


class RunCancelled(Interruption):
    """An operator cancelled the run. The message names the operator."""


class TranslatableError(Exception):
    """An error for users, with a translatable sentence. Message extraction reads its first argument."""

    def __init__(self, sentence: str, **values: object) -> None:
        super().__init__(sentence % values)
        self.sentence, self.values = sentence, values


class UnknownTask(TranslatableError, LookupError):
    """No queue has a task of this name."""


class InvalidArguments(TranslatableError, ValueError):
    """Arguments that the task does not accept. `field` names the invalid parameter."""

    def __init__(self, sentence: str, field: str, **values: object) -> None:
        super().__init__(sentence, **values)
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {super().__str__()}"


class Paused(TranslatableError):
    """The queue or the task is paused. The message names it."""


class NoLiveWorker(TranslatableError):
    """The queue has no live worker. The message names the queue."""


class InvalidState(TranslatableError):
    """The object's state does not allow the command. The message gives the reason."""
