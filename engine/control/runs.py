"""Commands on runs. Roles and the audit are the caller's business."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from huey.api import Result as Result
from huey.api import Task
from huey.utils import Error
from peewee import PeeweeException, Value, fn

from engine.broker.effects import Effects, event_json
from engine.broker.messages import Envelope, Requester
from engine.control.arguments import check_arguments
from engine.database import database, on_postgresql
from engine.exceptions import InvalidState, NoLiveWorker, Paused
from engine.history import run_counts
from engine.history.writer import flush_events_now, record_new_run
from engine.models import ENDED, Attempt, LogLine, Run, State, now
from engine.monitor.consumers import list_consumers, live_consumers
from engine.monitor.diagnosis import diagnose
from engine.monitor.registered_tasks import find_task
from engine.queues.enqueue import requested_by, unique_name
from engine.queues.queue import Queue, Queues
from engine.version import code_version

#: Who waits for a run looks so often whether it has ended without a result.
POLL_SECONDS = 1.0


def run_task(
    queues: Queues,
    name: str,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    *,
    by: Requester,
    eta: datetime | None = None,
    priority: float | None = None,
) -> Result:
    """Enqueue a run of the named task. `eta` is an aware instant. Raises UnknownTask and InvalidArguments."""
    queue, task_class = find_task(queues, name)
    arguments = dict(kwargs or {})
    check_arguments(task_class, args, arguments)
    task = task_class(tuple(args), arguments, eta=eta and eta.astimezone(UTC).replace(tzinfo=None), priority=priority)
    with requested_by(by):
        result: Result = queue.enqueue(task)
    if result.id == task.id:  # else one of this name waits or runs already
        record_new_run(queue, task)
    return result


class RunOutcome(NamedTuple):
    """How a run ended: what is stored as its result, and its error. An error without a stored value has None there."""

    value: Any
    error: str | None


def wait_for_result(run: Result, seconds: float) -> RunOutcome | None:
    """The end of a run, waited for at most `seconds`; None when it has not ended by then."""
    until = time.monotonic() + seconds
    while not run.huey.storage.results.wait(run.id, min(max(until - time.monotonic(), 0), POLL_SECONDS)):
        if error := final_state_without_result(run):
            return RunOutcome(None, error)
        if time.monotonic() >= until:
            return None
    value = run.get_raw_result(preserve=True)
    if isinstance(value, Error):
        return RunOutcome(None, str(value.metadata["error"]))
    return RunOutcome(value, value.get("error") if isinstance(value, dict) else None)


def final_state_without_result(run: Result) -> str | None:
    """What the record says of a run that the broker neither has a result of nor is going to run; else None."""
    storage = run.huey.storage
    place = storage.messages.locate(run.id)
    if storage.results.has(run.id) or not (place is None or place.state == "dead"):
        return None
    flush_events_now(run.huey)
    try:
        record = Run.get_or_none(Run.id == run.id)
    except PeeweeException:  # then nobody can say
        return None
    if record is None or record.state not in ENDED:  # it was on its way from one place to another
        return None
    return f"it is {record.state}: {record.error}" if record.error else f"it is {record.state}"


def ensure_runnable(queues: Queues, name: str) -> None:
    """Raises Paused or NoLiveWorker where a run of this task, enqueued now, would only wait."""
    queue, task_class = find_task(queues, name)
    pauses = queue.pauses()
    if "" in pauses:
        raise Paused("queue %(name)s is paused", name=queue.name)
    if task_class.__name__ in pauses:
        raise Paused("task %(name)s is paused", name=task_class.__name__)
    if not live_consumers(list_consumers(), queue.name):
        raise NoLiveWorker("no live worker on %(queue)s", queue=queue.name)


def no_such_run() -> InvalidState:
    return InvalidState("There is no run of this id on record.")


def cancel_run(queues: Queues, run_id: str, by: Requester) -> str:
    """`removed`: it will not run. `running`: its task is interrupted, or its worker killed where it does not heed that.

    Raises InvalidState for a run that has ended or is not known.
    """
    for queue in queues.values():
        if (outcome := queue.storage.messages.cancel(run_id, by.name)) != "unknown":
            flush_events_now(queue)
            return str(outcome)
    if not Run.select().where(Run.id == run_id).exists():
        raise no_such_run()
    raise InvalidState("This run neither waits nor runs.")


def retry_run(queues: Queues, run_id: str, by: Requester) -> None:
    """Re-queue a run that has ended: its id is kept, its attempts go on, its old result is dropped.

    What is dead goes back with its own message; of others the message is made anew from the record, also of one that
    the broker has lost. Raises InvalidState and UnknownTask.
    """
    run = Run.get_or_none(Run.id == run_id)
    if run is None:
        raise no_such_run()
    if not (run.state in ENDED or is_orphaned(queues, run)):
        raise InvalidState("Only a run that has ended can be retried.")
    if run.queue in queues and queues[run.queue].storage.dead_letters.requeue(run_id):
        flush_events_now(queues[run.queue])
        return
    queue, effects = requeue_effects(queues, run, by)
    queue.submit(effects)
    flush_events_now(queue)


def requeue_effects(queues: Queues, run: Run, by: Requester) -> tuple[Queue, Effects]:
    """Forget how the run ended; gives its queue, and what is to be sent there. Raises UnknownTask."""
    queue, task_class = find_task(queues, run.task)
    task = task_class(tuple(run.args or ()), dict(run.kwargs or {}), id=run.id, priority=run.priority)
    asker = Requester(run.asked_by_kind or "code", run.asked_by or "")
    task.envelope = Envelope(asker, now(), code_version(), run.parent_id, run.attempts + 1, task.retries)
    queue.storage.messages.clear_finished(run.id)
    event = event_json("requeued", run.id, now().timestamp(), by=by.name)
    return queue, queue.enqueue_effects(task, delivered=run.deliveries).event(event)


def is_orphaned(queues: Queues, run: Run) -> bool:
    """Whether it has not ended on record, and the broker knows nothing of it."""
    return diagnose(queues, run)[0].kind == "lost"


def run_again(
    queues: Queues, run_id: str, args: Sequence[object], kwargs: Mapping[str, object], *, by: Requester
) -> Result:
    """Enqueue a new run of the same task, with these arguments, whose parent is the old one.

    Raises InvalidState, UnknownTask and InvalidArguments.
    """
    parent = Run.get_or_none(Run.id == run_id)
    if parent is None:
        raise no_such_run()
    queue, task_class = find_task(queues, parent.task)
    check_arguments(task_class, args, kwargs)
    task = task_class(tuple(args), dict(kwargs), priority=parent.priority)
    if task.expires:
        task.resolve_expires(queue.utc)
    task.envelope = Envelope(by, now(), code_version(), parent.id, retries=task.retries)
    effects = queue.enqueue_effects(task)
    unique = unique_name(task) if task.unique else ""
    effects.messages[0] = effects.messages[0]._replace(unique=unique, is_new_run=True)
    (new_id,) = queue.submit(effects)
    if new_id != task.id:
        return Result(queue, Task(id=new_id))
    record_new_run(queue, task)
    return Result(queue, task)


def delete_run(queues: Queues, run_id: str) -> None:
    """Remove a run that has ended from the record, with its attempts and its log; the counts no longer hold it.

    Of a dead one the message goes too. Raises InvalidState.
    """
    if not delete_ended(queues, [run_id]):
        raise InvalidState("Only a run that has ended can be deleted.")


def delete_ended(queues: Queues, run_ids: Sequence[str]) -> set[str]:
    """The same for those of them that have ended. Returns which these were."""
    with database.atomic():
        ended = Run.select().where(Run.id.in_(run_ids) & Run.state.in_(ENDED))
        runs = list(ended.for_update() if on_postgresql() else ended)
        ids = [run.id for run in runs]
        run_counts.decrement(runs)
        for model in (LogLine, Attempt):
            model.delete().where(model.run_id.in_(ids)).execute()
        Run.delete().where(Run.id.in_(ids)).execute()
    for run in runs:
        if run.state == State.DEAD and run.queue in queues:
            queues[run.queue].storage.dead_letters.discard(run.id)
    return set(ids)


def requeue_dead_run(queues: Queues, run_id: str) -> None:
    """Give a dead run another chance, with its own message. Raises InvalidState."""
    for queue in queues.values():
        if queue.storage.dead_letters.requeue(run_id):
            flush_events_now(queue)
            return
    raise InvalidState("There is no dead run of this id.")


def discard_dead_run(queues: Queues, run_id: str, by: Requester) -> None:
    """Give up the message of a dead run for good. It stays on record as dead, and says so. Raises InvalidState."""
    queue = next((queue for queue in queues.values() if queue.storage.dead_letters.discard(run_id)), None)
    if queue is None:
        raise InvalidState("There is no dead run of this id.")
    flush_events_now(queue)  # that it is dead comes first
    error = Value(f"discarded by {by.name}: ").concat(fn.COALESCE(Run.error, "no reason is on record"))
    Run.update(error=error).where((Run.id == run_id) & (Run.state == State.DEAD)).execute()
