"""Audit entries of refused calls: the first one at once, further equal ones of a minute as one entry with their count.

Entries are never changed, so the count is written when the minute has ended. Until then this process keeps it.
"""

import logging
import threading
import time
from dataclasses import dataclass

from admin import audit_log
from admin.auth.identity import Actor
from engine.outages import DATABASE_ERRORS

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60


@dataclass
class Repeats:
    """Refusals of one actor and call after the first one, until `ends_at` (monotonic)."""

    actor: Actor
    call: str
    needed: str
    ends_at: float
    count: int = 0


#: By kind and name of the actor, and call.
windows: dict[tuple[str, str, str], Repeats] = {}
lock = threading.Lock()


def record_refusal(actor: Actor, call: str, needed: str, target: str) -> None:
    """Write an entry about `target`, or only count it if this actor had the same call refused within a minute.

    `call`: an action, or a method and the rule of an address.
    """
    write_counts()
    key = (actor.kind, actor.name, call)
    with lock:
        if repeats := windows.get(key):
            repeats.count += 1
            return
        windows[key] = Repeats(actor, call, needed, time.monotonic() + WINDOW_SECONDS)
    try:
        audit_log.write_entry(actor, "denied", target=target[:200], after={"needed": needed, "role": actor.role})
    except DATABASE_ERRORS:
        with lock:
            windows.pop(key, None)
        raise


def write_counts(of_all: bool = False) -> None:
    """Write the counts of ended windows, or of all."""
    for repeats in take_windows(time.monotonic(), of_all):
        after = {"needed": repeats.needed, "role": repeats.actor.role, "times": repeats.count}
        try:
            audit_log.write_entry(repeats.actor, "denied", target=repeats.call, after=after)
        except DATABASE_ERRORS as error:
            name, call = repeats.actor.name, repeats.call
            logger.error("%d refusals of %r to %s are missing in the audit log: %s", repeats.count, call, name, error)


def take_windows(as_of: float, of_all: bool) -> list[Repeats]:
    """Remove windows, and return those with repeats."""
    with lock:
        ended = [key for key, repeats in windows.items() if of_all or repeats.ends_at <= as_of]
        return [repeats for key in ended if (repeats := windows.pop(key)).count]
