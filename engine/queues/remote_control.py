"""Commands to a consumer: quiet, wake, stop, restart, dump. They go through the broker, so they reach every host.

The consumer's parent polls for its commands twice a second and deletes them. Commands to a consumer that is gone
expire with the results.
"""

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from engine.broker.parsing import PARSE_ERRORS, log_malformed
from engine.models import now
from engine.queues.queue import Queue


class Command(StrEnum):
    """Ordered by precedence: a consumer that must stop is not restarted."""

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
    """The stack of one worker as Python prints it, innermost frame last. Empty text if the worker did not respond."""

    worker: str
    pid: int
    run_id: str | None
    task: str | None
    text: str


class Dump(NamedTuple):
    at: datetime
    stacks: list[Stack]


def send_command(queue: Queue, consumer: str, what: Command, by: str) -> None:
    store_signed(
        queue, command_key(consumer, what), {"what": what, "consumer": consumer, "by": by, "at": now().isoformat()}
    )


def pending_commands(queue: Queue, consumer: str) -> list[CommandRequest]:
    return parse_commands(queue, consumer, stored_commands(queue, consumer))


def take_commands(queue: Queue, consumer: str) -> list[CommandRequest]:
    stored = stored_commands(queue, consumer)
    for what in stored:
        queue.storage.results.delete(command_key(consumer, what))
    return parse_commands(queue, consumer, stored)


def publish_dump(queue: Queue, consumer: str, stacks: list[Stack]) -> None:
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
    queue.storage.results.put(key, queue.serializer.serialize(value), expires=True)


def read_signed(queue: Queue, data: bytes) -> Any:
    try:
        return queue.serializer.deserialize(data)
    except PARSE_ERRORS:  # also InvalidMessage
        return None


def stored_commands(queue: Queue, consumer: str) -> dict[Command, bytes]:
    stored = queue.storage.results.get_many([command_key(consumer, what) for what in Command])
    return {what: data for what in Command if (data := stored.get(command_key(consumer, what))) is not None}


def parse_commands(queue: Queue, consumer: str, stored: dict[Command, bytes]) -> list[CommandRequest]:
    return [order for what, data in stored.items() if (order := parse_command(queue, consumer, what, data))]


def parse_command(queue: Queue, consumer: str, what: Command, data: bytes) -> CommandRequest | None:
    value = read_signed(queue, data)
    try:
        if not value or (value["what"], value["consumer"]) != (what, consumer):
            return None
        return CommandRequest(what, str(value["by"]), datetime.fromisoformat(value["at"]).astimezone(UTC))
    except PARSE_ERRORS:
        log_malformed("order", queue.name, f"{consumer} to {what}")
        return None
