"""From lines of a queue's event stream to events with database values."""

import math
from collections.abc import Container
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from engine.broker.effects import to_timestamp
from engine.broker.messages import parse_body, short_task_name
from engine.broker.signing import Purpose
from engine.queues.queue import Queue

#: A line's fields: `kind`, `id` of the run, `at` (Unix seconds) and those of its kind.
Event = dict[str, Any]
#: Position in the stream, content.
StreamLine = tuple[int, bytes]


class InvalidEvent(ValueError):
    """A line of the stream that this program cannot parse. The message gives the reason."""


#: Kinds that a script of the broker decides and cannot sign. They only say when an unfinished run may start.
UNSIGNED_KINDS = ("due", "limited")


class EventReader(NamedTuple):
    """Reads the lines of a queue's stream and refuses those that no program of ours has signed.

    `signed_from`: the last position of events without a signature. None: they are still accepted.
    """

    queue: Queue
    signed_from: int | None

    def parse(self, position: int, line: bytes, kinds: Container[str]) -> Event:
        """Return the event of a line, which is of one of these kinds. Raises InvalidEvent and ValueError."""
        if line.startswith(b"{"):
            event = check_event(parse_event(line), kinds)
            if not self.accepts_unsigned(position) and event["kind"] not in UNSIGNED_KINDS:
                raise InvalidEvent("this event is not signed")
            return event
        keyring, purpose = self.queue.storage.entries.serializer.keyring, line_purpose(line)
        body = keyring.open(purpose, self.queue.storage.entries.events, line)
        return check_event(parse_message_body(body) if purpose == Purpose.RUN else parse_event_body(body), kinds)

    def accepts_unsigned(self, position: int) -> bool:
        return self.signed_from is None or position <= self.signed_from


def line_purpose(line: bytes) -> Purpose:
    """Return the purpose of a signed line: the message of a new run is its own event."""
    return Purpose.RUN if line[1:6] == b" run " else Purpose.EVENT


def check_event(event: Event, kinds: Container[str]) -> Event:
    """Return the event if it is of one of these kinds. Raises InvalidEvent."""
    if event["kind"] not in kinds:
        raise InvalidEvent(f"no event has the kind {event['kind']!r}")
    if not isinstance(event["id"], str):
        raise InvalidEvent("its id is no text")
    return event


def parse_event(line: bytes) -> Event:
    """Return the event of a line without checking its signature."""
    if line.startswith(b"{"):
        return parse_event_body(line)
    body = parse_body(line)
    return parse_message_body(body) if line_purpose(line) == Purpose.RUN else parse_event_body(body)


def parse_event_body(body: bytes) -> Event:
    """Return the event without NUL characters, which PostgreSQL text cannot store.

    Its id stays unchanged, as a changed id would name another run.
    """
    if b"\\u0000" not in body:
        event: Event = orjson.loads(body)
        return event
    return {
        name: strip_nul(value) if isinstance(value, str) and name not in ("id", "result") else value
        for name, value in orjson.loads(body).items()
    }


def event_time(line: bytes) -> float | None:
    try:
        return float(parse_event(line)["at"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def parse_message_body(body: bytes) -> Event:
    """Return the `enqueued` event. The message of a new run is its own line in the stream."""
    content = orjson.loads(body)
    message, envelope = content["message"], content["envelope"]
    enqueued_at = to_timestamp(datetime.fromisoformat(envelope["enqueued_at"]))
    due = to_timestamp(datetime.fromisoformat(message["eta"])) if "eta" in message else 0
    return {
        "kind": "enqueued", "id": message["id"], "at": enqueued_at, "task": short_task_name(message["name"]),
        "args": message["args"], "kwargs": message["kwargs"], "priority": message.get("priority"),
        "retries": envelope["retries"], "asked_by": envelope["asked_by"], "parent": envelope["parent_id"],
        "version": envelope["code_version"], "due": due if due > enqueued_at else None,
        "sealed": content.get("sealed", {}).get(message["id"]),
    }  # fmt: skip


# --- database values -----------------------------------------------------------------------------------------


def to_datetime(unix: float | str) -> datetime:
    """Raises ValueError for a time that is out of range."""
    try:
        return datetime.fromtimestamp(float(unix), UTC)
    except (OSError, OverflowError) as error:
        raise ValueError(f"{unix} is out of range for a time") from error


def to_db_time(unix: float | str) -> str:
    """Return `str(to_datetime(unix))`. Most events of a batch share a second, whose text is formatted once."""
    try:
        fraction, second = math.modf(float(unix))
        micros = round(fraction * 1e6)
        if 0 < micros < 1_000_000:
            return f"{second_text(int(second))}.{micros:06d}+00:00"
    except (OSError, OverflowError) as error:
        raise ValueError(f"{unix} is out of range for a time") from error
    return str(to_datetime(unix))


@lru_cache(maxsize=1000)
def second_text(second: int) -> str:
    return str(datetime.fromtimestamp(second, UTC))[:19]


def from_db_time(value: datetime | str) -> float:
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).timestamp()


def encode_json(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def strip_nul(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
