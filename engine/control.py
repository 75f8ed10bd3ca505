"""Commands on queues. Who may give them, and the audit line, is the caller's business."""

import inspect
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_type_hints

from huey.api import Result, Task
from huey.utils import Error
from peewee import PeeweeException, Value, fn

from engine import counts, history
from engine.database import database, on_postgresql, release
from engine.delivery import BrokerAway, Effects, event_json
from engine.inspect import Queues, Told, UnknownTask, find, live, parameters, workers
from engine.messages import Asker, Envelope, code_version, find_not_finite
from engine.queues import Queue, RunTask, asked_by
from engine.records import ENDED, Attempt, LogLine, Run, State, now
from engine.why import why

__all__ = [
    "Asker",
    "BadArguments",
    "NoLiveWorker",
    "Paused",
    "UnknownTask",
    "check_can_run",
    "delete",
    "pause",
    "resume",
    "run_again",
    "run_task",
    "wait_for",
]


#: Who waits for a run looks so often whether it has ended without a result.
LOOK_SECONDS = 1.0


class BadArguments(Told, ValueError):
    """Arguments that the task does not take. `field` names the parameter at fault."""

    def __init__(self, sentence: str, field: str, **values: Any) -> None:
        super().__init__(sentence, **values)
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {super().__str__()}"


class Paused(Told):
    """The queue, or the task, is paused. The message says which."""


class NoLiveWorker(Told):
    """Nobody serves the queue. The message names it."""


def run_task(
    queues: Queues,
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    by: Asker,
    eta: datetime | None = None,
    priority: float | None = None,
) -> Result:
    """Enqueue a run of the named task. `eta` is an aware instant. Raises UnknownTask and BadArguments."""
    queue, task_class = find(queues, name)
    arguments = dict(kwargs or {})
    check_arguments(task_class, args, arguments)
    task = task_class(tuple(args), arguments, eta=eta and eta.astimezone(UTC).replace(tzinfo=None), priority=priority)
    with asked_by(by):
        result = queue.enqueue(task)
    write_down_now(queue)
    return result


