"""Worker and Scheduler, the children of a consumer, each a loop of its own."""

import logging
import multiprocessing
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psutil
from huey import consumer as stock

from config import settings
from engine import schedules
from engine.back_off import BackOff
from engine.delivery import BrokerAway, Effects, Held, event_json
from engine.messages import Asker
from engine.queues import RunTask, asked_by
from engine.recorder import Recorder
from engine.run_task import RunCancelled
from engine.soft_limit import strike_if_passed

logger = logging.getLogger("huey.consumer")

BEAT_SECONDS = min(2.0, settings.lease_seconds / 3)
#: A worker weighs itself after a task, no more often than this: that takes longer than a short task.
WEIGH_SECONDS = 0.1
#: So long a worker works on before it looks whether the consumer stops.
ROUND_SECONDS = 0.02
#: How far back missed ticks are looked for.
MOST_MINUTES = 366 * 24 * 60


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
    cut_off: tuple[Held, Exception] | None = None  # the run whose worker the parent killed, and why
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


class Scheduler(stock.Scheduler):
    """Moves what is due to the queue, lets each tick of the clock in once, and returns what silent consumers hold."""

    name: str
    seen_at: Any  # shared with the parent: when this last looked at the clock

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.checked: dict[str, int] = {}
        self.next_reap = 0.0
        self.recorder: Recorder | None = None
        self.back_off = BackOff("The scheduler")

    def loop(self, now: datetime | None = None) -> None:
        """`now` (aware UTC) stands for the clock in tests."""
        started = time.monotonic()
        try:
            self.look_after_recorder()
            self.look(now or datetime.now(UTC))
            self.back_off.succeeded()
        except Exception as error:
            self.back_off.failed(error)  # a round is a pause by itself
        self.sleep_for_interval(started, self.interval)

    def look_after_recorder(self) -> None:
        if self.recorder and self.recorder.is_alive():
            return
        if self.recorder:
            logger.warning("The recorder has ended and is replaced")
        self.recorder = Recorder(self.huey, self.stop_flag)
        self.recorder.start()

    def look(self, at: datetime) -> None:
        """Do all that is due, also after one thing of it has failed; raises the first error that was no outage."""
        steps: list[Callable[[], None]] = [partial(self.move_due, at)]
        if self.periodic:
            steps += [partial(self.tick, task_class, at) for task_class in self.huey._registry._periodic_tasks]
        errors = [error for step in (*steps, self.reap) if (error := error_of(step))]
        if errors:
            raise errors[0]
        self.seen_at.value = at.timestamp()

    def move_due(self, at: datetime) -> None:
        while self.huey.storage.move_due(at.timestamp()) and not self.stop_flag.is_set():
            pass

    def reap(self) -> None:
        if time.monotonic() < self.next_reap:
            return
        self.next_reap = time.monotonic() + settings.lease_seconds / 2
        for consumer in self.huey.storage.reap(settings.lease_seconds, settings.max_deliveries):
            logger.warning("Consumer %s is lost; what it held is back in the queue", consumer)

    def tick(self, task_class: type[RunTask], at: datetime) -> None:
        """Enqueue a periodic task for the newest matching minute since its last recorded tick, if there is one.

        All schedulers try; the broker lets each minute in once. A minute that is past was missed: it is made up for
        only where the task asks for it. A task never seen before has missed nothing.
        """
        name, minute = task_class.__name__, int(at.timestamp()) // 60
        if self.checked.get(name, -1) >= minute:
            return
        last = self.huey.storage.last_ticks().get(name)
        first = minute if last is None else max(last + 1, minute - MOST_MINUTES, self.checked.get(name, -1) + 1)
        due = [one for one in range(first, minute + 1) if task_class.schedule(datetime.fromtimestamp(one * 60, UTC))]
        if due:
            info = self.huey.pauses().get(schedules.target(name))
            self.strike(task_class, schedules.fates(due, minute, task_class.catch_up, info), at)
        elif last is None:
            self.huey.storage.tick(name, minute, Effects())
        self.checked[name] = minute

    def strike(self, task_class: type[RunTask], fates: list[schedules.Fate], at: datetime) -> None:
        """Record what becomes of these ticks, with the run that the last of them starts, if it starts one."""
        name, newest, effects, task = task_class.__name__, fates[-1], Effects(), None
        if newest.state in (schedules.ENQUEUED, schedules.LATE):
            with asked_by(Asker("schedule", getattr(task_class.schedule, "expression", ""))):
                task = task_class()
                effects = self.huey.posted(task)
        told = {"task": name, "ticks": [list(one) for one in fates], "run": task and task.id}
        effects.event(event_json("ticks", "", at.timestamp(), **told))
        if self.huey.storage.tick(name, newest.minute, effects) and task:
            late = int(at.timestamp()) // 60 - newest.minute
            logger.info("Enqueued periodic task %s%s", task, f", {late} min late" if late else "")


def error_of(step: Callable[[], None]) -> Exception | None:
    """What it raises, unless the broker is away, when nothing else can work either."""
    try:
        step()
        return None
    except BrokerAway:
        raise
    except Exception as error:
        return error
