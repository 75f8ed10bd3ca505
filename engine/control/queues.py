"""Commands on a queue: pause, resume, purge. The caller checks the role and writes the audit log."""

from engine.broker.messages import Requester
from engine.history.writer import flush_events_now
from engine.models import now
from engine.queues.queue import Queue


def pause_queue(queue: Queue, *, task: str | None = None, by: Requester, reason: str | None = None) -> None:
    """Start no more runs of this queue or task. A second pause without a reason keeps the first reason."""
    if reason is None and (task or "") in queue.pauses():
        return
    info = {"by": by.name, "kind": by.kind, "at": now().isoformat(), "reason": reason}
    queue.storage.pauses.put(task or "", info)


def resume_queue(queue: Queue, *, task: str | None = None) -> bool:
    return bool(queue.storage.pauses.remove(task or ""))


def purge_queue(queue: Queue, by: Requester) -> int:
    total = 0
    while purged := queue.storage.messages.purge(by.name):
        total += purged
    flush_events_now(queue)
    return total
