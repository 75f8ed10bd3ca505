"""Worker: a loop that claims a message, runs it and settles it."""

import logging
import multiprocessing
import time
from collections.abc import Callable
from ctypes import c_double
from datetime import datetime
from functools import partial
from types import FrameType

import psutil
from huey import consumer as stock

from config import settings
from engine.broker.deliveries import Delivery, HeldMessage
from engine.exceptions import BrokerUnavailable, RunCancelled
from engine.queues.queue import Queue
from engine.worker.soft_limit import raise_if_passed
from engine.worker.worker_slot import WorkerSlot

logger = logging.getLogger("huey.consumer")
#: Minimum time between two memory checks. A check takes longer than a short task.
MEMORY_CHECK_SECONDS = 0.1
#: How long a worker runs tasks before it checks the stop flag.
STOP_CHECK_SECONDS = 0.02


class Worker(stock.Worker):
    huey: Queue
    name: str
    consumer: str
    forked: bool
    slot: WorkerSlot
    quiet_at: c_double  # shared with the parent: since when no new run is claimed (Unix seconds), or 0
    next_memory_check = 0.0  # monotonic

    def initialize(self) -> None:
        self.huey.set_worker_identity(self.consumer, self.name, deferring=True)
        self.huey.quiet_at = self.quiet_at
        self.huey.state.tally, self.huey.state.executing = self.slot.tally, self.slot.executing
        try:
            super().initialize()
        except BaseException:  # Huey catches Exception only
            logger.exception("A startup hook of %s raised", self.name)
        if killed_run := self.slot.killed_run:
            self.settle_killed_run(killed_run.held, killed_run.error)

    def settle_killed_run(self, held: HeldMessage, error: Exception) -> None:
        """Settle the run of the previous worker in this slot, which was killed on purpose, with this error."""
        queue = self.huey
        try:
            data = queue.settler.retry_while_unavailable(lambda: queue.storage.messages.get(held.run_id))
            task = data and queue.claimer.decode_task(Delivery(held.run_id, held.delivery, data))
            if task:
                task.execute, task.began = partial(raise_error, error), held.held_at
                queue.execute(task)
                queue.settle_previous()
        except BrokerUnavailable as reason:
            logger.warning("Run %s could not be acknowledged and will be delivered again: %s", held.run_id, reason)

    def interrupt(self, signum: int, frame: FrameType | None) -> None:
        run_id, _, by = self.slot.cancelling.value.decode(errors="replace").partition(" ")
        current = self.huey.state.current
        if current and current.in_code:
            if current.task.id == run_id:
                raise RunCancelled(f"cancelled by {by}")
            raise_if_passed(self.slot.deadline)

    def shutdown(self) -> None:
        try:
            self.huey.settle_previous()
        except BrokerUnavailable as error:
            logger.warning("%s could not acknowledge its last run, which will be delivered again: %s", self.name, error)
        try:
            super().shutdown()
        finally:
            for child in multiprocessing.active_children():
                child.kill()  # else the exit of this process waits for it

    def loop(self, now: datetime | None = None) -> None:
        """Run queued tasks back to back. The stop flag is checked only every STOP_CHECK_SECONDS."""
        until = time.monotonic() + STOP_CHECK_SECONDS
        while self.work(now) and time.monotonic() < until:
            pass

    def work(self, now: datetime | None) -> bool:
        try:
            if self.quiet_at.value:
                self.huey.settle_previous()
                self.stop_flag.wait(0.5)
                return False
            task = self.huey.dequeue()
            self.delay = self.default_delay
            if task is None:
                return False
            self.huey.execute(task, now)
        except BrokerUnavailable as error:
            self.back_off(error)
            return False
        except Exception:
            logger.exception("%s could not acknowledge its run, which will be delivered again", self.name)
            self.sleep()
        self.task_count += 1
        self.recycle_if_due()
        return True

    def back_off(self, error: BrokerUnavailable) -> None:
        if self.delay == self.default_delay:
            logger.warning("%s is waiting for the broker: %s", self.name, error)
        self.delay = max(self.delay, 0.25)
        self.max_delay = 2.0
        self.sleep()

    def recycle_if_due(self) -> None:
        if self.max_tasks and self.task_count >= self.max_tasks:
            logger.info("%s has run %d tasks and is replaced", self.name, self.task_count)
            raise stock.WorkerRecycle
        limit = settings.worker_max_memory_mb * 2**20
        if not (self.forked and limit) or time.monotonic() < self.next_memory_check:
            return
        self.next_memory_check = time.monotonic() + MEMORY_CHECK_SECONDS
        if (rss := psutil.Process().memory_info().rss) > limit:
            logger.warning("%s uses %d MB of %d and is replaced", self.name, rss >> 20, limit >> 20)
            raise stock.WorkerRecycle


def raise_error(error: Exception) -> None:
    raise error


def run_step(step: Callable[[], None]) -> Exception | None:
    """Return the exception that a step raises. Raises BrokerUnavailable, since no other step can work then either."""
    try:
        step()
        return None
    except BrokerUnavailable:
        raise
    except Exception as error:
        return error
