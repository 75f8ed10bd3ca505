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
    put(queue, command_key(consumer, what), {"what": what, "consumer": consumer, "by": by, "at": now().isoformat()})


def pending(queue: Queue, consumer: str) -> list[Order]:
    """The orders that the consumer has not taken yet."""
    return parse_orders(queue, consumer, stored_orders(queue, consumer))


def take_commands(queue: Queue, consumer: str) -> list[Order]:
    """Return the orders of a consumer, and delete them with whatever is no order. Called by the consumer itself."""
    stored = stored_orders(queue, consumer)
    for what in stored:
        queue.storage.results.delete(command_key(consumer, what))
    return parse_orders(queue, consumer, stored)


def publish_dump(queue: Queue, consumer: str, stacks: list[Stack]) -> None:
    """Store the stacks of the workers for as long as a result."""
    put(queue, dump_key(consumer), {"at": now().isoformat(), "stacks": [list(stack) for stack in stacks]})


def last_dump(queue: Queue, consumer: str) -> Dump | None:
    data = queue.storage.results.get_many([dump_key(consumer)]).get(dump_key(consumer))
    value = data and read(queue, data)
    if not value:
        return None
    try:
        return Dump(
            datetime.fromisoformat(value["at"]).astimezone(UTC), [parse_stack(*stack) for stack in value["stacks"]]
        )
    except PARSE_ERRORS:
        log_malformed("stack dump", queue.name, consumer)
        return None


def parse_stack(worker: str, pid: int, run_id: str | None, task: str | None, text: str) -> Stack:
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


def command_key(consumer: str, what: What) -> str:
    return f"order:{consumer}:{what}"


def dump_key(consumer: str) -> str:
    return f"dump:{consumer}"


def put(queue: Queue, key: str, value: dict[str, object]) -> None:
    """Store a value, signed like every other one. It expires with the results."""
    queue.storage.results.put(key, queue.serializer.serialize(value), expires=True)


def read(queue: Queue, data: bytes) -> Any:
    """Return a value as JSON has it. None for bytes that are not signed with our key."""
    try:
        return queue.serializer.deserialize(data)
    except PARSE_ERRORS:  # also InvalidMessage
        return None


def stored_orders(queue: Queue, consumer: str) -> dict[What, bytes]:
    """Return what is stored for the consumer, in the order in which it is executed, whatever the bytes are."""
    stored = queue.storage.results.get_many([command_key(consumer, what) for what in What])
    return {what: data for what in What if (data := stored.get(command_key(consumer, what))) is not None}


def parse_orders(queue: Queue, consumer: str, stored: dict[What, bytes]) -> list[Order]:
    return [order for what, data in stored.items() if (order := parse_order(queue, consumer, what, data))]


def parse_order(queue: Queue, consumer: str, what: What, data: bytes) -> Order | None:
    """Return an order. None for a malformed one, which is logged."""
    value = read(queue, data)
    try:
        if not value or (value["what"], value["consumer"]) != (what, consumer):
            return None
        return Order(what, str(value["by"]), datetime.fromisoformat(value["at"]).astimezone(UTC))
    except PARSE_ERRORS:
        log_malformed("order", queue.name, f"{consumer} to {what}")
        return None