def check_arguments(task_class: type[RunTask], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    allowed = parameters(task_class)
    signature, name = inspect.Signature(allowed), task_class.__name__
    for given in kwargs:
        if given not in signature.parameters and not any(one.kind == one.VAR_KEYWORD for one in allowed):
            raise unknown_parameter(given, name, signature.parameters)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        missing = [one.name for one in allowed if one.default is one.empty and one.name not in kwargs]
        if len(args) < len(missing):
            raise BadArguments("a value is needed", missing[len(args)]) from error
        raise BadArguments("%(task)s does not take these values", "args", task=name) from error
    hints = get_type_hints(task_class.function)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for field, value in bound.arguments.items():
        if place := find_not_finite(value, field):
            raise BadArguments("must hold finite numbers only: %(place)s", field, place=place)
        if signature.parameters[field].kind in variadic:  # their annotation is that of each value
            continue
        if (wanted := hints.get(field)) in (int, float, str, bool) and not fits(value, wanted):
            raise BadArguments(
                "%(wanted)s is needed, not %(given)s", field, wanted=wanted.__name__, given=type(value).__name__
            )


def unknown_parameter(given: str, task: str, known: Iterable[str]) -> BadArguments:
    """`known`: the parameters that the task, or whatever else was asked, does have."""
    if names := ", ".join(known):
        return BadArguments("%(task)s has no such parameter; it has %(names)s", given, task=task, names=names)
    return BadArguments("%(task)s has no such parameter", given, task=task)


def fits(value: Any, wanted: type) -> bool:
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is wanted


def write_down_now(queue: Queue) -> None:
    """Have the new run on record at once, whether or not a recorder lives. Its message is safe either way."""
    try:
        history.write_down(queue)
    except (PeeweeException, BrokerAway):
        release()


class Outcome(NamedTuple):
    """How a run ended: what is stored as its result, and its error. An error without a stored value has None there."""

    value: Any
    error: str | None


def wait_for(run: Result, seconds: float) -> Outcome | None:
    """The end of a run, waited for at most `seconds`; None when it has not ended by then."""
    until = time.monotonic() + seconds
    while not run.huey.storage.wait_result(run.id, min(max(until - time.monotonic(), 0), LOOK_SECONDS)):
        if error := end_without_result(run):
            return Outcome(None, error)
        if time.monotonic() >= until:
            return None
    value = run.get_raw_result(preserve=True)
    if isinstance(value, Error):
        return Outcome(None, str(value.metadata["error"]))
    return Outcome(value, value.get("error") if isinstance(value, dict) else None)


def end_without_result(run: Result) -> str | None:
    """What the record says of a run that the broker neither has a result of nor is going to run; else None."""
    storage = run.huey.storage
    place = storage.place(run.id)
    if storage.has_data_for_key(run.id) or not (place is None or place.state == "dead"):
        return None
    write_down_now(run.huey)
    try:
        record = Run.get_or_none(Run.id == run.id)
    except PeeweeException:  # then nobody can say
        return None
    if record is None or record.state not in ENDED:  # it was on its way from one place to another
        return None
    return f"it is {record.state}: {record.error}" if record.error else f"it is {record.state}"


def check_can_run(queues: Queues, name: str) -> None:
    """Raises Paused or NoLiveWorker where a run of this task, enqueued now, would only wait."""
    queue, task_class = find(queues, name)
    pauses = queue.pauses()
    if "" in pauses:
        raise Paused("queue %(name)s is paused", name=queue.name)
    if task_class.__name__ in pauses:
        raise Paused("task %(name)s is paused", name=task_class.__name__)
    if not live(workers(), queue.name):
        raise NoLiveWorker("no live worker on %(queue)s", queue=queue.name)


def pause(queue: Queue, *, task: str | None = None, by: Asker, reason: str | None = None) -> None:
    """Hand out nothing more of this queue, or of one of its tasks; what runs goes on.

    What is paused already, and is paused again without a reason, keeps the one it has.
    """
    if reason is None and (task or "") in queue.pauses():
        return
    info = {"by": by.name, "kind": by.kind, "at": now().isoformat(), "reason": reason}
    queue.storage.pause(task or "", info)


def resume(queue: Queue, *, task: str | None = None) -> bool:
    """Returns whether it was paused."""
    return bool(queue.storage.resume(task or ""))


class NotPossible(Told):
    """The run is not in a state in which this can be done. The message says why."""


def not_on_record() -> NotPossible:
    return NotPossible("There is no run of this id on record.")


def cancel(queues: Queues, run_id: str, by: Asker) -> str:
    """`removed`: it will not run. `running`: its task is interrupted, or its worker killed where it does not heed that.

    Raises NotPossible for a run that has ended or is not known.
    """
    for queue in queues.values():
        if (done := queue.storage.cancel(run_id, by.name)) != "unknown":
            write_down_now(queue)
            return str(done)
    if not Run.select().where(Run.id == run_id).exists():
        raise not_on_record()
    raise NotPossible("This run neither waits nor runs.")


def retry(queues: Queues, run_id: str, by: Asker) -> None:
    """Re-queue a run that has ended: its id is kept, its attempts go on, its old result is dropped.

    What is dead goes back with its own message; of others the message is made anew from the record, also of one that
    the broker has lost. Raises NotPossible and UnknownTask.
    """
    run = Run.get_or_none(Run.id == run_id)
    if run is None:
        raise not_on_record()
    if not (run.state in ENDED or is_lost(queues, run)):
        raise NotPossible("Only a run that has ended can be retried.")
    if run.queue in queues and queues[run.queue].storage.requeue_dead(run_id):
        write_down_now(queues[run.queue])
        return
    queue, effects = reopened(queues, run, by)
    queue.send(effects)
    write_down_now(queue)


def reopened(queues: Queues, run: Run, by: Asker) -> tuple[Queue, Effects]:
    """Forget how the run ended; gives its queue, and what is to be sent there. Raises UnknownTask."""
    queue, task_class = find(queues, run.task)
    task = task_class(tuple(run.args or ()), dict(run.kwargs or {}), id=run.id, priority=run.priority)
    asker = Asker(run.asked_by_kind or "code", run.asked_by or "")
    task.envelope = Envelope(asker, now(), code_version(), run.parent_id, run.attempts + 1, task.retries)
    queue.storage.reopen(run.id)
    event = event_json("requeued", run.id, now().timestamp(), by=by.name)
    return queue, queue.posted(task, delivered=run.deliveries).event(event)


def is_lost(queues: Queues, run: Run) -> bool:
    """Whether it has not ended on record, and the broker knows nothing of it."""
    return why(queues, run)[0].kind == "lost"


def run_again(queues: Queues, run_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, by: Asker) -> Result:
    """Enqueue a new run of the same task, with these arguments, whose parent is the old one.

    Raises NotPossible, UnknownTask and BadArguments.
    """
    parent = Run.get_or_none(Run.id == run_id)
    if parent is None:
        raise not_on_record()
    queue, task_class = find(queues, parent.task)
    check_arguments(task_class, args, kwargs)
    task = task_class(tuple(args), dict(kwargs), priority=parent.priority)
    if task.expires:
        task.resolve_expires(queue.utc)
    task.envelope = Envelope(by, now(), code_version(), parent.id, retries=task.retries)
    effects = queue.posted(task)
    unique = queue.unique_name(task) if task.unique else ""
    effects.messages[0] = effects.messages[0]._replace(unique=unique, told=True)
    (new_id,) = queue.send(effects)
    write_down_now(queue)
    return Result(queue, task if new_id == task.id else Task(id=new_id))


def delete(queues: Queues, run_id: str) -> None:
    """Remove a run that has ended from the record, with its attempts and its log; the counts no longer hold it.

    Of a dead one the message goes too. Raises NotPossible.
    """
    if not delete_ended(queues, [run_id]):
        raise NotPossible("Only a run that has ended can be deleted.")


def delete_ended(queues: Queues, run_ids: Sequence[str]) -> set[str]:
    """The same for those of them that have ended. Returns which these were."""
    with database.atomic():
        ended = Run.select().where(Run.id.in_(run_ids) & Run.state.in_(ENDED))
        runs = list(ended.for_update() if on_postgresql() else ended)
        ids = [run.id for run in runs]
        counts.uncount(runs)
        for model in (LogLine, Attempt):
            model.delete().where(model.run_id.in_(ids)).execute()
        Run.delete().where(Run.id.in_(ids)).execute()
    for run in runs:
        if run.state == State.DEAD and run.queue in queues:
            queues[run.queue].storage.discard_dead(run.id)
    return set(ids)


def purge(queue: Queue, by: Asker) -> int:
    """Cancel everything that waits in the queue. Returns how many runs that were."""
    total = 0
    while purged := queue.storage.purge(by.name):
        total += purged
    write_down_now(queue)
    return total


def requeue(queues: Queues, run_id: str) -> None:
    """Give a dead run another chance, with its own message. Raises NotPossible."""
    for queue in queues.values():
        if queue.storage.requeue_dead(run_id):
            write_down_now(queue)
            return
    raise NotPossible("There is no dead run of this id.")


def discard(queues: Queues, run_id: str, by: Asker) -> None:
    """Give up the message of a dead run for good. It stays on record as dead, and says so. Raises NotPossible."""
    queue = next((one for one in queues.values() if one.storage.discard_dead(run_id)), None)
    if queue is None:
        raise NotPossible("There is no dead run of this id.")
    write_down_now(queue)  # that it is dead comes first
    told = Value(f"discarded by {by.name}: ").concat(fn.COALESCE(Run.error, "no reason is on record"))
    Run.update(error=told).where((Run.id == run_id) & (Run.state == State.DEAD)).execute()
