"""Enqueuer: turns tasks into signed messages, and stores each with all its effects in one step."""

import hashlib
import hmac
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property

import orjson
from huey import signals as S
from huey.api import Result, ResultGroup, Task

from engine.broker.effects import Effects, NewMessage, to_timestamp
from engine.broker.messages import Envelope, MessageBatch, Requester, SignedMessage, find_not_finite
from engine.exceptions import NotSerializable
from engine.keys import derive_keys
from engine.models import now
from engine.queues.interfaces import TaskQueue
from engine.queues.options import check_call
from engine.queues.sealed_arguments import PURPOSE, Sealed, open_message, seal_message
from engine.queues.task import QueueTask, TaskWrapper, check_due
from engine.secret_arguments import SecretParameters, split_call
from engine.version import code_version, host_name

_requester: ContextVar[Requester | None] = ContextVar("requester", default=None)


@contextmanager
def requested_by(requester: Requester) -> Iterator[None]:
    token = _requester.set(requester)
    try:
        yield
    finally:
        _requester.reset(token)


class Enqueuer:
    def __init__(self, queue: TaskQueue) -> None:
        self.queue, self.state = queue, queue.state

    def enqueue_many(self, tasks: Iterable[QueueTask]) -> list[Result | ResultGroup]:
        tasks, effects = list(tasks), Effects()
        for task in tasks:
            if task.expires:
                task.resolve_expires(self.queue.utc)
            self.ensure_unique_handler_id(task)
            self.queue._emit(S.SIGNAL_ENQUEUED, task)
            effects.messages.append(self.message(task))
        run_ids = self.submit(effects)
        return [self.result_for(task, run_id) for task, run_id in zip(tasks, run_ids, strict=True)]

    def enqueue_calls(self, wrapper: TaskWrapper, calls: Sequence[tuple[object, ...]]) -> ResultGroup:
        """Enqueue one task with each of these arguments, checked first. A broker failure leaves some stored."""
        if not self.can_batch(wrapper, calls):
            return ResultGroup(self.enqueue_many(wrapper.s(*arguments) for arguments in calls))
        task: QueueTask = wrapper.s(*calls[0])
        task.resolve_expires(self.queue.utc)
        letter = SignedMessage(self.queue._registry.create_message(task), self.envelope(task))
        series = MessageBatch(self.queue.serializer, self.queue.name, letter, calls)
        if series.has_null:
            for arguments in calls:
                check_finite(task, arguments)
        self.queue.storage.messages.enqueue_batch(series, task.priority or 0)
        return LazyResultGroup(wrapper, series.ids, calls)

    def can_batch(self, wrapper: TaskWrapper, calls: Sequence[tuple[object, ...]]) -> bool:
        """Return True if no call needs individual handling: uniqueness, signals, settling with another run, secrets."""
        receivers, task = self.queue._signal.receivers, wrapper.task_class
        return bool(calls) and not (
            task.unique
            or self.state.settling
            or receivers["any"]
            or receivers.get(S.SIGNAL_ENQUEUED)
            or any(split_call(call, {}, task.secret_parameters).secrets for call in calls)
        )

    def ensure_unique_handler_id(self, task: QueueTask) -> None:
        """Give each call of an error handler its own id and run. Huey reuses one object for all failures."""
        settling = self.state.settling
        handler = settling and settling.attempt > 1 and settling.task.on_error
        if handler and task.id == handler.id:
            task.id = task.create_id()
            task.revoke_id = f"r:{task.id}"

    def result_for(self, task: QueueTask, run_id: str) -> Result | ResultGroup:
        """Return the result of a stored task. `run_id` differs if a unique run is already waiting or running."""
        if run_id != task.id:
            return Result(self.queue, Task(id=run_id))
        if not self.queue.ready_to_run(task):
            self.queue._emit(S.SIGNAL_SCHEDULED, task)
        results = self.queue._pipeline_results(task)
        return results[0] if len(results) == 1 else ResultGroup(results)

    def schedule(self, task: QueueTask) -> None:
        self.submit(self.enqueue_effects(task))
        self.queue._emit(S.SIGNAL_SCHEDULED, task)

    def enqueue_effects(self, task: QueueTask, once: str = "", delivered: int = 0) -> Effects:
        effects = Effects()
        effects.messages.append(self.message(task, once, delivered))
        return effects

    def message(self, task: QueueTask, once: str = "", delivered: int = 0) -> NewMessage:
        """Build the message of a task, for the queue or the schedule. A task without an envelope is a new run."""
        new = task.envelope is None
        if new:
            check_call(task)
            task.envelope = self.envelope(task)
        due = None if self.queue.ready_to_run(task) else resolve_due(task)
        data = self.queue.serialize_task(task)
        unique = unique_name(task) if new and task.unique else ""
        return NewMessage(task.id, data, task.priority or 0, due, unique, once, delivered, new)

    def envelope(self, task: QueueTask) -> Envelope:
        """Build a new run's envelope. Requester: `requested_by`, else the enqueuing run, else code."""
        parent = self.state.current
        requester = _requester.get() or (Requester("run", parent.task.id) if parent else Requester("code", host_name()))
        return Envelope(requester, now(), code_version(), parent.task.id if parent else None, retries=task.retries)

    def submit(self, effects: Effects) -> list[str]:
        """Store effects and return run ids. Those added after a task's code are stored when the run is settled."""
        if settling := self.state.settling:
            settling.effects.merge(effects)
            return [posted.run_id for posted in effects.messages]
        return list(self.queue.storage.messages.write(effects))

    # --- tasks ↔ bytes -------------------------------------------------------------------------------------------

    def serialize_task(self, task: QueueTask) -> bytes:
        """Return the signed message of a task. Raises NotSerializable for NaN and infinity among its arguments."""
        if task.envelope is None:
            task.envelope = self.envelope(task)
        sealed: Sealed = {}
        message = seal_message(self.queue._registry.create_message(task), self.secret_parameters, sealed)
        letter = SignedMessage(message, task.envelope, sealed)
        data = self.queue.serializer.serialize_message(self.queue.name, letter)
        # The envelope has a null if the run has no parent.
        if sealed or data.count(b"null") > (task.envelope.parent_id is None):
            check_all_finite(task)
        return data

    def deserialize_task(self, data: bytes) -> QueueTask:
        """Return the task of a message. Raises InvalidMessage or NotRegistered."""
        letter = self.queue.serializer.deserialize_message(self.queue.name, data)
        message, secrets = open_message(letter.message, letter.sealed) if letter.sealed else (letter.message, [])
        task: QueueTask = self.queue._registry.create_task(message)
        task.envelope, task.secrets = letter.envelope, secrets
        return task

    def secret_parameters(self, name: str) -> SecretParameters:
        """Return the secret parameters of a registered task."""
        parameters: SecretParameters = self.queue._registry.string_to_task(name).secret_parameters
        return parameters


