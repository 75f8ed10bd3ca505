"""Queue: a Huey with signed JSON, at-least-once delivery, stored results, and a history of every run."""

import copy
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import c_double
from datetime import datetime
from functools import partial
from typing import Any

from huey import CancelExecution, Huey, chord, group
from huey import signals as S
from huey.api import Result, ResultGroup, Task, TaskLock
from huey.exceptions import TaskException
from huey.utils import ChordConfig

from config import settings
from engine.broker.deliveries import Delivery
from engine.broker.effects import Effects, event_json
from engine.broker.huey_storage import ImmediateStorage
from engine.broker.locks import LeaseLock
from engine.broker.messages import SignedJSON, StoredValue
from engine.broker.signed_entries import default_serializer
from engine.broker.storage import Storage
from engine.exceptions import BrokerUnavailable, InvalidMessage
from engine.queues.chords import chord_key, store_result
from engine.queues.claim import Claimer
from engine.queues.enqueue import Enqueuer
from engine.queues.execution import Execution, raised_by_task
from engine.queues.forged import ForgedReporter
from engine.queues.old_format import accepts_old_values
from engine.queues.options import check_call
from engine.queues.registry import Registry
from engine.queues.results import ResultBuilder
from engine.queues.settler import Settler, release_database
from engine.queues.task import QueueTask, TaskContext, TaskWrapper
from engine.queues.worker_state import WorkerState
from engine.secret_texts import hide_secrets
from engine.text import error_repr, storable, traceback_text
from engine.version import host_name

logger = logging.getLogger(__name__)
Code = Callable[..., object]

#: Longest delay between two attempts, however far the back-off has grown.
MAX_RETRY_DELAY = 366 * 86400.0

BEAT_SECONDS = min(2.0, settings.lease_seconds / 3)


