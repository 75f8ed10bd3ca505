"""Enqueuing: calls → signed messages, stored with all that follows from them in one step."""

import hashlib
import inspect
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import orjson
from huey import Huey, chord, group
from huey import signals as S
from huey.api import Result, ResultGroup, Task

from engine.broker.deliveries import Delivery
from engine.broker.effects import Effects, NewMessage, event_json, to_timestamp
from engine.broker.messages import Envelope, MessageBatch, Requester, SignedMessage, find_not_finite
from engine.exceptions import InvalidMessage, NotSerializable
from engine.models import now
from engine.queues.execution import Settlement
from engine.queues.options import check_call
from engine.queues.task import RunTask, RunWrapper, check_due
from engine.version import code_version, host

asker: ContextVar[Requester | None] = ContextVar("asker", default=None)


@contextmanager
def asked_by(who: Requester) -> Iterator[None]:
    """Runs enqueued in this block are recorded as asked for by `who`."""
    token = asker.set(who)
    try:
        yield
    finally:
        asker.reset(token)


class Enqueuing(Huey):
    """The half of a queue that takes in."""

    local: Any  # what is going on in this thread

    @property
    def current(self) -> Settlement | None:
        """The execution going on in this thread."""
        return getattr(self.local, "current", None)

    @property
    def settling(self) -> Settlement | None:
        """The same, once the task's own code has ended."""
        current = self.current
        return None if current is None or current.in_code else current

    def enqueue(self, task: Any) -> Any:
        if isinstance(task, (group, chord)):
            return super().enqueue(task)
        if self._immediate:
            check_call(task)
            return super().enqueue(task)
        return self.enqueue_many([task])[0]

    def enqueue_many(self, tasks: Iterable[RunTask]) -> list[Any]:
        """Enqueue all of these at once; their handles. Of very many some are stored before the others."""
        tasks, effects = list(tasks), Effects()
        for task in tasks:
            if task.expires:
                task.resolve_expires(self.utc)
            self.rename_if_called_before(task)
            self._emit(S.SIGNAL_ENQUEUED, task)
            effects.messages.append(self.message(task))
        ids = self.send(effects)
        return [self.handle_of(task, run_id) for task, run_id in zip(tasks, ids, strict=True)]

    def enqueue_calls(self, wrapper: RunWrapper, calls: Sequence[tuple[Any, ...]]) -> ResultGroup:
        """Enqueue one task with each of these arguments; their handles. Bad arguments are found before one is stored,
        but a broker that dies meanwhile has stored some of them.
        """
        if self._immediate:
            return ResultGroup([self.enqueue(wrapper.s(*arguments)) for arguments in calls])
        if not self.are_alike(wrapper, calls):
            return ResultGroup(self.enqueue_many(wrapper.s(*arguments) for arguments in calls))
        task: RunTask = wrapper.s(*calls[0])
        task.resolve_expires(self.utc)
        letter = SignedMessage(self._registry.create_message(task), self.envelope(task))
        series = MessageBatch(self.serializer, letter, calls)
        if series.has_null:
            for arguments in calls:
                check_finite(task, arguments)
        self.storage.messages.enqueue_batch(series, task.priority or 0)
        return Handles(wrapper, series.ids, calls)

    def are_alike(self, wrapper: RunWrapper, calls: Sequence[tuple[Any, ...]]) -> bool:
        """Nothing is to be asked or said of each of these calls by itself."""
        heard = self._signal.receivers
        return bool(calls) and not (
            wrapper.task_class.unique or self.settling or heard["any"] or heard.get(S.SIGNAL_ENQUEUED)
        )

    def rename_if_called_before(self, task: RunTask) -> None:
        """To Huey the handler of an error is one task, however often its run fails; here each call is a run."""
        settling = self.settling
        handler = settling and settling.attempt > 1 and settling.task.on_error
        if handler and task.id == handler.id:
            task.id = task.create_id()
            task.revoke_id = f"r:{task.id}"

    def handle_of(self, task: RunTask, run_id: str) -> Any:
        if run_id != task.id:  # one of this name waits or runs already
            return Result(self, Task(id=run_id))
        if not self.ready_to_run(task):
            self._emit(S.SIGNAL_SCHEDULED, task)
        results = self._pipeline_results(task)
        return results[0] if len(results) == 1 else ResultGroup(results)

    def add_schedule(self, task: Any) -> None:
        if self._immediate:
            super().add_schedule(task)
            return
        self.send(self.posted(task))
        self._emit(S.SIGNAL_SCHEDULED, task)

    def posted(self, task: RunTask, once: str = "", delivered: int = 0) -> Effects:
        """Its message, as what is to be stored."""
        effects = Effects()
        effects.messages.append(self.message(task, once, delivered))
        return effects

    def message(self, task: RunTask, once: str = "", delivered: int = 0) -> NewMessage:
        """The message of a task, for the queue or for the schedule. One without an envelope is a new run."""
        new = task.envelope is None
        if new:
            check_call(task)
            task.envelope = self.envelope(task)
        due = None if self.ready_to_run(task) else due_of(task)
        data = self.serialize_task(task)
        unique = self.unique_name(task) if new and task.unique else ""
        return NewMessage(task.id, data, task.priority or 0, due, unique, once, delivered, new)

    def unique_name(self, task: RunTask) -> str:
        """The task and its arguments: of runs of the same name, one waits or runs at a time."""
        arguments = orjson.dumps([task.args, task.kwargs], option=orjson.OPT_SORT_KEYS, default=str)
        return f"{task.name}:{hashlib.sha256(arguments).hexdigest()}"

    def envelope(self, task: RunTask) -> Envelope:
        """Says who asks: whoever `asked_by` names, else the run whose task is asking, else code."""
        parent = self.current
        who = asker.get() or (Requester("run", parent.task.id) if parent else Requester("code", host()))
        return Envelope(who, now(), code_version(), parent.task.id if parent else None, retries=task.retries)

    def send(self, effects: Effects) -> list[str]:
        """Store at once; but what Huey sends after a task's code has ended is stored when the run is settled."""
        if self.settling:
            self.settling.effects.merge(effects)
            return [posted.run_id for posted in effects.messages]
        return list(self.storage.messages.write(effects))

    def note(self, task: RunTask, facts: dict[str, Any]) -> None:
        """Add facts to a run's record while it runs."""
        if not self._immediate:
            delivery = getattr(task, "taken", Delivery(task.id, 0, b"")).delivery
            event = event_json("noted", task.id, time.time(), delivery=delivery, **facts)
            self.storage.messages.write(Effects().event(event))

    def serialize_task(self, task: Any) -> bytes:
        if task.envelope is None:
            task.envelope = self.envelope(task)
        letter = SignedMessage(self._registry.create_message(task), task.envelope)
        data = bytes(self.serializer.serialize(letter))
        # The envelope has a null where the run has no parent.
        if data.count(b"null") > (task.envelope.parent_id is None):
            check_all_finite(task)
        return data

    def deserialize_task(self, data: bytes) -> RunTask:
        letter = self.serializer.deserialize(data)
        if not isinstance(letter, SignedMessage):
            raise InvalidMessage("not a message that asks for a run")
        task: RunTask = self._registry.create_task(letter.message)
        task.envelope = letter.envelope
        return task


