"""What died, with the message that was kept of it: listed newest first, and opened as far as it can be read."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

import orjson
from huey.exceptions import HueyException

from engine.broker.message_header import parse_header
from engine.exceptions import InvalidMessage
from engine.models import Run
from engine.outcomes import args_of_record
from engine.queues.queue import Queue

CANNOT_BE_READ = (InvalidMessage, HueyException, ValueError, KeyError, TypeError)
#: What a terminal or a browser would swallow.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Place(NamedTuple):
    """Where a list goes on: after this one. Newer ones come first."""

    at: float  # Unix seconds
    run_id: str


class Dead(NamedTuple):
    """A run that was given up. `run` is None where the history has it no more."""

    run_id: str
    queue: str
    at: datetime
    run: Run | None


class Page(NamedTuple):
    rows: list[Dead]
    older: Place | None


class Opened(NamedTuple):
    """What can be made out of a message.

    `trouble`: why no worker can run it; None where one could try. `signed`: whether it is ours, unaltered.
    """

    trouble: str | None
    signed: bool
    head: dict[str, str]  # version, purpose, task, attempt, run id, signature; empty where it has none
    args: Any
    kwargs: dict[str, Any]
    options: dict[str, Any]  # what else Huey says about the call
    envelope: dict[str, Any]
    size: int
    is_text: bool
    raw: str  # text with escapes for what is not printable, or lines of hexadecimal


def count(queues: Mapping[str, Queue]) -> int:
    return sum(queue.storage.dead_letters.count() for queue in queues.values())


def page(queues: Mapping[str, Queue], size: int, before: Place | None = None) -> Page:
    """The next `size` of all queues together. One statement to the database."""
    lists = [
        [(Place(at, run_id), name) for run_id, at in queue.storage.dead_letters.ids(size + 1, before)]
        for name, queue in queues.items()
    ]
    found = list(islice(merge(*lists, reverse=True), size + 1))
    ids = [place.run_id for place, _ in found[:size]]
    runs = {run.id: run for run in Run.select().where(Run.id.in_(ids))}
    rows = [
        Dead(place.run_id, name, datetime.fromtimestamp(place.at, UTC), runs.get(place.run_id))
        for place, name in found[:size]
    ]
    return Page(rows, found[size - 1][0] if len(found) > size else None)


def find(queues: Mapping[str, Queue], run_id: str) -> tuple[Queue, bytes] | None:
    """The queue that keeps this dead run's message, and the message."""
    for queue in queues.values():
        place = queue.storage.messages.locate(run_id)
        if place and place.state == "dead" and (data := queue.storage.messages.get(run_id)) is not None:
            return queue, data
    return None


def opened(queue: Queue, data: bytes) -> Opened:
    body = body_of(data)
    options = part_of(body, "message")
    args = options.pop("args", None)
    is_text, raw = shown(data)
    return Opened(
        trouble=trouble_with(queue, data),
        signed=is_signed(queue, data),
        head=head_of(data),
        args=args_of_record(args) if isinstance(args, list) else args,
        kwargs=part_of(options, "kwargs"),
        options={name: value for name, value in options.items() if name not in ("id", "name", "kwargs")},
        envelope=part_of(body, "envelope"),
        size=len(data),
        is_text=is_text,
        raw=raw,
    )


def trouble_with(queue: Queue, data: bytes) -> str | None:
    try:
        queue.deserialize_task(data)
    except CANNOT_BE_READ as error:
        return str(error)
    return None


def is_signed(queue: Queue, data: bytes) -> bool:
    try:
        queue.serializer.deserialize(data)
    except CANNOT_BE_READ:
        return False
    return True


def head_of(data: bytes) -> dict[str, str]:
    if not parse_header(data):
        return {}
    words = data.split(b" ", 6)[:6]
    names = ("version", "purpose", "task", "attempt", "run id", "signature")
    return {name: word.decode(errors="replace") for name, word in zip(names, words, strict=False)}


def body_of(data: bytes) -> dict[str, Any]:
    """Its JSON, whoever signed it; empty where there is none."""
    try:
        body = orjson.loads(data.split(b" ", 6)[6])
    except (IndexError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def part_of(body: dict[str, Any], name: str) -> dict[str, Any]:
    """An object in it; empty where it has none of this name."""
    part = body.get(name)
    return part if isinstance(part, dict) else {}


def shown(data: bytes) -> tuple[bool, str]:
    """Whether it is text, and how it is written down."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False, in_hexadecimal(data)
    return True, UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def in_hexadecimal(data: bytes) -> str:
    """Sixteen bytes a line, with what is printable of them."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:06x}  {row.hex(' '):47}  {letters}")
    return "\n".join(lines)
