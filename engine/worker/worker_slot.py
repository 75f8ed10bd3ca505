"""WorkerSlot: the place of one worker in its consumer, across worker processes."""

import multiprocessing
from ctypes import Array, c_char, c_double, c_longlong
from multiprocessing.context import ForkProcess
from typing import NamedTuple

from engine.broker.deliveries import HeldMessage
from engine.worker.stack_dump import StackDumpFile


class KilledRun(NamedTuple):
    """A run whose worker was killed on purpose. The next worker in the same slot settles it with this error."""

    held: HeldMessage
    error: Exception
    killed_at: float  # monotonic


class WorkerSlot:
    """Memory shared by a consumer's parent and a worker. Without locks: each field has one writer or is atomic."""

    process: ForkProcess  # a thread if the workers are threads
    killed_run: KilledRun | None = None

    def __init__(self, number: int) -> None:
        shared = multiprocessing.get_context("fork")
        self.number, self.name = number, f"Worker-{number}"
        #: The id of the run to cancel, and the name of the requester. Written by the parent.
        self.cancelling: Array[c_char] = shared.Array("c", 400, lock=False)
        #: The hash of the id of the run that the worker executes or settles, or 0.
        self.executing: c_longlong = shared.Value("q", 0, lock=False)
        #: The soft time limit of that run (monotonic seconds), 0: none or already raised.
        self.deadline: c_double = shared.Value("d", 0.0, lock=False)
        #: Attempts settled, and failed. Written by the worker.
        self.tally: Array[c_longlong] = shared.Array("q", 2, lock=False)
        self.stack_dump = StackDumpFile()

    def reset(self) -> None:
        self.executing.value = hash(self.killed_run.held.run_id) if self.killed_run else 0
        self.deadline.value = 0.0

    @property
    def pid(self) -> int | None:
        return getattr(self.process, "pid", None)

    def is_executing(self, run_id: str) -> bool:
        return bool(self.executing.value == hash(run_id))


def slot_index(worker: str) -> int:
    return int(worker.removeprefix("Worker-")) - 1
