"""Worker: a loop that takes a message, runs it and settles it."""

import logging
import multiprocessing
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psutil
from huey import consumer as stock

from config import settings
from engine.broker.deliveries import HeldMessage
from engine.exceptions import BrokerAway, RunCancelled
from engine.worker.soft_limit import strike_if_passed

logger = logging.getLogger("huey.consumer")
#: A worker weighs itself after a task, no more often than this: that takes longer than a short task.
WEIGH_SECONDS = 0.1
#: So long a worker works on before it looks whether the consumer stops.
ROUND_SECONDS = 0.02


class Worker(stock.Worker):
    """Takes a message, runs it, settles it."""

    name: str
    consumer: str
    forked: bool
    stack_file: Any  # where it writes, on a signal, what it is doing
    quiet_at: Any  # shared with the parent: since when nothing new is taken; 0 where it is
    slot: int  # the number of the worker, from 0
    cancelling: Any  # shared with the parent: the run it wants cancelled here, and by whom
    executing: Any  # shared with the parent: the hash of the id of the run that is executed here, or 0
    deadline: Any  # shared with the parent: the soft limit of that run
    tally: Any  # shared with the parent: attempts settled, and failed
    next_weighing = 0.0
    cut_off: tuple[HeldMessage, Exception] | None = None  # the run whose worker the parent killed, and why
    began_at = 0.0  # monotonic, where it follows one that has ended

    def initialize(self) -> None:
        self.huey.identify(self.consumer, self.name, deferring=True)
        self.huey.quiet_at = self.quiet_at
        self.huey.local.tally, self.huey.local.executing = self.tally, self.executing
        try:
            super().initialize()
        except BaseException:  # Huey contains an Exception only
            logger.exception("A startup hook of %s raised", self.name)
        if self.cut_off:
            self.huey.settle_for_the_killed(*self.cut_off)

    def interrupt(self, signum: int, frame: Any) -> None:
        """Interrupt the code of the run that runs here, if it is the one to be cancelled or past its soft limit."""
        run_id, _, by = self.cancelling.value.decode(errors="replace").partition(" ")
        current = self.huey.current
        if current and current.in_code:
            if current.task.id == run_id:
                raise RunCancelled(f"cancelled by {by}")
            strike_if_passed(self.deadline)

    def shutdown(self) -> None:
        try:
            self.huey.settle_last()
        except BrokerAway as error:
            logger.warning("%s could not settle its last run, which will be delivered again: %s", self.name, error)
        try:
            super().shutdown()
        finally:
            for child in multiprocessing.active_children():
                child.kill()  # else the exit of this process waits for it

    def loop(self, now: datetime | None = None) -> None:
        """Tasks in a row, as long as there are: whether all work is to end is asked less often than after each."""
        until = time.monotonic() + ROUND_SECONDS
        while self.work(now) and time.monotonic() < until:
            pass

    def work(self, now: datetime | None) -> bool:
        """Take and run one task; False when there was none to run."""
        try:
            if self.quiet_at.value:
                self.huey.settle_last()
                self.stop_flag.wait(0.5)
                return False
            task = self.huey.dequeue()
            self.delay = self.default_delay
            if task is None:
                return False
            self.huey.execute(task, now)
        except BrokerAway as error:
            self.wait_for_the_broker(error)
            return False
        except Exception:
            logger.exception("%s could not settle its run; it will be delivered again", self.name)
            self.sleep()
        self.task_count += 1
        self.recycle_if_due()
        return True

    def wait_for_the_broker(self, error: BrokerAway) -> None:
        """Said once an outage, however often it is tried again."""
        if self.delay == self.default_delay:
            logger.warning("%s waits for the broker: %s", self.name, error)
        self.delay = max(self.delay, 0.25)
        self.max_delay = 2.0
        self.sleep()

    def recycle_if_due(self) -> None:
        """End this worker after its task; the parent starts a fresh one."""
        if self.max_tasks and self.task_count >= self.max_tasks:
            logger.info("%s has run %d tasks and is replaced", self.name, self.task_count)
            raise stock.WorkerRecycle
        most = settings.worker_max_memory_mb * 2**20
        if not (self.forked and most) or time.monotonic() < self.next_weighing:
            return
        self.next_weighing = time.monotonic() + WEIGH_SECONDS
        if (rss := psutil.Process().memory_info().rss) > most:
            logger.warning("%s uses %d MB of %d and is replaced", self.name, rss >> 20, most >> 20)
            raise stock.WorkerRecycle


def error_of(step: Callable[[], None]) -> Exception | None:
    """What it raises, unless the broker is away, when nothing else can work either."""
    try:
        step()
        return None
    except BrokerAway:
        raise
    except Exception as error:
        return error
