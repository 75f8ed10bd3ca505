"""Scheduler: enqueues due runs and ticks, and reaps lost consumers."""

import logging
import threading
import time
from collections.abc import Callable
from ctypes import c_double
from datetime import UTC, datetime
from functools import partial

from huey import consumer as stock
from huey.consumer import ForkSafeFlag

from config import settings
from engine.back_off import BackOff
from engine.broker.effects import Effects, event_json
from engine.broker.messages import Requester
from engine.history.recorder import Recorder
from engine.queues import ticks
from engine.queues.enqueue import requested_by
from engine.queues.queue import Queue
from engine.queues.task import QueueTask
from engine.worker.worker import run_step

logger = logging.getLogger("huey.consumer")
#: How far back missed ticks are searched.
MAX_CATCH_UP_MINUTES = 366 * 24 * 60


class Scheduler(stock.Scheduler):
    """Moves due runs to the queue, enqueues each tick once, and returns the runs of lost consumers to the queue."""

    huey: Queue
    name: str
    seen_at: c_double  # shared with the parent: last check of the schedules (Unix seconds)

    def __init__(self, huey: Queue, stop_flag: ForkSafeFlag | threading.Event, interval: int, periodic: bool) -> None:
        super().__init__(huey, stop_flag, interval, periodic)
        self.checked: dict[str, int] = {}
        self.next_reap = 0.0
        self.recorder: Recorder | None = None
        self.back_off = BackOff("The scheduler")

    def loop(self, now: datetime | None = None) -> None:
        """Run one round. `now` (aware UTC) replaces the clock in tests."""
        started = time.monotonic()
        try:
            self.look_after_recorder()
            self.poll(now or datetime.now(UTC))
            self.back_off.succeeded()
        except Exception as error:
            self.back_off.failed(error)  # the next round is the pause
        self.sleep_for_interval(started, self.interval)

    def look_after_recorder(self) -> None:
        if self.recorder and self.recorder.is_alive():
            return
        if self.recorder:
            logger.warning("The recorder has ended and is replaced")
        self.recorder = Recorder(self.huey, self.stop_flag)
        self.recorder.start()

    def poll(self, at: datetime) -> None:
        """Run all due steps, even after one has failed. Raises the first error that was no outage."""
        steps: list[Callable[[], None]] = [partial(self.enqueue_due, at)]
        if self.periodic:
            steps += [partial(self.tick, task_class, at) for task_class in self.huey._registry._periodic_tasks]
        errors = [error for step in (*steps, self.reap) if (error := run_step(step))]
        if errors:
            raise errors[0]
        self.seen_at.value = at.timestamp()

    def enqueue_due(self, at: datetime) -> None:
        while self.huey.storage.messages.enqueue_due(at.timestamp()) and not self.stop_flag.is_set():
            pass

    def reap(self) -> None:
        if time.monotonic() < self.next_reap:
            return
        self.next_reap = time.monotonic() + settings.lease_seconds / 2
        for consumer in self.huey.storage.deliveries.reap(settings.lease_seconds, settings.max_deliveries):
            logger.warning("Consumer %s is lost. Its runs returned to the queue", consumer)

    def tick(self, task_class: type[QueueTask], at: datetime) -> None:
        """Enqueue a periodic task for the newest matching minute since its last recorded tick.

        All schedulers try, and the broker accepts each minute once. A past minute was missed. It is caught up only if
        the task
        has `catch_up`. A new task has missed nothing.
        """
        name, minute = task_class.__name__, int(at.timestamp()) // 60
        if self.checked.get(name, -1) >= minute:
            return
        last = self.huey.storage.ticks.last().get(name)
        first = minute if last is None else max(last + 1, minute - MAX_CATCH_UP_MINUTES, self.checked.get(name, -1) + 1)
        due = [due for due in range(first, minute + 1) if task_class.schedule(datetime.fromtimestamp(due * 60, UTC))]
        if due:
            info = self.huey.pauses().get(ticks.pause_key(name))
            self.record_ticks(task_class, ticks.classify_ticks(due, minute, task_class.catch_up, info), at)
        elif last is None:
            self.huey.storage.ticks.record(name, minute, Effects())
        self.checked[name] = minute

    def record_ticks(self, task_class: type[QueueTask], outcomes: list[ticks.TickOutcome], at: datetime) -> None:
        name, newest, effects, task = task_class.__name__, outcomes[-1], Effects(), None
        if newest.state in (ticks.ENQUEUED, ticks.LATE):
            with requested_by(Requester("schedule", getattr(task_class.schedule, "expression", ""))):
                task = task_class()
                effects = self.huey.enqueue_effects(task)
        facts = {"task": name, "ticks": [list(outcome) for outcome in outcomes], "run": task and task.id}
        effects.event(event_json("ticks", "", at.timestamp(), **facts))
        if self.huey.storage.ticks.record(name, newest.minute, effects) and task:
            late = int(at.timestamp()) // 60 - newest.minute
            logger.info("Enqueued periodic task %s%s", task, f", {late} min late" if late else "")
