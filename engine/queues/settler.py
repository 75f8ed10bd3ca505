"""Settler: stores what an execution came to, whatever that is.

From the end of a task's code to the stored outcome nothing may escape. What cannot be stored becomes a failed attempt
under the task's own retries; what cannot even be settled as that is given back, and counts towards MAX_DELIVERIES.
"""

import copy
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from huey import CancelExecution
from huey import signals as S
from huey.utils import Error

from config import settings
from engine.database import release
from engine.exceptions import BrokerAway, CancelRequested, MessageTooLarge, NotSerializable
from engine.models import State
from engine.queues.execution import Settlement
from engine.queues.task import RunTask
from engine.text import MAX_LINE, error_text, storable, traceback_text
from engine.version import code_version

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: How long one step is repeated while the broker is away, before its caller is asked again.
SETTLE_SECONDS = 30


class Settler:
    """Settles the runs of a queue. What it knows of the run in hand belongs to the thread: `queue.local`."""

    def __init__(self, queue: Any) -> None:
        self.queue, self.local = queue, queue.local

    def finish(self, settlement: Settlement) -> None:
        """Close a settlement, to be stored by `settle_last` or with the next turn."""
        if settlement.interrupted:
            local, most = self.local, settings.max_deliveries
            try:
                self.queue.storage.deliveries.release(local.consumer, local.worker, "shutdown", most, counts=False)
            except BrokerAway as away:  # the consumer gives back what it holds, or another one does after the lease
                logger.warning("Run %s could not be given back: %s", settlement.taken.run_id, away)
            return
        settlement.close(f"{self.local.worker} on {self.local.consumer}", code_version())
        self.local.last = settlement

    def settle_last(self) -> None:
        """Settle what this worker has finished with, if it has not been yet."""
        last = self.local.last
        if last is None:
            return
        self.local.unsure = True
        try:
            settled = self.persist(lambda: self.queue.storage.deliveries.settle(self.local.consumer, last.done))
        except CancelRequested as request:
            self.settle_as_cancelled(last, str(request))
            self.settle_last()
            return
        except BrokerAway:
            raise
        except Exception as error:
            self.give_up(last, error)
            return
        self.local.unsure, self.local.last = False, None
        self.conclude(last, settled)

    def publish(self, run_id: str | None) -> None:
        """Let the consumer's parent see which run this worker executes. None: no run."""
        if (executing := getattr(self.local, "executing", None)) is not None:
            executing.value = hash(run_id) if run_id else 0

    def conclude(self, settlement: Settlement, settled: bool) -> None:
        self.publish(None)
        if settled:
            try:
                self.log_outcome(settlement)
            except Exception:
                logger.exception("The outcome of run %s is stored and cannot be logged", settlement.taken.run_id)
            if (tally := getattr(self.local, "tally", None)) is not None:
                tally[0] += 1
                tally[1] += settlement.failed
        else:
            run_id = settlement.taken.run_id
            logger.warning("Run %s was taken over by another worker; this outcome is dropped", run_id)

    # --- outcomes that cannot be stored as they are ----------------------------------------------------------

    def settle_as_failed(self, settlement: Settlement, error: BaseException) -> None:
        """End an execution as a failed attempt when its outcome could not be put together: under the task's own
        retries, and without the code that may have raised this.
        """
        try:
            run_id = settlement.taken.run_id
            logger.error("The outcome of run %s cannot be stored, and fails: %s", run_id, traceback_text(error))
            failure = self.begin_again(settlement, error)
            self.queue._emit(S.SIGNAL_ERROR, failure.task, error)
            if failure.task.retries:
                self.queue._emit(S.SIGNAL_RETRYING, failure.task)
                self.requeue_plainly(failure.task)
            else:
                self.store_errors(failure)
            self.finish(failure)
        except BaseException as second_error:
            self.give_up(settlement, second_error)

    def settle_as_cancelled(self, settlement: Settlement, by: str) -> None:
        """Replace an outcome by a cancel that came before it was stored."""
        self.local.last = None
        try:
            cancel = self.begin_again(settlement, CancelExecution(f"cancelled by {by}", retry=False))
            self.queue._emit(S.SIGNAL_CANCELED, cancel.task)
            self.store_errors(cancel)
            self.finish(cancel)
        except BaseException as error:
            self.give_up(settlement, error)
        finally:
            self.local.current = None

    def begin_again(self, settlement: Settlement, error: BaseException) -> Settlement:
        """Return a settlement of the same execution with this error and nothing else to be stored. Its task is as the
        message has it.
        """
        task = self.queue.deserialize_task(settlement.taken.data)
        task.taken = settlement.taken
        replacement = self.local.current = Settlement(task, settlement.taken)
        replacement.take_over(settlement)
        replacement.exception = error
        return replacement

    def requeue_plainly(self, task: RunTask) -> None:
        try:
            self.queue._requeue_task(task, self.queue._get_timestamp())
        except (OverflowError, TypeError, ValueError):
            logger.exception("Task %s has a retry_delay that is no time; it is retried at once", task.name)
            task.retry_delay = 0
            self.queue._requeue_task(task, self.queue._get_timestamp())

    def store_errors(self, settlement: Settlement) -> None:
        """Store the error as the result of the run, and of all that would have followed it; call its error handler."""
        task: Any = settlement.task
        error = Error(self.queue.build_error_result(task, settlement.exception))
        if task.on_error:
            self.enqueue_handler(task.on_error, settlement.exception)
        while task is not None:
            self.queue.put_result(task.id, error)
            if config := task.chord_config:
                self.abort_chord(config, error)
            task = task.on_complete

    def enqueue_handler(self, on_error: RunTask, exception: BaseException | None) -> None:
        handler = copy.copy(on_error)
        try:
            handler.extend_data(exception)
            self.queue.enqueue(handler)
        except Exception as reason:
            logger.error("The error handler %s cannot be enqueued: %s", handler.name, error_text(reason))

    def abort_chord(self, config: Any, error: Error) -> None:
        try:
            self.queue._check_chord(config, error)
        except (NotSerializable, MessageTooLarge) as reason:
            logger.error("The results of a chord cannot be handed on to %s: %s", config.callback.name, reason)
            self.queue.put_result(config.callback.id, error)

    def give_up(self, settlement: Settlement, error: BaseException) -> None:
        """Give a delivery back that ended without a settled outcome. It counts towards MAX_DELIVERIES."""
        run_id = settlement.taken.run_id
        logger.error("Run %s could not be settled and is given back: %s", run_id, traceback_text(error))
        self.local.last = None
        self.local.given_up = storable(f"its outcome could not be stored: {error_text(error)}", MAX_LINE)
        try:
            self.give_back_given_up()
        except BrokerAway as away:
            logger.warning("Run %s is given back when the broker is back: %s", run_id, away)

    def give_back_given_up(self) -> None:
        local = self.local
        self.persist(
            lambda: self.queue.storage.deliveries.release(
                local.consumer, local.worker, local.given_up, settings.max_deliveries
            )
        )
        local.given_up, local.unsure = "", False
        self.publish(None)

    def persist(self, step: Callable[[], T], patient: bool = True) -> T:
        """Repeat a harmless step while the broker is away, for a while."""
        delay, deadline = 0.1, time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                return step()
            except BrokerAway as error:
                if not patient or time.monotonic() > deadline:
                    raise
                logger.warning("The broker is unavailable; trying again in %.1f s: %s", delay, error)
                time.sleep(delay)
                delay = min(delay * 2, 2)

    def log_outcome(self, settlement: Settlement) -> None:
        if settlement.state == State.SUCCEEDED and not logger.isEnabledFor(logging.INFO):
            return
        task, seconds = settlement.task, (settlement.run_ms or 0) / 1000
        name = f"{task.__module__}.{task.name}[{task.id}]"
        if settlement.state == State.SUCCEEDED:
            logger.info("Task %s succeeded in %.3gs", name, seconds)
        elif settlement.state == State.RETRYING:
            delay = max(timedelta(0), task.eta - self.queue._get_timestamp()) if task.eta else timedelta(0)
            attempt = task.envelope.attempt - 1
            logger.warning(
                "Retrying task in %.0fs (attempt %d/%d)", delay.total_seconds(), attempt, task.envelope.retries
            )
        elif settlement.state == State.FAILED:
            logger.error("Task %s failed in %.3gs: %s", name, seconds, settlement.error)
        else:
            logger.info("Task %s %s", name, settlement.state)


def release_database() -> None:
    try:
        release()
    except Exception:
        logger.exception("The database connection of a run could not be released")
