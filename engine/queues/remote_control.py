"""Orders to a consumer: quiet, wake, stop, restart, dump. They are left with the broker, so they reach every host.

The consumer's parent looks for its own twice a second and takes them away. What is ordered of a consumer that is gone
is forgotten with the results.
"""

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from engine.broker.parsing import PARSE_ERRORS, log_malformed
from engine.models import now
from engine.queues.queue import Queue


class What(StrEnum):
    """In the order in which they are carried out: who is to stop is not restarted."""

    DUMP = "dump"
    QUIET = "quiet"
    WAKE = "wake"
    STOP = "stop"
    RESTART = "restart"


class Order(NamedTuple):
    what: What
    by: str
    at: datetime


class Stack(NamedTuple):
    """Where one worker was: Python's own words, the innermost frame last. Empty text where it did not answer."""

    worker: str
    pid: int
    run_id: str | None
    task: str | None
    text: str


class Dump(NamedTuple):
    """Where the workers of a consumer were at one instant."""

    at: datetime
    stacks: list[Stack]


def give(queue: Queue, consumer: str, what: What, by: str) -> None:
    """Leave an order for a consumer of this queue."""
    order = {"what": what, "consumer": consumer, "by": by, "at": now().isoformat()}
    put(queue, key_of(consumer, what), order)


def pending(queue: Queue, consumer: str) -> list[Order]:
    """The orders that the consumer has not taken yet."""
    orders = [order_of(queue, consumer, what, data) for what, data in left(queue, consumer).items()]
    return list(filter(None, orders))


def left(queue: Queue, consumer: str) -> dict[What, bytes]:
    """What has been left for the consumer, in the order in which it is carried out, whatever it is."""
    found = queue.storage.results.get_many([key_of(consumer, what) for what in What])
    return {what: data for what in What if (data := found.get(key_of(consumer, what))) is not None}


def take(queue: Queue, consumer: str) -> list[Order]:
    """The same, taken away with whatever is no order: for the consumer itself."""
    found = left(queue, consumer)
    for what in found:
        queue.storage.results.delete(key_of(consumer, what))
    return list(filter(None, (order_of(queue, consumer, what, data) for what, data in found.items())))


def answer(queue: Queue, consumer: str, stacks: list[Stack]) -> None:
    """What became of the order to dump; it is kept for as long as a result."""
    put(queue, dump_key(consumer), {"at": now().isoformat(), "stacks": [list(one) for one in stacks]})


def last_dump(queue: Queue, consumer: str) -> Dump | None:
    data = queue.storage.results.get_many([dump_key(consumer)]).get(dump_key(consumer))
    value = data and read(queue, data)
    if not value:
        return None
    try:
        return Dump(datetime.fromisoformat(value["at"]).astimezone(UTC), [stack_of(*one) for one in value["stacks"]])
    except PARSE_ERRORS:
        log_malformed("stack dump", queue.name, consumer)
        return None


def stack_of(worker: str, pid: int, run_id: str | None, task: str | None, text: str) -> Stack:
    return Stack(str(worker), int(pid), run_id and str(run_id), task and str(task), str(text))


def wait_for_dump(queue: Queue, consumer: str, since: datetime, seconds: float) -> Dump | None:
    """The dump that was made after `since`, waited for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        dump = last_dump(queue, consumer)
        if dump and dump.at >= since:
            return dump
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.1)


# --- values at the broker ------------------------------------------------------------------------------------


def key_of(consumer: str, what: What) -> str:
    return f"order:{consumer}:{what}"


def dump_key(consumer: str) -> str:
    return f"dump:{consumer}"


def put(queue: Queue, key: str, value: dict[str, Any]) -> None:
    """Signed like every other value, and gone with the results."""
    queue.storage.results.put(key, queue.serializer.serialize(value), expires=True)


def read(queue: Queue, data: bytes) -> Any:
    """None for what is not signed with our key: nobody else gives orders."""
    try:
        return queue.serializer.deserialize(data)
    except PARSE_ERRORS:  # also InvalidMessage
        return None


def order_of(queue: Queue, consumer: str, what: What, data: bytes) -> Order | None:
    value = read(queue, data)
    try:
        if not value or (value["what"], value["consumer"]) != (what, consumer):
            return None
        return Order(what, str(value["by"]), datetime.fromisoformat(value["at"]).astimezone(UTC))
    except PARSE_ERRORS:
        log_malformed("order", queue.name, f"{consumer} to {what}")
        return None
