"""Dead runs and their stored messages: newest first, decoded as far as possible."""

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
from engine.outcomes import recorded_args
from engine.queues.queue import Queue

DECODE_ERRORS = (InvalidMessage, HueyException, ValueError, KeyError, TypeError)
#: Control characters that a terminal or a browser would not show.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class PagePosition(NamedTuple):
    at: float  # Unix seconds
    run_id: str


class DeadLetter(NamedTuple):
    """A dead run. `run` is None if the history no longer has it."""

    run_id: str
    queue: str
    at: datetime
    run: Run | None


class DeadLetterPage(NamedTuple):
    rows: list[DeadLetter]
    older: PagePosition | None


class DecodedMessage(NamedTuple):
    """A message as far as it can be decoded. `trouble`: why no worker can run it. `signed`: correctly signed."""

    trouble: str | None
    signed: bool
    head: dict[str, str]  # version, purpose, task, attempt, run id, signature; empty if it has none
    args: Any
    kwargs: dict[str, Any]
    options: dict[str, Any]  # Huey's other fields of the call
    envelope: dict[str, Any]
    size: int
    is_text: bool
    raw: str  # text with escapes for control characters, or a hex dump


def count_dead(queues: Mapping[str, Queue]) -> int:
    return sum(queue.storage.dead_letters.count() for queue in queues.values())


def list_dead(queues: Mapping[str, Queue], size: int, before: PagePosition | None = None) -> DeadLetterPage:
    lists = [
        [(PagePosition(at, run_id), name) for run_id, at in queue.storage.dead_letters.ids(size + 1, before)]
        for name, queue in queues.items()
    ]
    newest = list(islice(merge(*lists, reverse=True), size + 1))
    ids = [place.run_id for place, _ in newest[:size]]
    runs = {run.id: run for run in Run.select().where(Run.id.in_(ids))}
    rows = [
        DeadLetter(place.run_id, name, datetime.fromtimestamp(place.at, UTC), runs.get(place.run_id))
        for place, name in newest[:size]
    ]
    return DeadLetterPage(rows, newest[size - 1][0] if len(newest) > size else None)


def find_dead(queues: Mapping[str, Queue], run_id: str) -> tuple[Queue, bytes] | None:
    for queue in queues.values():
        place = queue.storage.messages.locate(run_id)
        if place and place.state == "dead" and (data := queue.storage.messages.get(run_id)) is not None:
            return queue, data
    return None


def decode_message(queue: Queue, data: bytes) -> DecodedMessage:
    body = message_body(data)
    options = object_in(body, "message")
    args = options.pop("args", None)
    is_text, raw = printable(data)
    return DecodedMessage(
        trouble=decode_error(queue, data),
        signed=has_valid_signature(queue, data),
        head=header_fields(data),
        args=recorded_args(args) if isinstance(args, list) else args,
        kwargs=object_in(options, "kwargs"),
        options={name: value for name, value in options.items() if name not in ("id", "name", "kwargs")},
        envelope=object_in(body, "envelope"),
        size=len(data),
        is_text=is_text,
        raw=raw,
    )


def decode_error(queue: Queue, data: bytes) -> str | None:
    try:
        queue.deserialize_task(data)
    except DECODE_ERRORS as error:
        return str(error)
    return None


def has_valid_signature(queue: Queue, data: bytes) -> bool:
    try:
        queue.serializer.deserialize_message(queue.name, data)
    except DECODE_ERRORS:
        return False
    return True


def header_fields(data: bytes) -> dict[str, str]:
    if not parse_header(data):
        return {}
    words = data.split(b" ", 6)[:6]
    names = ("version", "purpose", "task", "attempt", "run id", "signature")
    return {name: word.decode(errors="replace") for name, word in zip(names, words, strict=False)}


def message_body(data: bytes) -> dict[str, object]:
    try:
        body = orjson.loads(data.split(b" ", 6)[6])
    except (IndexError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def object_in(body: dict[str, object], name: str) -> dict[str, object]:
    part = body.get(name)
    return part if isinstance(part, dict) else {}


def printable(data: bytes) -> tuple[bool, str]:
    """Return True and escaped text, or False and a hex dump."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False, hex_dump(data)
    return True, UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def hex_dump(data: bytes) -> str:
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:06x}  {row.hex(' '):47}  {letters}")
    return "\n".join(lines)
