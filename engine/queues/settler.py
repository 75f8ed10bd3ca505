"""Settler: stores the outcome of an execution.

No error between the end of a task's code and the stored outcome may escape. An outcome that cannot be stored becomes a
failed attempt under the task's own retries. If even that fails, the message returns to the queue and counts towards
MAX_DELIVERIES.
"""

import copy
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from huey import CancelExecution
from huey import signals as S
from huey.api import Task
from huey.utils import ChordConfig, Error

from config import settings
from engine.database import release_connection
from engine.exceptions import BrokerUnavailable, CancelRequested, MessageTooLarge, NotSerializable
from engine.models import State
from engine.queues.execution import Execution
from engine.queues.interfaces import TaskQueue
from engine.queues.replays import ReplayGuard
from engine.queues.task import QueueTask
from engine.text import MAX_LINE, error_text, storable
from engine.version import code_version

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: How long a step is repeated while the broker is unavailable, before the caller gets the error.
SETTLE_SECONDS = 30


class Settler:
    """The part of a queue that settles runs. The current run belongs to the thread: see `WorkerState`."""

    def __init__(self, queue: TaskQueue) -> None:
        self.queue, self.state = queue, queue.state
        self.replays = ReplayGuard(queue)

    def finish(self, execution: Execution) -> None:
        if execution.interrupted:
            state, limit = self.state, settings.max_deliveries
            try:
                self.queue.storage.deliveries.release(state.consumer, state.worker, "shutdown", limit, counts=False)
            except (
                BrokerUnavailable
            ) as error:  # the consumer releases what it holds, or another one does after the lease
                logger.warning("Run %s could not be returned to the queue: %s", execution.taken.run_id, error)
            return
        execution.finalize(f"{self.state.worker} on {self.state.consumer}", code_version())
        self.state.last = execution

    def settle_previous(self) -> None:
        last = self.state.last
        if last is None:
            return
        self.state.unsure = True
        try:
            settled = self.retry_while_unavailable(
                lambda: self.queue.storage.deliveries.settle(self.state.consumer, last.finished)
            )
        except CancelRequested as request:
            self.settle_as_cancelled(last, str(request))
            self.settle_previous()
            return
        except BrokerUnavailable:
            raise
        except Exception as error:
            self.give_up(last, error)
            return
        self.state.unsure, self.state.last = False, None
        if settled:
            self.remember(last)
        self.report_outcome(last, settled)

    def publish(self, run_id: str | None) -> None:
        if (executing := self.state.executing) is not None:
            executing.value = hash(run_id) if run_id else 0

    def report_outcome(self, execution: Execution, settled: bool) -> None:
        """Log and count a stored outcome. If it is not `settled`, another worker has taken the run over."""
        self.publish(None)
        if settled:
            try:
                self.log_outcome(execution)
            except Exception:
                logger.exception("The outcome of run %s is stored but could not be logged", execution.taken.run_id)
            if (tally := self.state.tally) is not None:
                tally[0] += 1
                tally[1] += execution.failed
        else:
            run_id = execution.taken.run_id
            logger.warning("Run %s was taken over by another worker; this outcome is dropped", run_id)

    def remember(self, execution: Execution) -> None:
        """Remember that this attempt is settled, if the broker has confirmed it."""
        if execution.state != State.SCHEDULED:  # else the same attempt comes again
            self.replays.memory.add(execution.taken.run_id, execution.attempt)

    # --- outcomes that cannot be stored as they are ----------------------------------------------------------

    def settle_as_failed(self, execution: Execution, error: BaseException) -> None:
        """End an execution as a failed attempt if its outcome could not be built. Its hooks are not called again."""
        try:
            run_id = execution.taken.run_id
            logger.error("The outcome of run %s cannot be stored. Its attempt fails.", run_id, exc_info=error)
            failure = self.start_over(execution, error)
            self.queue._emit(S.SIGNAL_ERROR, failure.task, error)
            if failure.task.retries:
                self.queue._emit(S.SIGNAL_RETRYING, failure.task)
                self.requeue_task(failure.task)
            else:
                self.store_errors(failure)
            self.finish(failure)
        except BaseException as second_error:
            self.give_up(execution, second_error)

    def settle_as_cancelled(self, execution: Execution, by: str) -> None:
        self.state.last = None
        try:
            cancel = self.start_over(execution, CancelExecution(f"cancelled by {by}", retry=False))
            self.queue._emit(S.SIGNAL_CANCELED, cancel.task)
            self.store_errors(cancel)
            self.finish(cancel)
        except BaseException as error:
            self.give_up(execution, error)
        finally:
            self.state.current = None

    def start_over(self, execution: Execution, error: BaseException) -> Execution:
        """Replace an execution's object by one with this error, no effects and the task as the message has it."""
        task = self.queue.deserialize_task(execution.taken.data)
        task.taken = execution.taken
        replacement = self.state.current = Execution(task, execution.taken)
        replacement.take_over(execution)
        replacement.exception = error
        return replacement

    def requeue_task(self, task: QueueTask) -> None:
        try:
            self.queue._requeue_task(task, self.queue._get_timestamp())
        except (OverflowError, TypeError, ValueError):
            logger.exception("Task %s has an invalid retry_delay and is retried at once", task.name)
            task.retry_delay = 0
            self.queue._requeue_task(task, self.queue._get_timestamp())

    def store_errors(self, execution: Execution) -> None:
        task: Task = execution.task
        error = Error(self.queue.build_error_result(task, execution.exception))
        if task.on_error:
            self.enqueue_handler(task.on_error, execution.exception)
        while task is not None:
            self.queue.put_result(task.id, error)
            if config := task.chord_config:
                self.abort_chord(config, error)
            task = task.on_complete

    def enqueue_handler(self, on_error: QueueTask, exception: BaseException | None) -> None:
        handler = copy.copy(on_error)
        try:
            handler.extend_data(exception)
            self.queue.enqueue(handler)
        except Exception as reason:
            logger.error("The error handler %s cannot be enqueued: %s", handler.name, error_text(reason))

    def abort_chord(self, config: ChordConfig, error: Error) -> None:
        try:
            self.queue._check_chord(config, error)
        except (NotSerializable, MessageTooLarge) as reason:
            logger.error("The results of a chord cannot be passed to %s: %s", config.callback.name, reason)
            self.queue.put_result(config.callback.id, error)

    def give_up(self, execution: Execution, error: BaseException) -> None:
        """Release a delivery that ended without a stored outcome. It counts towards MAX_DELIVERIES."""
        run_id = execution.taken.run_id
        logger.error("Run %s could not be acknowledged and returns to the queue", run_id, exc_info=error)
        self.state.last = None
        self.state.given_up = storable(f"its outcome could not be stored: {error_text(error)}", MAX_LINE)
        try:
            self.release_given_up()
        except BrokerUnavailable as reason:
            logger.warning("Run %s returns to the queue when the broker is available again: %s", run_id, reason)

    def release_given_up(self) -> None:
        state = self.state
        self.retry_while_unavailable(
            lambda: self.queue.storage.deliveries.release(
                state.consumer, state.worker, state.given_up, settings.max_deliveries
            )
        )
        state.given_up, state.unsure = "", False
        self.publish(None)

    def retry_while_unavailable(self, step: Callable[[], T], patient: bool = True) -> T:
        delay, deadline = 0.1, time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                return step()
            except BrokerUnavailable as error:
                if not patient or time.monotonic() > deadline:
                    raise
                logger.warning("The broker is unavailable. Retrying in %.1f s: %s", delay, error)
                time.sleep(delay)
                delay = min(delay * 2, 2)

    def log_outcome(self, execution: Execution) -> None:
        if execution.state == State.SUCCEEDED and not logger.isEnabledFor(logging.INFO):
            return
        task, seconds = execution.task, (execution.run_ms or 0) / 1000
        name = f"{task.__module__}.{task.name}[{task.id}]"
        if execution.state == State.SUCCEEDED:
            logger.info("Task %s succeeded in %.3gs", name, seconds)
        elif execution.state == State.RETRYING:
            delay = max(timedelta(0), task.eta - self.queue._get_timestamp()) if task.eta else timedelta(0)
            attempt = task.envelope.attempt - 1
            logger.warning(
                "Retrying task in %.0fs (attempt %d/%d)", delay.total_seconds(), attempt, task.envelope.retries
            )
        elif execution.state == State.FAILED:
            logger.error("Task %s failed in %.3gs: %s", name, seconds, execution.error)
        else:
            logger.info("Task %s %s", name, execution.state)


def release_database() -> None:
    try:
        release_connection()
    except Exception:
        logger.exception("The database connection of a run could not be released")
