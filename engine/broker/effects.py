"""Effects: messages, results and events that a storage writes in one step."""

from datetime import UTC, datetime
from typing import NamedTuple

import orjson

#: One step of priority equals this many seconds of waiting, so no run waits forever.
PRIORITY_SECONDS = 60


class NewMessage(NamedTuple):
    """A message to store. `unique` and `once` are empty if not used.

    `unique`: only the first run under this name is kept while it waits or runs. `once`: nothing is stored a second
    time.
    """

    run_id: str
    data: bytes
    priority: float
    due: float | None  # Unix seconds
    unique: str = ""
    once: str = ""
    delivered: int = 0  # number of earlier claims of an ended run
    is_new_run: bool = False  # the message is then the first event of the run


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
        """Add a message. `due` None: at once."""
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
    return orjson.dumps({"kind": kind, "id": run_id, "at": at, **fields}, default=str).decode()


def to_timestamp(at: datetime) -> float:
    """Return the Unix seconds of Huey's time, in which a naive one is UTC."""
    return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
