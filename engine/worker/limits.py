"""LimitEnforcer: ends runs that passed their time limit or were cancelled, and releases runs that no worker executes.

It runs in the consumer's parent, and only if the workers are processes: threads cannot be interrupted.
"""

import logging
import signal
import time
from collections.abc import Callable, Sequence

from huey import CancelExecution

from config import settings
from engine.broker.deliveries import HeldMessage
from engine.exceptions import BrokerUnavailable, HardTimeLimitExceeded
from engine.queues.queue import Queue
from engine.queues.settler import SETTLE_SECONDS
from engine.worker.processes import BoundProcesses
from engine.worker.soft_limit import is_passed
from engine.worker.worker_slot import KilledRun, WorkerSlot, slot_index

logger = logging.getLogger("huey.consumer")

#: How often the limits are checked.
CHECK_SECONDS = 0.5
#: A cancelled task that does not respond to the interruption loses its worker after this time.
PATIENCE_SECONDS = 1.0
#: A run that its worker does not execute at this many checks returns to the queue. Until then the broker's answer, or a
#: second try after a lost one, may still be on its way to the worker.
MAX_UNATTENDED_CHECKS = 20


class LimitEnforcer:
    def __init__(
        self,
        queue: Queue,
        consumer: str,
        processes: BoundProcesses,
        slots: Sequence[WorkerSlot],
        replace_worker: Callable[[WorkerSlot, KilledRun], None],
    ) -> None:
        self.queue, self.consumer, self.processes, self.slots = queue, consumer, processes, slots
        self.replace_worker = replace_worker
        self.interrupted_at: dict[str, float] = {}  # cancelled runs, monotonic
        self.unattended: dict[HeldMessage, int] = {}  # runs not executed by their workers → number of checks

    def enforce_soft_limits(self) -> None:
        """Interrupt runs that passed their soft limit although the task uses SIGALRM itself."""
        for slot in self.slots:
            if is_passed(slot.deadline, by=CHECK_SECONDS):
                self.processes.send(signal.SIGUSR2, slot.process)

    def enforce_limits(self) -> None:
        """End runs that passed their hard limit or were cancelled, and release runs that no worker executes."""
        try:
            held = held_runs(self.queue, self.consumer)
            cancelled: dict[str, str] = self.queue.storage.deliveries.cancelled() if held else {}
            self.release_unattended([run for run in held if not self.is_executed(run)])
        except BrokerUnavailable:
            return
        self.interrupted_at = {run_id: at for run_id, at in self.interrupted_at.items() if run_id in cancelled}
        for run in held:
            if self.is_executed(run):
                self.enforce_limit(run, cancelled.get(run.run_id))

    def is_executed(self, run: HeldMessage) -> bool:
        return self.slots[slot_index(run.worker)].is_executing(run.run_id)

    def release_unattended(self, runs: list[HeldMessage]) -> None:
        self.unattended = {run: self.unattended.get(run, 0) + 1 for run in runs}
        for run in [run for run, checks in self.unattended.items() if checks > MAX_UNATTENDED_CHECKS]:
            reason = f"{run.worker} did not execute it"
            if self.queue.storage.deliveries.release(
                self.consumer, run.worker, reason, settings.max_deliveries, only=run
            ):
                logger.warning("Run %s of %s returned to the queue: %s", run.run_id, run.task, reason)

    def enforce_limit(self, run: HeldMessage, cancelled_by: str | None) -> None:
        slot, limit = self.slots[slot_index(run.worker)], self.queue.time_limit(run.task)
        if slot.killed_run and slot.killed_run.held == run:  # this worker only settles it
            if time.monotonic() - slot.killed_run.killed_at > SETTLE_SECONDS:
                self.processes.kill(slot.process)
        elif cancelled_by and run.run_id not in self.interrupted_at:
            self.interrupted_at[run.run_id] = time.monotonic()
            slot.cancelling.value = f"{run.run_id} {cancelled_by}".encode(errors="replace")[:399]
            self.processes.send(signal.SIGUSR2, slot.process)
        elif cancelled_by and time.monotonic() - self.interrupted_at[run.run_id] > PATIENCE_SECONDS:
            self.kill_worker(run, CancelExecution(f"cancelled by {cancelled_by}; the worker was killed", retry=False))
        elif limit and time.time() - run.held_at > limit:
            self.kill_worker(
                run, HardTimeLimitExceeded(f"the time limit of {limit:g} s has passed; the worker was killed")
            )

    def kill_worker(self, run: HeldMessage, error: Exception) -> None:
        """Kill the worker of a run. Its successor settles the run, as an attempt that ended with this error."""
        logger.error("Run %s of %s is killed: %s", run.run_id, run.task, error)
        slot = self.slots[slot_index(run.worker)]
        self.processes.kill(slot.process)
        self.replace_worker(slot, KilledRun(run, error, time.monotonic()))


def held_runs(queue: Queue, consumer: str) -> list[HeldMessage]:
    return [held for held in queue.storage.deliveries.held() if held.consumer == consumer]
