"""The commands of `engine.control.runs` for a batch of runs.

Each returns reasons by run id, for the runs that were refused or got STOP_REQUESTED. A batch takes one step per
broker, and its events are written to the history once.
"""

from collections import defaultdict
from collections.abc import Sequence

from engine.broker.effects import Effects
from engine.broker.messages import Requester
from engine.control import runs as run_control
from engine.exceptions import InvalidState, UnknownTask
from engine.history import writer
from engine.models import ENDED, Run
from engine.queues.queue import Queues

#: Reasons, as they are stored.
STOP_REQUESTED = "asked to stop"  # accepted, but the run may end in another way first
NOT_ENDED, NOT_PENDING, NOT_ON_RECORD, UNKNOWN_TASK = "not ended", "not pending", "not on record", "unknown task"
SEALED = "secrets cannot be opened"


def retry_runs(queues: Queues, run_ids: Sequence[str], by: Requester) -> dict[str, str]:
    runs = {run.id: run for run in Run.select().where(Run.id.in_(run_ids))}
    refused = {run_id: NOT_ON_RECORD for run_id in run_ids if run_id not in runs}
    to_send: dict[str, Effects] = defaultdict(Effects)
    for run in runs.values():
        if reason := retry_one(queues, run, by, to_send):
            refused[run.id] = reason
    for name, effects in to_send.items():
        queues[name].submit(effects)
    flush_events(queues)
    return refused


def retry_one(queues: Queues, run: Run, by: Requester, to_send: dict[str, Effects]) -> str | None:
    """Re-queue a dead run with its own message, or add the effects for another run to `to_send`. Return the refusal."""
    if run.state not in ENDED and not run_control.is_orphaned(queues, run):
        return NOT_ENDED
    if run.queue in queues and queues[run.queue].storage.dead_letters.requeue(run.id):
        return None
    try:
        queue, effects = run_control.requeue_effects(queues, run, by)
    except UnknownTask:
        return UNKNOWN_TASK
    except InvalidState:
        return SEALED
    to_send[queue.name].merge(effects)
    return None


def cancel_runs(queues: Queues, run_ids: Sequence[str], by: Requester) -> dict[str, str]:
    recorded = {run.id: run.queue for run in Run.select(Run.id, Run.queue).where(Run.id.in_(run_ids))}
    reasons = {}
    for run_id in run_ids:
        likely_first = sorted(queues.values(), key=lambda queue: queue.name != recorded.get(run_id))
        answers = (queue.storage.messages.cancel(run_id, by.name) for queue in likely_first)
        answer = next((answer for answer in answers if answer != "unknown"), "unknown")
        if reason := {"unknown": NOT_PENDING, "running": STOP_REQUESTED}.get(answer):
            reasons[run_id] = reason
    flush_events(queues)
    return reasons


def delete_runs(queues: Queues, run_ids: Sequence[str], by: Requester) -> dict[str, str]:
    deleted = run_control.delete_ended(queues, run_ids)
    rest = [run_id for run_id in run_ids if run_id not in deleted]
    recorded = {run.id for run in Run.select(Run.id).where(Run.id.in_(rest))}
    return {run_id: NOT_ENDED if run_id in recorded else NOT_ON_RECORD for run_id in rest}


def flush_events(queues: Queues) -> None:
    for queue in queues.values():
        writer.flush_events_now(queue)