def unique_name(task: QueueTask) -> str:
    """Return the unique name of a task with its arguments. Only one run per name may wait or run at a time.

    The name of a call with secrets is keyed, so that a short secret cannot be guessed from it.
    """
    arguments = orjson.dumps([task.args, task.kwargs], option=orjson.OPT_SORT_KEYS, default=str)
    if split_call(task.args, task.kwargs, task.secret_parameters).secrets:
        return f"{task.name}:{hmac.digest(derive_keys(PURPOSE)[0], arguments, 'sha256').hex()}"
    return f"{task.name}:{hashlib.sha256(arguments).hexdigest()}"


def resolve_due(task: QueueTask) -> float:
    """Return when a task is due (Unix seconds). Raises ValueError for a time too far ahead."""
    try:
        check_due(task.eta)
    except ValueError as error:
        raise ValueError(f"eta of {task.name}: {error}") from error
    return to_timestamp(task.eta)


def check_all_finite(task: Task) -> None:
    """Raise NotSerializable for NaN or infinity among the arguments of a task or its followers."""
    while task is not None:
        check_finite(task, task.args, task.kwargs)
        if task.on_error:
            check_all_finite(task.on_error)
        if task.chord_config:
            check_all_finite(task.chord_config.callback)
        task = task.on_complete


def check_finite(task: Task, args: Sequence[object], kwargs: Mapping[str, object] | None = None) -> None:
    """Raise NotSerializable, which names the argument, for NaN or infinity among these arguments."""
    names = [*inspect.signature(task.function).parameters] if hasattr(task, "function") else []
    by_name = {(names[index] if index < len(names) else f"args[{index}]"): value for index, value in enumerate(args)}
    for name, value in (*by_name.items(), *(kwargs or {}).items()):
        if place := find_not_finite(value, name):
            raise NotSerializable(f"{place}: an argument of {task.name} must be a finite number, or text")


class LazyResultGroup(ResultGroup):
    def __init__(self, wrapper: TaskWrapper, ids: list[str], calls: Sequence[tuple[object, ...]]) -> None:
        self.wrapper, self.ids, self.calls = wrapper, ids, calls

    @cached_property
    def _results(self) -> list[Result]:
        tasks = (self.wrapper.s(*call, id=run_id) for run_id, call in zip(self.ids, self.calls, strict=True))
        return [Result(self.wrapper.huey, task) for task in tasks]

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<{len(self.ids):,} runs of {self.wrapper.task_class.__name__}>"
