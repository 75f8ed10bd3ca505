"""WorkerState: what the thread of a worker executes, and what it has yet to settle."""

from ctypes import Array, c_longlong
from dataclasses import dataclass
from threading import local

from engine.queues.execution import Execution


@dataclass(eq=False)
class WorkerState(local):
    """Fields of which every thread has its own. The ones of a thread that works on no queue keep their defaults."""

    #: The consumer under whose name this thread claims messages. Empty until the thread has an identity.
    consumer: str = ""
    #: The name of the worker in its consumer, such as Worker-1.
    worker: str = ""
    #: A run is settled in the step that claims the next one, instead of at its own end.
    deferring: bool = False
    #: The broker may have assigned a message whose delivery did not arrive: the next claim looks for it first.
    unsure: bool = False
    #: The execution that goes on in this thread.
    current: Execution | None = None
    #: The execution that has ended and is not settled yet.
    last: Execution | None = None
    #: The reason why the run in hand is to be released without an outcome. Empty when there is none.
    given_up: str = ""
    #: In a worker process, shared with its parent: the hash of the id of the run that is executed, or 0.
    executing: c_longlong | None = None
    #: In a worker process, shared with its parent: attempts settled, and failed.
    tally: "Array[c_longlong] | None" = None

    @property
    def settling(self) -> Execution | None:
        """The current execution, once the task's own code has ended."""
        current = self.current
        return None if current is None or current.in_code else current
