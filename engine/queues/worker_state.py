"""WorkerState: the run that a worker's thread executes, and the run it has yet to settle."""

from ctypes import Array, c_longlong
from dataclasses import dataclass
from threading import local

from engine.queues.execution import Execution


@dataclass(eq=False)
class WorkerState(local):
    """Per-thread fields. A thread that does not work on a queue keeps the defaults."""

    #: The consumer under whose name this thread claims messages. Empty until the thread has an identity.
    consumer: str = ""
    #: The name of the worker in its consumer, such as Worker-1.
    worker: str = ""
    #: A run is settled in the step that claims the next one, instead of at its own end.
    deferring: bool = False
    #: The broker may have assigned a message whose delivery was lost: the next claim looks for it first.
    unsure: bool = False
    #: The current execution of this thread.
    current: Execution | None = None
    #: The execution that has ended but is not settled yet.
    last: Execution | None = None
    #: The reason for which the held run must be released without an outcome. Empty if there is none.
    given_up: str = ""
    #: In a worker process, shared with its parent: the hash of the executed run's id, or 0.
    executing: c_longlong | None = None
    #: In a worker process, shared with its parent: attempts settled, and failed.
    tally: "Array[c_longlong] | None" = None

    @property
    def settling(self) -> Execution | None:
        """The current execution, once the task's own code has ended."""
        current = self.current
        return None if current is None or current.in_code else current
