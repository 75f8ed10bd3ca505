"""What both deliveries share: the shapes that go in and out, and the words of the event stream."""

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

#: One step of priority is worth this many seconds of waiting: higher goes first, and nothing starves.
PRIORITY_SECONDS = 60

#: The counter of events that were dropped unread.
DROPPED = "events dropped"


class BrokerAway(ConnectionError):
    """The broker cannot be reached, or did not answer."""


class Taken(NamedTuple):
    """A message that a worker holds. `delivery` fences: who took it over since has a higher one."""

    run_id: str
    delivery: int
    data: bytes


class Held(NamedTuple):
    """Who holds which run since when (Unix seconds)."""

    run_id: str
    task: str
    consumer: str
    worker: str
    held_at: float
    delivery: int


class Beat(NamedTuple):
    """The last sign of life of a consumer: when (Unix seconds), what it said, what it has worked off."""

    consumer: str
    at: float
    info: dict[str, Any]
    processed: int
    failed: int


class Effects:
    """What follows from a step and is stored in the same step: messages, results, events."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, float | None, float | None]] = []
        self.results: list[tuple[str, bytes]] = []
        self.events: list[str] = []

    def enqueue(self, run_id: str, data: bytes, priority: float | None) -> "Effects":
        self.messages.append((run_id, data, priority, None))
        return self

    def schedule(self, run_id: str, data: bytes, priority: float | None, due: datetime) -> "Effects":
        """`due` is naive UTC, as Huey has it."""
        self.messages.append((run_id, data, priority, due.replace(tzinfo=due.tzinfo or UTC).timestamp()))
        return self

    def result(self, key: str, data: bytes) -> "Effects":
        self.results.append((key, data))
        return self

    def event(self, event: str) -> "Effects":
        self.events.append(event)
        return self

    def merge(self, others: "Effects") -> None:
        self.messages += others.messages
        self.results += others.results
        self.events += others.events


def event_json(kind: str, run_id: str, at: float, **rest: Any) -> str:
    """One line of a run's history. `at`: Unix seconds."""
    return json.dumps({"kind": kind, "id": run_id, "at": at, **rest}, default=str)


def header(data: bytes) -> tuple[str, int]:
    """The task and the attempt of a message, as its first words say; `?` and 1 where it is no message of ours."""
    words = bytes(data[:300]).split(b" ", 5)
    try:
        return words[2].decode(), int(words[3])
    except (IndexError, ValueError):
        return "?", 1