class Queue(Huey):
    """A queue of tasks. `failed_result=` of a task (task, exception) builds the result of a failed run."""

    serializer: SignedJSON
    quiet_at: c_double | None = None  # in a consumer: Unix time since it is quiet, or 0

    def __init__(self, name: str, **options: object) -> None:
        self.state = WorkerState()
        super().__init__(
            name,
            serializer=default_serializer(),
            store_none=True,
            store_intermediate_errors=False,
            **options,
        )
        self._registry = Registry()
        self.forged = ForgedReporter(self)
        self.enqueuer = Enqueuer(self)
        self.settler = Settler(self)
        self.claimer = Claimer(self, self.settler)
        self.result_builder = ResultBuilder(self, self.enqueuer)

    def get_storage(self, **kwargs: float) -> Storage:
        # Imported as needed: a process loads only the broker that it uses.
        if settings.redis_url:
            from engine.broker.redis.storage import RedisStorage

            return RedisStorage(
                self.name, settings.redis_url, settings.result_ttl_seconds, serializer=self.serializer, **kwargs
            )
        from engine.broker.sqlite.storage import SqliteStorage

        return SqliteStorage(
            self.name, settings.queue_path, settings.result_ttl_seconds, serializer=self.serializer, **kwargs
        )

    def get_immediate_storage(self) -> ImmediateStorage:
        return ImmediateStorage(self.name)

    def get_task_wrapper_class(self) -> type[TaskWrapper]:
        return TaskWrapper

    def task(self, *args: object, **options: object) -> Callable[[Code], TaskWrapper]:
        decorator: Callable[[Code], TaskWrapper] = super().task(*args, **options)
        return decorator

    def periodic_task(self, schedule: Callable[[datetime], bool], **options: object) -> Callable[[Code], TaskWrapper]:
        """Declare a task with a schedule. Not Huey's PeriodicTask, which stores no result.

        `catch_up=True`: one run makes up for ticks missed while no consumer ran.
        """
        return self.task(validate_datetime=lambda task, at: schedule(at), schedule=staticmethod(schedule), **options)

    def lock_task(self, lock_name: str, ttl: float | None = None) -> TaskLock:
        return TaskLock(self, lock_name, ttl) if self.immediate else LeaseLock(self, lock_name, ttl)

    def is_locked(self, lock_name: str) -> bool:
        return bool(self.lock_task(lock_name).is_locked())

    def flush_locks(self, *names: str) -> set[str]:
        """Release the named locks, for Huey's -f and -L. Other locks end with their holders."""
        return {name for name in names if self.storage.locks.release(name.strip())}

    # --- enqueuing -----------------------------------------------------------------------------------------------

    def enqueue(self, task: Task) -> Result | ResultGroup:
        if isinstance(task, (group, chord)):
            return super().enqueue(task)
        if self.immediate:
            check_call(task)
            return super().enqueue(task)
        return self.enqueuer.enqueue_many([task])[0]

    def enqueue_many(self, tasks: Iterable[QueueTask]) -> list[Result | ResultGroup]:
        return self.enqueuer.enqueue_many(tasks)

    def enqueue_calls(self, wrapper: TaskWrapper, calls: Sequence[tuple[object, ...]]) -> ResultGroup:
        if self.immediate:
            return ResultGroup([self.enqueue(wrapper.s(*arguments)) for arguments in calls])
        return self.enqueuer.enqueue_calls(wrapper, calls)

    def add_schedule(self, task: QueueTask) -> None:
        if self.immediate:
            super().add_schedule(task)
        else:
            self.enqueuer.schedule(task)

    def serialize_task(self, task: QueueTask) -> bytes:
        return self.enqueuer.serialize_task(task)

    def deserialize_task(self, data: bytes) -> QueueTask:
        return self.enqueuer.deserialize_task(data)

    def enqueue_effects(self, task: QueueTask, once: str = "", delivered: int = 0) -> Effects:
        return self.enqueuer.enqueue_effects(task, once, delivered)

    def submit(self, effects: Effects) -> list[str]:
        return self.enqueuer.submit(effects)

    # --- executing -----------------------------------------------------------------------------------------------

    def set_worker_identity(self, consumer: str, worker: str, *, deferring: bool = False) -> None:
        """Claim messages under this name in this thread.

        A `deferring` worker settles a run with the next `dequeue`, in the same round trip. It calls `settle_previous`
        before it stops.
        """
        state = self.state
        state.consumer, state.worker, state.deferring = consumer, worker, deferring
        state.unsure, state.last, state.given_up = True, None, ""

    def dequeue(self) -> QueueTask | None:
        """Return the next task, held until it is settled. None if no task came within the read timeout."""
        if not self.state.worker:
            self.set_worker_identity(f"{host_name()}:{threading.get_native_id()}:inline", "inline")
        taken = self.claimer.claim()
        if taken is None:
            self.storage.deliveries.wait_for_work()
            taken = None if self.quiet_at and self.quiet_at.value else self.claimer.claim()
        try:
            return taken and self.claimer.decode_task(taken)
        except BaseException:
            self.state.unsure = True  # still held: this worker checks its own held message first
            raise

    def execute(self, task: QueueTask, timestamp: datetime | None = None) -> object:
        """Run a claimed task and settle it. No error of its code, its hooks or its outcome escapes.

        Raises BrokerUnavailable if the broker fails before the code has begun. The run is then still held.
        """
        if self.immediate or task.taken is None:
            return super().execute(task, timestamp)
        if not task.secrets:
            return self.execute_and_settle(task, task.taken, timestamp)
        with hide_secrets(task.secrets):
            return self.execute_and_settle(task, task.taken, timestamp)

    def execute_and_settle(self, task: QueueTask, taken: Delivery, timestamp: datetime | None) -> object:
        execution = self.state.current = Execution(task, taken)
        self.settler.publish(taken.run_id)
        value: object = None
        try:
            value = super().execute(task, timestamp)
            self.settler.finish(execution)
        except BaseException as error:
            if isinstance(error, BrokerUnavailable) and not execution.has_begun:
                # Still held: this worker checks its own held message first when it claims again.
                self.state.unsure = True
                raise
            self.settler.settle_as_failed(execution, error)
            value = None
        finally:
            self.state.current = None
            release_database()
        if not self.state.deferring:
            self.settler.settle_previous()
        return value

    def settle_previous(self) -> None:
        self.settler.settle_previous()

    def time_limit(self, task: str) -> float:
        """Return the seconds after which the worker of this task is killed, 0: never."""
        task_classes = self._registry._registry.values()
        declared = next((cls.time_limit for cls in task_classes if cls.__name__ == task), None)
        return float(settings.time_limit if declared is None else declared)

    def record_metadata(self, task: QueueTask, facts: Mapping[str, object]) -> None:
        if not self.immediate:
            delivery = task.taken.delivery if task.taken else 0
            event = event_json("noted", task.id, time.time(), delivery=delivery, **facts)
            self.storage.messages.write(Effects().event(event))

    def report_forged(self, what: str, name: str, reason: str) -> None:
        self.forged.report(what, name, reason)

    def check_result(self, task: QueueTask, value: object) -> None:
        """Build the result of a task's code, while a failure still counts as the attempt's. Raises NotStorable."""
        self.result_builder.check(task, value)

    def _timeout_context(self, task: QueueTask) -> TaskContext:
        return TaskContext(self, task)

    # --- called by Huey ------------------------------------------------------------------------------------------

    def _emit(self, signal: str, task: Task, *args: object, **kwargs: object) -> None:
        current = self.state.current
        if current and current.task is task:
            current.on_signal(signal)
        if args:
            args = tuple(map(raised_by_task, args))
        try:
            super()._emit(signal, task, *args, **kwargs)
        except BaseException:  # Huey catches Exception only
            logger.exception("A receiver of the signal %s raised", signal)

    def _run_pre_execute(self, task: Task) -> None:
        try:
            super()._run_pre_execute(task)
        except CancelExecution:
            raise
        except BaseException:
            logger.exception("A pre-execute hook raised for %s", task.id)

    def _run_post_execute(self, task: Task, value: object, exception: BaseException | None) -> None:
        if current := self.state.current:
            current.set_result(value, exception)
        try:
            super()._run_post_execute(task, value, raised_by_task(exception))
        except BaseException:
            logger.exception("A post-execute hook raised for %s", task.id)

    def _requeue_task(self, task: QueueTask, timestamp: datetime, retry_eta: datetime | None = None) -> None:
        if task.envelope:
            task.envelope = task.envelope._replace(attempt=task.envelope.attempt + 1)
        task.eta = None
        if task.retry_delay:  # a back-off grows without bound
            task.retry_delay = min(task.retry_delay, MAX_RETRY_DELAY)
        super()._requeue_task(task, timestamp, retry_eta)

    def build_error_result(self, task: Task, exception: BaseException | None) -> dict[str, object]:
        error = raised_by_task(exception) or Exception("unknown")
        if self.state.current:
            self.state.current.exception = error
        text = error.metadata.get("error") if isinstance(error, TaskException) else None
        return {
            "error": storable(str(text)) if text else error_repr(error),
            "retries": task.retries,
            "traceback": traceback_text(error),
            "task_id": task.id,
        }

    def sign_value(self, key: str, value: object) -> bytes:
        """Return a value to store under this key."""
        return self.serializer.serialize_value(self.name, key, value)

    def read_value(self, key: str, data: bytes) -> Any:
        """Return the value that lay under this key. Raises InvalidMessage."""
        return self.serializer.deserialize_value(self.name, key, data, partial(accepts_old_values, self.name))

    def get(self, key: str, peek: bool = False) -> Any:
        stored = self.get_raw(key, peek)
        return self.read_value(key, stored.data) if isinstance(stored, StoredValue) else None

    def put(self, key: str, data: object) -> object:
        """Store a value for Huey. The revocation of a run is deleted with it, and expires if the run is unknown."""
        value = self.sign_value(key, data)
        if self.immediate or not key.startswith("r:"):
            return self.storage.put_data(key, value)
        return self.storage.results.revoke(key.removeprefix("r:"), value)

    def put_if_empty(self, key: str, data: object, ttl: float | None = None) -> bool:
        return bool(self.storage.put_if_empty(key, self.sign_value(key, data), ttl))

    def put_result(self, key: str, data: object) -> None:
        settling = self.state.settling
        if settling is None:
            self.storage.put_data(key, self.sign_value(key, data), is_result=True)
        else:
            settling.effects.result(key, self.result_builder.serialize(settling, key, data))

    def is_revoked(self, task: Task, timestamp: datetime | None = None, peek: bool = True) -> bool:
        """Return True if the task is revoked. The broker's answer at delivery saves a query."""
        taken = getattr(task, "taken", None)
        try:
            return (taken is None or taken.is_marked) and bool(super().is_revoked(task, timestamp, peek))
        except InvalidMessage:
            self.report_forged("revocation", str(getattr(task, "id", task)), "not signed for its run or task")
            return False

    def delete(self, key: str) -> bool:
        """Delete a value. A run's own revocation is left, as settling the run deletes it."""
        settling = self.state.settling
        return False if settling and key == settling.task.revoke_id else bool(super().delete(key))

    def _check_chord(self, member: ChordConfig, value: object) -> None:
        """Enqueue the callback of a chord once all members have ended.

        The member's own result is stored first, and again if the member is delivered again. The callback is stored with
        the settling, under a name that the broker accepts once.
        """
        if self.immediate:
            super()._check_chord(member, value)
            return
        results = self.settler.retry_while_unavailable(partial(store_result, self, member, value))
        if results is not None:
            callback = copy.copy(member.callback)
            callback.extend_data((results,))
            self._emit(S.SIGNAL_ENQUEUED, callback)
            self.submit(self.enqueue_effects(callback, once=chord_key(member)))

    def pauses(self) -> dict[str, dict[str, Any]]:
        """Return pauses (by, at, reason) by name: empty for the queue, a task, or `schedule:` and a task."""
        return dict(self.storage.pauses.all())


Queues = Mapping[str, Queue]
