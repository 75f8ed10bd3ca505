"""Commands on a queue: pause, resume, purge. Roles and the audit are the caller's business."""

from engine.broker.messages import Requester
from engine.history.writer import flush_events_now
from engine.models import now
from engine.queues.queue import Queue


def pause_queue(queue: Queue, *, task: str | None = None, by: Requester, reason: str | None = None) -> None:
    """Hand out nothing more of this queue, or of one of its tasks; what runs goes on.

    What is paused already, and is paused again without a reason, keeps the one it has.
    """
    if reason is None and (task or "") in queue.pauses():
        return
    info = {"by": by.name, "kind": by.kind, "at": now().isoformat(), "reason": reason}
    queue.storage.pauses.put(task or "", info)


def resume_queue(queue: Queue, *, task: str | None = None) -> bool:
    """Returns whether it was paused."""
    return bool(queue.storage.pauses.remove(task or ""))


def purge_queue(queue: Queue, by: Requester) -> int:
    """Cancel everything that waits in the queue. Returns how many runs that were."""
    total = 0
    while purged := queue.storage.messages.purge(by.name):
        total += purged
    flush_events_now(queue)
    return total
