"""Commands on runs. The caller checks the role and writes the audit log."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from huey.api import Result as Result
from huey.api import Task
from huey.utils import Error
from peewee import PeeweeException, Value, fn

from engine.broker.effects import Effects, event_json
from engine.broker.messages import Envelope, Requester
from engine.control.arguments import check_arguments
from engine.database import database, on_postgresql
from engine.exceptions import InvalidMessage, InvalidState, NoLiveWorker, Paused
from engine.history import run_counts
from engine.history.writer import flush_events_now, record_new_run
from engine.models import DISCARDED, ENDED, Attempt, LogLine, Run, State, now
from engine.monitor.consumers import list_consumers, live_consumers
from engine.monitor.diagnosis import diagnose
from engine.monitor.registered_tasks import find_task, task_parameters
from engine.queues.enqueue import requested_by, unique_name
from engine.queues.queue import Queue, Queues
from engine.queues.sealed_arguments import SealedArguments, fill_masks, open_secrets, restore_call
from engine.secret_arguments import Call
from engine.secret_texts import MASK
from engine.version import code_version

#: How often a waiting caller checks for a run that ended without a result.
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
    """Enqueue a run of the named task. `eta` is an aware datetime. Raises UnknownTask and InvalidArguments."""
    queue, task_class = find_task(queues, name)
    arguments = dict(kwargs or {})
    check_arguments(task_class, args, arguments)
    task = task_class(tuple(args), arguments, eta=eta and eta.astimezone(UTC).replace(tzinfo=None), priority=priority)
    with requested_by(by):
        result: Result = queue.enqueue(task)
    if result.id == task.id:  # else a run with the same unique name is waiting or running
        record_new_run(queue, task)
    return result


def find_result(queue: Queue, run_id: str) -> Result:
    """Return the handle of an enqueued run."""
    return Result(queue, Task(id=run_id))


class RunOutcome(NamedTuple):
    """How a run ended. `value` is the stored result, None if the run left only an error."""

    value: Any
    error: str | None


def wait_for_result(run: Result, seconds: float) -> RunOutcome | None:
    until = time.monotonic() + seconds
    while not run.huey.storage.results.wait(run.id, min(max(until - time.monotonic(), 0), POLL_SECONDS)):
        if error := final_state_without_result(run):
            return RunOutcome(None, error)
        if time.monotonic() >= until:
            return None
    try:
        value = run.get_raw_result(preserve=True)
    except InvalidMessage as error:
        return RunOutcome(None, f"its result in the broker is malformed or forged: {error}")
    if isinstance(value, Error):
        return RunOutcome(None, str(value.metadata["error"]))
    return RunOutcome(value, value.get("error") if isinstance(value, dict) else None)


def final_state_without_result(run: Result) -> str | None:
    """Return the recorded end of a run that the broker no longer has. None if the run may still end."""
    storage = run.huey.storage
    place = storage.messages.locate(run.id)
    if storage.results.has(run.id) or not (place is None or place.state == "dead"):
        return None
    flush_events_now(run.huey)
    try:
        record = Run.get_or_none(Run.id == run.id)
    except PeeweeException:  # the outcome is unknown while the database is unavailable
        return None
    if record is None or record.state not in ENDED:  # the run was moving between two places
        return None
    return f"it is {record.state}: {record.error}" if record.error else f"it is {record.state}"


def ensure_runnable(queues: Queues, name: str) -> None:
    """Raise Paused or NoLiveWorker if a run of this task would only wait."""
    queue, task_class = find_task(queues, name)
    pauses = queue.pauses()
    if "" in pauses:
        raise Paused("Queue %(name)s is paused. Resume it with `dewey resume %(name)s`.", name=queue.name)
    if task_class.__name__ in pauses:
        raise Paused("Task %(name)s is paused. Resume it with `dewey tasks resume %(name)s`.", name=task_class.__name__)
    if not live_consumers(list_consumers(), queue.name):
        raise NoLiveWorker("No live worker on queue %(queue)s. Start a consumer of this queue.", queue=queue.name)


def no_such_run() -> InvalidState:
    return InvalidState("No run with this id. The history may have removed it.")


def cancel_run(queues: Queues, run_id: str, by: Requester) -> str:
    """Cancel a run. Returns `removed` (it was waiting) or `running` (it gets interrupted). Raises InvalidState."""
    for queue in queues.values():
        if (outcome := queue.storage.messages.cancel(run_id, by.name)) != "unknown":
            flush_events_now(queue)
            return str(outcome)
    if not Run.select().where(Run.id == run_id).exists():
        raise no_such_run()
    raise InvalidState("Only a waiting or running run can be cancelled.")


def retry_run(queues: Queues, run_id: str, by: Requester) -> None:
    """Re-queue an ended run. Its id is kept, its attempts continue to count, its old result is deleted.

    A dead run keeps its message. For other runs, also those that the broker has lost, the message is rebuilt from the
    history. Raises InvalidState and UnknownTask.
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
    """Delete the broker's record of the run's end. Returns its queue and the effects to send.

    Raises UnknownTask and InvalidState.
    """
    queue, task_class = find_task(queues, run.task)
    args, kwargs = restore_call(recorded_call(run))
    task = task_class(tuple(args), kwargs, id=run.id, priority=run.priority)
    asker = Requester(run.asked_by_kind or "code", run.asked_by or "")
    # A message from before the end of its run counts as settled, also if the clock of the host that ended it is ahead.
    at = max(now(), run.ended_at + timedelta(microseconds=1)) if run.ended_at else now()
    task.envelope = Envelope(asker, at, code_version(), run.parent_id, run.attempts + 1, task.retries)
    queue.storage.messages.clear_finished(run.id)
    event = event_json("requeued", run.id, at.timestamp(), by=by.name, attempt=run.attempts + 1)
    return queue, queue.enqueue_effects(task, delivered=run.deliveries).event(event)


