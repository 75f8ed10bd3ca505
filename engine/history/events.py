"""From lines of a queue's event stream to events with database values."""

from collections.abc import Container
from datetime import UTC, datetime
from typing import Any

import orjson

from engine.broker.effects import to_timestamp
from engine.broker.messages import parse_body, short_task_name

#: A line's fields: `kind`, `id` of the run, `at` (Unix seconds) and those of its kind.
Event = dict[str, Any]
#: Position in the stream, content.
StreamLine = tuple[int, bytes]


class InvalidEvent(ValueError):
    """A line of the stream that this program cannot parse. The message gives the reason."""


def parse_known_event(line: bytes, kinds: Container[str]) -> Event:
    """Parse a line whose event is of one of these kinds. Raises InvalidEvent and ValueError."""
    event = parse_event(line)
    if event["kind"] not in kinds:
        raise InvalidEvent(f"no event has the kind {event['kind']!r}")
    if not isinstance(event["id"], str):
        raise InvalidEvent("its id is no text")
    return event


def parse_event(line: bytes) -> Event:
    """Return the event without NUL, which PostgreSQL cannot store. The id stays: another id is another run."""
    if not line.startswith(b"{"):
        return parse_message_event(line)
    if b"\\u0000" not in line:
        event: Event = orjson.loads(line)
        return event
    return {
        name: strip_nul(value) if isinstance(value, str) and name not in ("id", "result") else value
        for name, value in orjson.loads(line).items()
    }


def event_time(line: bytes) -> float | None:
    try:
        return float(parse_event(line)["at"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def parse_message_event(line: bytes) -> Event:
    """Return the `enqueued` event. The message of a new run is its own line in the stream."""
    content = orjson.loads(parse_body(line))
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
    return str(to_datetime(unix))


def from_db_time(value: datetime | str) -> float:
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).timestamp()


def encode_json(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def strip_nul(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
