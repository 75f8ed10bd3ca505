"""Effects: messages, results and events that a storage writes in one step."""

from datetime import UTC, datetime
from typing import NamedTuple

import orjson

#: One step of priority is worth this many seconds of waiting: higher goes first, and nothing starves.
PRIORITY_SECONDS = 60


class NewMessage(NamedTuple):
    """A message to store. Empty text where there is no `unique` or `once`.

    `unique`: of the runs that wait or run under this name, the first is kept. `once`: nothing is stored a second time.
    """

    run_id: str
    data: bytes
    priority: float
    due: float | None  # Unix seconds
    unique: str = ""
    once: str = ""
    delivered: int = 0  # how often the run was claimed before, where it had ended
    is_new_run: bool = False  # the message itself is then the first event of the run


class Effects:
    def __init__(self) -> None:
        self.messages: list[NewMessage] = []
        self.results: list[tuple[str, bytes]] = []
        self.events: list[str] = []

    def enqueue(
        self,
        run_id: str,
        data: bytes,
        priority: float | None = None,
        due: datetime | None = None,
        *,
        unique: str = "",
        once: str = "",
        delivered: int = 0,
    ) -> "Effects":
        """`due`: None is at once."""
        at = None if due is None else to_timestamp(due)
        self.messages.append(NewMessage(run_id, data, priority or 0, at, unique, once, delivered))
        return self

    def result(self, key: str, data: bytes) -> "Effects":
        self.results.append((key, data))
        return self

    def event(self, event: str) -> "Effects":
        self.events.append(event)
        return self

    def merge(self, effects: "Effects") -> None:
        self.messages += effects.messages
        self.results += effects.results
        self.events += effects.events


def event_json(kind: str, run_id: str, at: float, **fields: object) -> str:
    """Return one line of a run's history. `at`: Unix seconds."""
    return orjson.dumps({"kind": kind, "id": run_id, "at": at, **fields}, default=str).decode()


def to_timestamp(at: datetime) -> float:
    """Return the Unix seconds of a time as Huey has it: naive where it is UTC."""
    return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
