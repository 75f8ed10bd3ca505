"""Commands on schedules: pause, resume, catch up on the newest missed tick."""

from datetime import UTC, datetime

from huey.api import Result

from engine.broker.messages import Requester
from engine.control.runs import run_task
from engine.exceptions import InvalidState
from engine.models import Tick, now
from engine.monitor.registered_tasks import find_task
from engine.queues.queue import Queue, Queues
from engine.queues.ticks import LATE, MISSED, Info, find_pause, pause_key

# --- pauses --------------------------------------------------------------------------------------------------


def pause_schedule(
    queue: Queue, task: str, *, by: Requester, reason: str | None = None, until: datetime | None = None
) -> Info:
    """Enqueue no ticks of this task until `until` (aware) or until it is resumed. Waiting and running runs continue."""
    at = now()
    if until and until <= at:
        raise InvalidState("The end of a pause must be in the future.")
    end = until and until.astimezone(UTC).isoformat()
    info = {"by": by.name, "kind": by.kind, "at": at.isoformat(), "reason": reason, "until": end}
    queue.storage.pauses.put(pause_key(task), info)
    return info


def resume_schedule(queue: Queue, task: str) -> bool:
    was = find_pause(queue.pauses(), task, now())
    queue.storage.pauses.remove(pause_key(task))
    return was is not None


# --- catching up ---------------------------------------------------------------------------------------------


def catch_up(queues: Queues, name: str, by: Requester) -> Result:
    """Enqueue one run for the newest missed tick, which becomes `late`. Raises UnknownTask and InvalidState.

    The tick is claimed first, so that concurrent requests start one run. A crash in between leaves a late tick without
    a run. The other order could start the run twice.
    """
    _, task_class = find_task(queues, name)
    tick = newest_missed_tick(task_class.__name__)
    if tick is None:
        raise InvalidState("This schedule has no missed tick to catch up on.")
    is_tick = (Tick.task == tick.task) & (Tick.due_at == tick.due_at)
    if not Tick.update(state=LATE).where(is_tick & (Tick.state == MISSED)).execute():
        raise InvalidState("Another request is already catching up on this tick.")
    try:
        run = run_task(queues, name, by=by)
    except BaseException:
        Tick.update(state=MISSED).where(is_tick & Tick.run_id.is_null()).execute()
        raise
    Tick.update(run_id=run.id).where(is_tick).execute()
    return run


def newest_missed_tick(task: str) -> Tick | None:
    """Return the missed tick to catch up on. None if a later one is `late`: one run catches up on all before it."""
    states = Tick.state.in_((MISSED, LATE))
    newest = Tick.select().where((Tick.task == task) & states).order_by(Tick.due_at.desc()).first()
    return newest if newest and newest.state == MISSED else None
