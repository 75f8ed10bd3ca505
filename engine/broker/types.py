"""What both deliveries share: the shapes that go in and out, and the words of the event stream."""

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

import orjson

#: One step of priority is worth this many seconds of waiting: higher goes first, and nothing starves.
PRIORITY_SECONDS = 60

#: So many messages before another are counted.
COUNTED_AHEAD = 10_000

#: A revocation of a run that the broker does not know is kept for so many seconds, or as long as a result.
REVOKED_SECONDS = 7 * 86400

#: The counter of events that were dropped unread.
DROPPED = "events dropped"


class Taken(NamedTuple):
    """A message that a worker holds. `delivery` fences: who took it over since has a higher one."""

    run_id: str
    delivery: int
    data: bytes
    revoked: bool = False  # whether Huey should look if it was revoked


class Posted(NamedTuple):
    """A message on its way in. Empty text where there is no `unique` or `once`.

    `unique`: of the runs that wait or run under this name, the first is kept. `once`: nothing is stored a second time.
    """

    run_id: str
    data: bytes
    priority: float
    due: float | None  # Unix seconds
    unique: str = ""
    once: str = ""
    delivered: int = 0  # how often the run was handed out before, where it had ended
    told: bool = False  # a new run: the message itself is its first line of history


class Held(NamedTuple):
    """Who holds which run since when (Unix seconds)."""

    run_id: str
    task: str
    consumer: str
    worker: str
    held_at: float
    delivery: int
    attempt: int


class PutOff(NamedTuple):
    """A message that a consumer has met whose code does not know a task which it names. Times in Unix seconds."""

    task: str  # the one that is missing, dotted
    consumer: str  # such as light@host
    consumer_id: str
    version: str
    met_at: float = 0.0  # for the first time
    until: float = 0.0  # then it is dead, unless a consumer has come that knows the task

    @property
    def reason(self) -> str:
        return f"{self.consumer} runs {self.version}, which does not know this task; restart it"


class Place(NamedTuple):
    """Where the message of a run is: `waiting`, `scheduled`, `held` or `dead`. `ahead`: how many stand before one that
    waits, counted no further than `COUNTED_AHEAD`.
    """

    state: str
    ahead: int = 0


class Beat(NamedTuple):
    """The last sign of life of a consumer: when (Unix seconds), and what it said."""

    consumer: str
    at: float
    info: dict[str, Any]


def unix(at: datetime) -> float:
    """Unix seconds of a time as Huey has it: naive where it is UTC."""
    return at.replace(tzinfo=at.tzinfo or UTC).timestamp()


class Effects:
    """What follows from a step and is stored in the same step: messages, results, events."""

    def __init__(self) -> None:
        self.messages: list[Posted] = []
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
        at = None if due is None else unix(due)
        self.messages.append(Posted(run_id, data, priority or 0, at, unique, once, delivered))
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
    return orjson.dumps({"kind": kind, "id": run_id, "at": at, **rest}, default=str).decode()


class Done(NamedTuple):
    """A run that its worker has finished with, and what is to be stored when it is let go.

    A cancel that came before is answered by CancelRequested, unless this outcome `is_cancel` itself.
    """

    taken: Taken
    effects: Effects
    is_cancel: bool = False


class Turn(NamedTuple):
    """Whether the run before was settled (True where there was none), and the next one."""

    settled: bool
    taken: Taken | None


class Header(NamedTuple):
    """The first words of a message: the dotted name of its task, its attempt, its run's id."""

    task: str
    attempt: int
    run_id: str

    @property
    def bare(self) -> str:
        return self.task.rpartition(".")[2]


def header(data: bytes) -> Header | None:
    """None where it is no message of ours."""
    words = bytes(data[:1000]).split(b" ", 5)
    try:
        return Header(words[2].decode(), int(words[3]), words[4].decode()) if words[1] == b"run" else None
    except (IndexError, ValueError):
        return None


def id_of(data: bytes) -> str:
    """The run that a message asks for; a new id for bytes that are no message."""
    found = header(data)
    return found.run_id if found else str(uuid4())
