"""Queue: our Huey. Signed JSON, at-least-once delivery, results that are kept, and a history of every run."""

import copy
import functools
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import orjson
from huey import CancelExecution
from huey import signals as S
from huey.api import TaskLock
from huey.exceptions import TaskException
from huey.utils import Error

from config import settings
from engine.broker.deliveries import Delivery, HeldMessage, MissingTask, TurnResult
from engine.broker.locks import LeaseLock
from engine.broker.messages import FinalResult, SignedJSON
from engine.broker.storage import Storage
from engine.exceptions import BrokerAway, CancelRequested, MessageTooLarge, NotSerializable, NotStorable
from engine.queues.enqueue import Enqueuing
from engine.queues.execution import Settlement, raised_by_task
from engine.queues.registry import NotRegistered, Registry
from engine.queues.settler import Settler, release_database
from engine.queues.task import InCode, RunTask, RunWrapper, parse_rate
from engine.text import error_repr, storable, traceback_text
from engine.version import code_version, host

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: A delay between two attempts that a backoff has made longer is cut to this.
MAX_RETRY_DELAY = 366 * 86400.0

BEAT_SECONDS = min(2.0, settings.lease_seconds / 3)


class Queue(Enqueuing):
    """One of the three queues. `failed_result=` of a task makes the result that is stored when it has failed for good:
    a function of the task and the exception; without one, Huey's error is stored.
    """

    quiet_at: Any = None  # in a consumer: since when it takes nothing new; 0 while it does

    def __init__(self, name: str, **options: Any) -> None:
        self.local = threading.local()
        self.settler = Settler(self)
        super().__init__(
            name,
            serializer=SignedJSON(settings.secret_key),
            store_none=True,
            store_intermediate_errors=False,
            **options,
        )
        self._registry = Registry()

    def get_storage(self, **kwargs: Any) -> Storage:
        # A process has only the one in memory that it uses.
        if settings.redis_url:
            from engine.broker.redis.storage import RedisStorage

            return RedisStorage(self.name, settings.redis_url, settings.result_ttl_seconds, **kwargs)
        from engine.broker.sqlite.storage import SqliteStorage

        return SqliteStorage(self.name, settings.queue_path, settings.result_ttl_seconds, **kwargs)

    def get_task_wrapper_class(self) -> type[RunWrapper]:
        return RunWrapper

    def periodic_task(self, schedule: Any, **options: Any) -> Callable[..., RunWrapper]:
        """A task that the clock starts. Not Huey's PeriodicTask, which keeps no result.

        `catch_up=True`: a tick missed while no consumer ran is made up for once.
        """
        return self.task(validate_datetime=lambda task, at: schedule(at), schedule=staticmethod(schedule), **options)

    def lock_task(self, lock_name: str, ttl: float | None = None) -> TaskLock:
        return TaskLock(self, lock_name, ttl) if self._immediate else LeaseLock(self, lock_name, ttl)

    def is_locked(self, lock_name: str) -> bool:
        return bool(self.lock_task(lock_name).is_locked())

    def flush_locks(self, *names: str) -> set[str]:
        """Huey's -f and -L. Locks here die with their holders, so only those that are named are taken away."""
        return {name for name in names if self.storage.locks.release(name.strip())}

    # --- working ---------------------------------------------------------------------------------------------

    def identify(self, consumer: str, worker: str, *, deferring: bool = False) -> None:
        """Take messages under this name, in this thread. Who is `deferring` settles a run with the next `dequeue`, in
        the same round trip, and calls `settle_last` before it stops.
        """
        self.local.consumer, self.local.worker, self.local.unsure = consumer, worker, True
        self.local.deferring, self.local.last, self.local.given_up = deferring, None, ""

    def dequeue(self) -> RunTask | None:
        """The next task, held until it is settled; None when none came within the read timeout."""
        if not hasattr(self.local, "worker"):
            self.identify(f"{host()}:{threading.get_native_id()}:inline", "inline")
        taken = self.take()
        if taken is None:
            self.storage.deliveries.wait_for_work()
            taken = None if self.quiet_at and self.quiet_at.value else self.take()
        try:
            return taken and self.opened(taken)
        except BaseException:
            self.local.unsure = True  # still held: this worker looks into its own hands first
            raise

    def take(self) -> Delivery | None:
        """Settle what this worker has finished with, and take the next message, in one step."""
        local, tries = self.local, 0
        if local.given_up:
            self.settler.give_back_given_up()
        last = local.last

        def step() -> TurnResult:
            nonlocal tries
            tries += 1
            # An answer that was lost may have handed something out: look there first.
            look_first, local.unsure = local.unsure, True
            self.storage.deliveries.known_tasks = self._registry._registry
            return self.storage.deliveries.settle_and_claim(
                local.consumer, local.worker, look_first, self.limits, last and last.done
            )

        try:
            turn = self.settler.persist(step, patient=last is not None)
        except CancelRequested as request:
            self.settler.settle_as_cancelled(last, str(request))
            return self.take()
        except BrokerAway:
            raise
        except Exception as error:
            if last is None:
                raise
            logger.error("No run could be taken in the step that settles the last one: %s", traceback_text(error))
            self.settle_last()
            return None
        local.unsure, local.last = False, None
        if last:
            self.settler.conclude(last, turn.settled or tries > 1)
        return turn.claimed

    @functools.cached_property
    def limits(self) -> str:
        """What the broker must know of rates: JSON of task → [starts, seconds]; nothing where no task has one."""
        limited = {
            one.__name__: parse_rate(one.rate_limit) for one in self._registry._registry.values() if one.rate_limit
        }
        return orjson.dumps(limited).decode() if limited else ""

    def opened(self, taken: Any) -> RunTask | None:
        try:
            task = self.deserialize_task(taken.data)
        except NotRegistered as error:
            self.put_off(taken, error.task)
            return None
        except Exception as error:
            logger.error("Message %s cannot be run and is kept as dead: %s", taken.run_id, error)
            self.storage.deliveries.dead_letter(self.local.consumer, taken, storable(str(error)))
            return None
        task.taken = taken
        return task

    def put_off(self, taken: Delivery, task: str) -> None:
        """Leave a message to consumers whose code knows this task; it is dead when none has come within the grace."""
        local, name = self.local, f"{self.name}@{host()}"
        why = MissingTask(task, name, local.consumer, code_version())
        match self.storage.deliveries.defer(local.consumer, taken, why, settings.unknown_task_grace):
            case "dead":
                logger.error("Message %s cannot be run and is kept as dead: %s (%s)", taken.run_id, why.reason, task)
            case "scheduled":
                logger.warning("Run %s is left to newer code: %s (%s)", taken.run_id, why.reason, task)

    def execute(self, task: Any, timestamp: datetime | None = None) -> Any:
        """Run a task that was taken, and settle it: whatever its code, its hooks or its outcome do, nothing escapes.

        Raises BrokerAway where the broker is away before the code has begun; the run is still held then.
        """
        if self._immediate or not hasattr(task, "taken"):
            return super().execute(task, timestamp)
        settlement = self.local.current = Settlement(task, task.taken)
        self.settler.publish(task.taken.run_id)
        try:
            value = super().execute(task, timestamp)
            self.settler.finish(settlement)
        except BaseException as error:
            if isinstance(error, BrokerAway) and not settlement.has_begun:
                # Still held: this worker looks into its own hands first when it asks for the next message.
                self.local.unsure = True
                raise
            self.settler.settle_as_failed(settlement, error)
            value = None
        finally:
            self.local.current = None
            release_database()
        if not self.local.deferring:
            self.settler.settle_last()
        return value

    def settle_last(self) -> None:
        """Settle what this worker has finished with, if it has not been yet."""
        self.settler.settle_last()

    def settle_for_the_killed(self, held: HeldMessage, error: Exception) -> None:
        """Settle a run whose worker, of our name, was killed on purpose: its attempt has ended with this error."""
        try:
            data = self.settler.persist(lambda: self.storage.messages.get(held.run_id))
            task = data and self.opened(Delivery(held.run_id, held.delivery, data))
        except BrokerAway as away:
            logger.warning("Run %s could not be settled and will be delivered again: %s", held.run_id, away)
            return
        if not task:
            return

        def cut_off() -> None:
            raise error

        task.execute, task.began = cut_off, held.held_at
        try:
            self.execute(task)
            self.settle_last()
        except BrokerAway as away:
            logger.warning("Run %s could not be settled and will be delivered again: %s", held.run_id, away)

    def time_limit(self, task: str) -> float:
        """Seconds after which the worker of this task is killed; 0: never."""
        declared = next((one.time_limit for one in self._registry._registry.values() if one.__name__ == task), None)
        return float(settings.time_limit if declared is None else declared)

    def _timeout_context(self, task: Any) -> InCode:
        return InCode(self, task)

    # --- what Huey calls on the way ------------------------------------------------------------------------------

    def check_result(self, task: RunTask, value: Any) -> None:
        """Make the result of a task's code, while a failure is still the attempt's own. Raises NotStorable."""
        current = self.current
        if current is None or current.task is not task:
            return
        try:
            current.checked = value, self.serializer.serialize(FinalResult(value, current.attempt, task.id))
        except (NotStorable, MessageTooLarge) as error:
            raise NotStorable(f"the result of {task.name} cannot be stored: {error}") from error
        if task.on_complete:
            self.check_follower(task.on_complete, value)

    def check_follower(self, follower: RunTask, value: Any) -> None:
        """Make the message of what follows in a pipeline, as Huey will. Raises NotStorable."""
        follower = copy.copy(follower)
        follower.kwargs = dict(follower.kwargs)
        follower.extend_data(value)
        try:
            self.message(follower)
        except (NotSerializable, MessageTooLarge, ValueError) as error:
            raise NotStorable(f"the result cannot be handed on to {follower.name}: {error}") from error

    def _emit(self, signal: str, task: Any, *args: Any, **kwargs: Any) -> None:
        current = self.current
        if current and current.task is task:
            current.notice(signal)
        if args:
            args = tuple(map(raised_by_task, args))
        try:
            super()._emit(signal, task, *args, **kwargs)
        except BaseException:  # Huey contains an Exception only
            logger.exception("A receiver of the signal %s raised", signal)

    def _run_pre_execute(self, task: Any) -> None:
        try:
            super()._run_pre_execute(task)
        except CancelExecution:
            raise
        except BaseException:
            logger.exception("A pre-execute hook raised for %s", task.id)

    def _run_post_execute(self, task: Any, value: Any, exception: BaseException | None) -> None:
        if current := self.current:
            current.finish(value, exception)
        try:
            super()._run_post_execute(task, value, raised_by_task(exception))
        except BaseException:
            logger.exception("A post-execute hook raised for %s", task.id)

    def _requeue_task(self, task: Any, timestamp: datetime, retry_eta: datetime | None = None) -> None:
        if task.envelope:
            task.envelope = task.envelope._replace(attempt=task.envelope.attempt + 1)
        task.eta = None
        if task.retry_delay:  # a backoff grows without end
            task.retry_delay = min(task.retry_delay, MAX_RETRY_DELAY)
        super()._requeue_task(task, timestamp, retry_eta)

    def build_error_result(self, task: Any, exception: BaseException | None) -> dict[str, Any]:
        exception = raised_by_task(exception) or Exception("unknown")
        if self.current:
            self.current.exception = exception
        text = exception.metadata.get("error") if isinstance(exception, TaskException) else None
        return {
            "error": storable(str(text)) if text else error_repr(exception),
            "retries": task.retries,
            "traceback": traceback_text(exception),
            "task_id": task.id,
        }

    def put(self, key: str, data: Any) -> Any:
        """Huey's. A revocation of one run goes with the run, and expires where the broker knows of none."""
        if self._immediate or not key.startswith("r:"):
            return super().put(key, data)
        return self.storage.results.revoke(key.removeprefix("r:"), self.serializer.serialize(data))

    def put_result(self, key: str, data: Any) -> None:
        settling = self.settling
        if settling is None:
            super().put_result(key, data)
        else:
            settling.effects.result(key, self.result_of(settling, key, data))

    def result_of(self, settling: Settlement, key: str, data: Any) -> bytes:
        if key != settling.task.id:
            return bytes(self.serializer.serialize(data))
        if settling.checked and data is settling.checked[0]:
            return settling.checked[1]
        if isinstance(data, Error) and hasattr(settling.task, "failed_result"):
            try:
                value = settling.task.failed_result(settling.exception)
                result = self.serializer.serialize(FinalResult(value, settling.attempt, key))
                settling.value = value
                return bytes(result)
            except BaseException:
                logger.exception("failed_result of %s raised, or cannot be stored; the error is", settling.task.name)
        return bytes(self.serializer.serialize(FinalResult(data, settling.attempt, key)))

    def is_revoked(self, task: Any, timestamp: datetime | None = None, peek: bool = True) -> bool:
        """Huey's question; what the broker said when it handed out the message spares asking it again."""
        taken = getattr(task, "taken", None)
        return (taken is None or taken.revoked) and bool(super().is_revoked(task, timestamp, peek))

    def delete(self, key: str) -> Any:
        """Settling removes a run's own revocation with it."""
        return False if self.settling and key == self.settling.task.revoke_id else super().delete(key)

    def _check_chord(self, member: Any, value: Any) -> None:
        """A member of a chord has ended: the one that finds all others ended too lets the callback in, once.

        Its own result is stored first, and stored again should this member be delivered again; the callback goes in
        with the settling, under a name that lets it in once.
        """
        if self._immediate:
            super()._check_chord(member, value)
            return
        key, data = f"chord:{member.cid}", self.serializer.serialize(value)

        def store_and_look() -> dict[str, bytes]:
            self.storage.results.put(f"{key}:{member.idx}", data, expires=True)
            return dict(self.storage.results.get_many([f"{key}:{index}" for index in range(member.size)]))

        found = self.settler.persist(store_and_look)
        if len(found) == member.size:
            callback = copy.copy(member.callback)
            callback.extend_data(([self.serializer.deserialize(one) for one in found.values()],))
            self._emit(S.SIGNAL_ENQUEUED, callback)
            self.send(self.posted(callback, once=key))

    def pauses(self) -> dict[str, dict[str, Any]]:
        """What is paused → who, when and why: `""`, which is the whole queue, a task, or `schedule:` and a task."""
        return dict(self.storage.pauses.all())


Queues = Mapping[str, Queue]
