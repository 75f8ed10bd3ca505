"""The errors that more than one room raises or catches.

Those that people read carry a sentence and its values by name, so that it can be said in any language.
"""

from engine.text import error_repr, error_text


class BrokerUnavailable(ConnectionError):
    """The broker is unavailable. `reason`: its own message, one line, where it has answered that it refuses."""

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class CancelRequested(Exception):
    """The run was cancelled before its outcome was stored, and nothing was stored. The message names who cancelled."""


class InvalidMessage(ValueError):
    """Bytes from the broker that are not a message of ours, or not signed with our key."""


class NotSerializable(TypeError):
    """An argument that JSON cannot carry. The message names the task."""


class NotStorable(ValueError):
    """A result, or another value, that JSON cannot carry. The message says why."""


class MessageTooLarge(ValueError):
    """More than one message holds."""


class HardTimeLimitExceeded(Exception):
    """A run was cut off by the end of its worker."""


class TaskCalledExit(Exception):
    """The task's code called `sys.exit`."""


class TaskRaised(Exception):
    """The task's code raised a BaseException, such as `asyncio.CancelledError`: `original`. It fails the attempt."""

    def __init__(self, original: BaseException) -> None:
        super().__init__(error_text(original))
        self.original = original

    def __repr__(self) -> str:
        return error_repr(self.original)


class InvalidDelay(ValueError):
    """A retry was asked for at a time that cannot be."""


class Interruption(BaseException):
    """Raised in a task's code from outside of it, at any instruction. Tasks cannot catch it with `except Exception`."""


class SoftTimeLimitExceeded(Interruption):
    """The soft time limit has passed."""


class RunCancelled(Interruption):
    """An operator cancelled the run. The message names them."""


class TranslatableError(Exception):
    """An error that people are told of. Its sentence has its values by name, so that others can say it in a language.

    Whoever gathers sentences to translate finds them as first arguments of these exceptions.
    """

    def __init__(self, sentence: str, **values: object) -> None:
        super().__init__(sentence % values)
        self.sentence, self.values = sentence, values


class UnknownTask(TranslatableError, LookupError):
    """No queue has a task of this name."""


class InvalidArguments(TranslatableError, ValueError):
    """Arguments that the task does not take. `field` names the parameter at fault."""

    def __init__(self, sentence: str, field: str, **values: object) -> None:
        super().__init__(sentence, **values)
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {super().__str__()}"


class Paused(TranslatableError):
    """The queue, or the task, is paused. The message says which."""


class NoLiveWorker(TranslatableError):
    """Nobody serves the queue. The message names it."""


class InvalidState(TranslatableError):
    """The run is not in a state in which this can be done. The message says why."""
