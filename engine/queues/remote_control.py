"""Commands to a consumer: quiet, wake, stop, restart, dump. They go through the broker, so they reach every host.

The consumer's parent polls for its commands twice a second and deletes them. Commands to a consumer that is gone
expire with the results. A command holds for ORDER_SECONDS by the broker's clock, once, for one consumer: its signature
names consumer and command, and the consumer remembers the commands that it has taken.
"""

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import uuid4

from engine.broker.parsing import PARSE_ERRORS, checked, log_malformed, parse_timestamp
from engine.models import now
from engine.queues.queue import Queue


class Command(StrEnum):
    """Ordered by precedence: a consumer that must stop is not restarted."""

    DUMP = "dump"
    QUIET = "quiet"
    WAKE = "wake"
    STOP = "stop"
    RESTART = "restart"


#: How long a command holds after it was sent.
ORDER_SECONDS = 60


class CommandRequest(NamedTuple):
    """`number` is that of all copies of a command. `sent_at`: the broker's time (Unix seconds)."""

    what: Command
    by: str
    number: str
    sent_at: float


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
    order = {"by": by, "number": uuid4().hex, "sent_at": queue.storage.clock()}
    store_signed(queue, command_key(consumer, what), order)


def pending_commands(queue: Queue, consumer: str) -> list[CommandRequest]:
    """Return the commands that the consumer has not taken and that still hold."""
    orders = parse_commands(queue, consumer, stored_commands(queue, consumer))
    now = queue.storage.clock() if orders else 0.0
    return [order for order in orders if abs(now - order.sent_at) <= ORDER_SECONDS]


class CommandInbox:
    """Takes the commands of one consumer, each of them once."""

    def __init__(self, queue: Queue, consumer: str) -> None:
        self.queue, self.consumer = queue, consumer
        self.taken: dict[str, float] = {}  # number → sent at

    def take(self) -> list[CommandRequest]:
        """Return and delete the commands, also those that do not hold."""
        stored = stored_commands(self.queue, self.consumer)
        if not stored:
            return []
        for what in stored:
            self.queue.storage.results.delete(command_key(self.consumer, what))
        now = self.queue.storage.clock()
        self.taken = {number: at for number, at in self.taken.items() if now - at <= ORDER_SECONDS}
        orders = [order for order in parse_commands(self.queue, self.consumer, stored) if self.holds(order, now)]
        self.taken |= {order.number: order.sent_at for order in orders}
        return orders

    def holds(self, order: CommandRequest, now: float) -> bool:
        if abs(now - order.sent_at) <= ORDER_SECONDS and order.number not in self.taken:
            return True
        self.queue.report_forged("order", f"{self.consumer} to {order.what}", "sent over a minute ago, or taken before")
        return False


def publish_dump(queue: Queue, consumer: str, stacks: list[Stack]) -> None:
    store_signed(queue, dump_key(consumer), {"at": now().isoformat(), "stacks": [list(stack) for stack in stacks]})


def latest_dump(queue: Queue, consumer: str) -> Dump | None:
    data = queue.storage.results.get_many([dump_key(consumer)]).get(dump_key(consumer))
    value = data and read_signed(queue, dump_key(consumer), data)
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
    """Store a signed value. It expires with the results."""
    queue.storage.results.put(key, queue.sign_value(key, value), expires=True)


def read_signed(queue: Queue, key: str, data: bytes) -> Any:
    """Return the JSON value that lies under this key. None for bytes without a valid signature."""
    try:
        return queue.read_value(key, data)
    except PARSE_ERRORS:  # also InvalidMessage
        return None


def stored_commands(queue: Queue, consumer: str) -> dict[Command, bytes]:
    stored = queue.storage.results.get_many([command_key(consumer, what) for what in Command])
    return {what: data for what in Command if (data := stored.get(command_key(consumer, what))) is not None}


def parse_commands(queue: Queue, consumer: str, stored: dict[Command, bytes]) -> list[CommandRequest]:
    return [order for what, data in stored.items() if (order := parse_command(queue, consumer, what, data))]


def parse_command(queue: Queue, consumer: str, what: Command, data: bytes) -> CommandRequest | None:
    """Return a command. None for a malformed or forged one, which is reported."""
    value = read_signed(queue, command_key(consumer, what), data)
    try:
        return CommandRequest(what, str(value["by"]), checked(value["number"], str), parse_timestamp(value["sent_at"]))
    except PARSE_ERRORS:
        queue.report_forged("order", f"{consumer} to {what}", "not signed for this consumer and command")
        return None
