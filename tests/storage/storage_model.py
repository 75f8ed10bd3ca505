"""The guarantees of a storage, as a small model: each run is in exactly one place."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.broker.deliveries import Delivery
from engine.broker.effects import PRIORITY_SECONDS

#: The places of a message. An ended run has none: settled, cancelled, purged or discarded.
WAITING, SCHEDULED, HELD, DEAD, ENDED = "waiting", "scheduled", "held", "dead", "ended"

#: Deliveries that ended in a worker's death before a run is dead.
MOST = 2


@dataclass
class Run:
    """`wires`: its messages so far, the latest last. `earliest` and `latest` bound its place in the queue."""

    id: str
    task: str
    wires: list[bytes]
    readable: bool = True
    name: str = ""  # its key if it is unique
    priority: float = 0
    place: str = WAITING
    since: tuple[float, float] = (0, 0)  # when it was enqueued or is due, as two bounds
    due: float = 0
    attempt: int = 1
    deliveries: int = 0
    deaths: int = 0
    consumer: str = ""
    worker: str = ""
    marked: bool = False  # to be cancelled while it runs
    brought_back: bool = False  # moved by an operator, so that its name and its priority may not count
    record: str = ""  # its outcome
    missing: bool = False  # deferred because its task is unknown

    @property
    def earliest(self) -> float:
        return self.since[0] - PRIORITY_SECONDS * self.priority

    @property
    def latest(self) -> float:
        return self.since[1] - PRIORITY_SECONDS * (0 if self.brought_back else self.priority)

    def waits(self, since: tuple[float, float]) -> None:
        self.place, self.since, self.missing = WAITING, since, False

    def is_scheduled(self, due: float) -> None:
        self.place, self.due, self.since, self.missing = SCHEDULED, due, (due, due), False

    def is_put_off(self, until: float) -> None:
        """Return true if the run is deferred but keeps its place in the queue."""
        self.place, self.due, self.missing = SCHEDULED, until, True

    def is_posted(self, due: float | None, now: tuple[float, float]) -> None:
        if due is None:
            self.waits(now)
        else:
            self.is_scheduled(due)

    def is_held(self, consumer: str, worker: str) -> None:
        self.place, self.consumer, self.worker, self.missing = HELD, consumer, worker, False
        self.deliveries += 1

    def ends(self, record: str) -> None:
        self.place, self.record, self.marked = ENDED, record, False

    def returns(self, counts: bool) -> None:
        self.deaths += counts
        if self.marked:
            self.ends("cancelled")
        else:
            self.place = DEAD if counts and self.deaths >= MOST else WAITING

    def is_brought_back(self, now: tuple[float, float]) -> None:
        self.deaths, self.marked, self.brought_back = 0, False, True
        self.waits(now)

    def is_tried_again(self, wire: bytes) -> None:
        self.attempt += 1
        self.deaths, self.marked = 0, False
        self.wires.append(wire)


@dataclass
class Model:
    """All accepted runs, the most recently touched last, and the state that decides their order."""

    starts_left: dict[str, int]  # task → the starts that its rate still allows
    runs: dict[str, Run] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    once: set[str] = field(default_factory=set)
    last_tick: int = -1
    newer: tuple[str, ...] = ("c1",)  # the consumers that have every task

    def touch(self, run: Run) -> Run:
        self.runs[run.id] = self.runs.pop(run.id, run)
        return run

    def at(self, *places: str) -> list[Run]:
        return [run for run in self.runs.values() if run.place in places]

    def readable(self, *places: str) -> list[Run]:
        return [run for run in self.at(*places) if run.readable]

    def ids_at(self, place: str) -> list[str]:
        return sorted(run.id for run in self.at(place))

    def held_by(self, consumer: str, worker: str | None = None) -> list[Run]:
        return [run for run in self.at(HELD) if run.consumer == consumer and worker in (None, run.worker)]

    def holds(self, consumer: str, taken: Delivery) -> bool:
        run = self.runs[taken.run_id]
        return (run.place, run.consumer, run.deliveries) == (HELD, consumer, taken.delivery)

    def of_name(self, name: str) -> list[Run]:
        return [run for run in self.at(WAITING, SCHEDULED, HELD) if name and run.name == name]

    def may_start(self, consumer: str) -> list[Run]:
        if "" in self.paused:
            return []
        candidates = self.at(WAITING) + [run for run in self.at(SCHEDULED) if run.missing and consumer in self.newer]
        return [run for run in candidates if run.task not in self.paused and self.starts_left.get(run.task, 1) > 0]

    def may_go_first(self, run: Run, rivals: Iterable[Run]) -> bool:
        """Return true if no other run certainly comes before this one."""
        return not any(other.latest < run.earliest for other in rivals)
