"""Commands on schedules: pause, resume, run once for the newest missed tick."""

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
    """Let no tick of this task in until `until` (aware), or until somebody resumes it. What waits or runs goes on."""
    at = now()
    if until and until <= at:
        raise InvalidState("The end of a pause lies in the future.")
    end = until and until.astimezone(UTC).isoformat()
    info = {"by": by.name, "kind": by.kind, "at": at.isoformat(), "reason": reason, "until": end}
    queue.storage.pauses.put(pause_key(task), info)
    return info


def resume_schedule(queue: Queue, task: str) -> bool:
    """Returns whether it was paused."""
    was = find_pause(queue.pauses(), task, now())
    queue.storage.pauses.remove(pause_key(task))
    return was is not None


# --- catching up ---------------------------------------------------------------------------------------------


def catch_up(queues: Queues, name: str, by: Requester) -> Result:
    """Enqueue one run for the newest missed tick, which is `late` from then on. Raises UnknownTask and InvalidState.

    The tick is claimed first, so that two who ask at once make one run. Who dies in between leaves a late tick without
    a run; the other order would leave one that is made up for twice.
    """
    _, task_class = find_task(queues, name)
    tick = newest_missed_tick(task_class.__name__)
    if tick is None:
        raise InvalidState("No tick of this schedule was missed, or the last one has been made up for.")
    is_tick = (Tick.task == tick.task) & (Tick.due_at == tick.due_at)
    if not Tick.update(state=LATE).where(is_tick & (Tick.state == MISSED)).execute():
        raise InvalidState("Somebody else is making up for this tick.")
    try:
        run = run_task(queues, name, by=by)
    except BaseException:
        Tick.update(state=MISSED).where(is_tick & Tick.run_id.is_null()).execute()
        raise
    Tick.update(run_id=run.id).where(is_tick).execute()
    return run


def newest_missed_tick(task: str) -> Tick | None:
    """The missed tick to make up for: one run makes up for all before it, so none where a later one is `late`."""
    states = Tick.state.in_((MISSED, LATE))
    newest = Tick.select().where((Tick.task == task) & states).order_by(Tick.due_at.desc()).first()
    return newest if newest and newest.state == MISSED else None
