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


class Command(StrEnum):
    """In the order in which they are carried out: who is to stop is not restarted."""

    DUMP = "dump"
    QUIET = "quiet"
    WAKE = "wake"
    STOP = "stop"
    RESTART = "restart"


class CommandRequest(NamedTuple):
    what: Command
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


def send_command(queue: Queue, consumer: str, what: Command, by: str) -> None:
    """Leave an order for a consumer of this queue."""
    store_signed(
        queue, command_key(consumer, what), {"what": what, "consumer": consumer, "by": by, "at": now().isoformat()}
    )


def pending_commands(queue: Queue, consumer: str) -> list[CommandRequest]:
    """The orders that the consumer has not taken yet."""
    return parse_commands(queue, consumer, stored_commands(queue, consumer))


def take_commands(queue: Queue, consumer: str) -> list[CommandRequest]:
    """Return the orders of a consumer, and delete them with whatever is no order. Called by the consumer itself."""
    stored = stored_commands(queue, consumer)
    for what in stored:
        queue.storage.results.delete(command_key(consumer, what))
    return parse_commands(queue, consumer, stored)


def publish_dump(queue: Queue, consumer: str, stacks: list[Stack]) -> None:
    """Store the stacks of the workers for as long as a result."""
    store_signed(queue, dump_key(consumer), {"at": now().isoformat(), "stacks": [list(stack) for stack in stacks]})


def latest_dump(queue: Queue, consumer: str) -> Dump | None:
    data = queue.storage.results.get_many([dump_key(consumer)]).get(dump_key(consumer))
    value = data and read_signed(queue, data)
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
        dump = latest_dump(queue, consumer)
        if dump and dump.at >= since:
            return dump
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.1)


# --- values at the broker ------------------------------------------------------------------------------------


def command_key(consumer: str, what: Command) -> str:
    return f"order:{consumer}:{what}"


def dump_key(consumer: str) -> str:
    return f"dump:{consumer}"


def store_signed(queue: Queue, key: str, value: dict[str, object]) -> None:
    """Store a value, signed like every other one. It expires with the results."""
    queue.storage.results.put(key, queue.serializer.serialize(value), expires=True)


def read_signed(queue: Queue, data: bytes) -> Any:
    """Return a value as JSON has it. None for bytes that are not signed with our key."""
    try:
        return queue.serializer.deserialize(data)
    except PARSE_ERRORS:  # also InvalidMessage
        return None


def stored_commands(queue: Queue, consumer: str) -> dict[Command, bytes]:
    """Return what is stored for the consumer, in the order in which it is executed, whatever the bytes are."""
    stored = queue.storage.results.get_many([command_key(consumer, what) for what in Command])
    return {what: data for what in Command if (data := stored.get(command_key(consumer, what))) is not None}


def parse_commands(queue: Queue, consumer: str, stored: dict[Command, bytes]) -> list[CommandRequest]:
    return [order for what, data in stored.items() if (order := parse_command(queue, consumer, what, data))]


def parse_command(queue: Queue, consumer: str, what: Command, data: bytes) -> CommandRequest | None:
    """Return an order. None for a malformed one, which is logged."""
    value = read_signed(queue, data)
    try:
        if not value or (value["what"], value["consumer"]) != (what, consumer):
            return None
        return CommandRequest(what, str(value["by"]), datetime.fromisoformat(value["at"]).astimezone(UTC))
    except PARSE_ERRORS:
        log_malformed("order", queue.name, f"{consumer} to {what}")
        return None