def recorded_call(run: Run) -> Call:
    """Return the arguments of a run with their secret values. Raises InvalidState if these cannot be opened."""
    args, kwargs = run.args or [], run.kwargs or {}
    # The mask may also be an argument of the caller: then there is no row.
    row = SealedArguments.get_or_none(SealedArguments.run == run.id) if MASK in repr((args, kwargs)) else None
    try:
        secrets = open_secrets(row.sealed, run.task, run.id) if row else []
    except InvalidMessage as error:
        raise InvalidState(
            "The secret arguments cannot be opened with this SECRET_KEY. Enqueue a new run with new values."
        ) from error
    return Call(args, kwargs, secrets)


def is_orphaned(queues: Queues, run: Run) -> bool:
    """True if the run is unfinished in the database but missing from the broker."""
    return diagnose(queues, run)[0].kind == "lost"


def run_again(
    queues: Queues, run_id: str, args: Sequence[object], kwargs: Mapping[str, object], *, by: Requester
) -> Result:
    """Enqueue a new run of the same task, with these arguments, whose parent is the old one.

    An argument that is masked in the parent and here has the parent's value.
    Raises InvalidState, UnknownTask and InvalidArguments.
    """
    parent = Run.get_or_none(Run.id == run_id)
    if parent is None:
        raise no_such_run()
    queue, task_class = find_task(queues, parent.task)
    names = [parameter.name for parameter in task_parameters(task_class)]
    args, kwargs = fill_masks(recorded_call(parent), names, args, kwargs)
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
    """Delete an ended run with its attempts, log and message, and subtract its counts. Raises InvalidState."""
    if not delete_ended(queues, [run_id]):
        raise InvalidState("Only a run that has ended can be deleted.")


def delete_ended(queues: Queues, run_ids: Sequence[str]) -> set[str]:
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
    """Re-queue a dead run with its own message. Raises InvalidState."""
    for queue in queues.values():
        if queue.storage.dead_letters.requeue(run_id):
            flush_events_now(queue)
            return
    raise InvalidState("No dead run with this id.")


def discard_dead_run(queues: Queues, run_id: str, by: Requester) -> None:
    """Delete the message of a dead run. The run stays in the history as dead, with a note. Raises InvalidState."""
    queue = next((queue for queue in queues.values() if queue.storage.dead_letters.discard(run_id)), None)
    if queue is None:
        raise InvalidState("No dead run with this id.")
    flush_events_now(queue)  # the event of its death must come first
    error = Value(f"{DISCARDED}{by.name}: ").concat(fn.COALESCE(Run.error, "no reason recorded"))
    Run.update(error=error).where((Run.id == run_id) & (Run.state == State.DEAD)).execute()