def due_of(task: RunTask) -> float:
    """Return when a task is due (Unix seconds). Raises ValueError for a time that lies too far ahead."""
    try:
        check_due(task.eta)
    except ValueError as error:
        raise ValueError(f"eta of {task.name}: {error}") from error
    return to_timestamp(task.eta)


def check_all_finite(task: Any) -> None:
    """Raise NotJSON for NaN or infinity among the arguments of a task, or of what follows it."""
    while task is not None:
        check_finite(task, task.args, task.kwargs)
        if task.on_error:
            check_all_finite(task.on_error)
        if task.chord_config:
            check_all_finite(task.chord_config.callback)
        task = task.on_complete


def check_finite(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> None:
    names = [*inspect.signature(task.function).parameters] if hasattr(task, "function") else []
    by_name = {(names[index] if index < len(names) else f"args[{index}]"): value for index, value in enumerate(args)}
    for name, value in (*by_name.items(), *(kwargs or {}).items()):
        if place := find_not_finite(value, name):
            raise NotSerializable(f"{place}: an argument of {task.name} must be a finite number, or text")


class Handles(ResultGroup):
    """The handles of many runs of one task, made when somebody asks for them."""

    def __init__(self, wrapper: RunWrapper, ids: list[str], calls: Sequence[tuple[Any, ...]]) -> None:
        self.wrapper, self.ids, self.calls = wrapper, ids, calls

    @cached_property
    def _results(self) -> list[Result]:
        tasks = (self.wrapper.s(*call, id=run_id) for run_id, call in zip(self.ids, self.calls, strict=True))
        return [Result(self.wrapper.huey, task) for task in tasks]

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<{len(self.ids):,} runs of {self.wrapper.task_class.__name__}>"
