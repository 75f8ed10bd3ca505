"""Delivery records shared by both brokers: claimed, held and settled messages, and a message's location."""

from typing import NamedTuple

from engine.broker.effects import Effects, event_json

#: Messages ahead of another are counted up to this limit.
AHEAD_LIMIT = 10_000


class Delivery(NamedTuple):
    """A message that a worker has claimed. `delivery` is a fencing token: each claim of a run has a higher one."""

    run_id: str
    delivery: int
    data: bytes
    is_marked: bool = False  # True if the broker has a revocation of the run or its task, or an end of the run


class HeldMessage(NamedTuple):
    """A run held by a worker since `held_at` (Unix seconds)."""

    run_id: str
    task: str
    consumer: str
    worker: str
    held_at: float
    delivery: int
    attempt: int

    def event(self, kind: str, at: float, error: str, **fields: object) -> str:
        """Return an event about the end of this delivery. `at`: Unix seconds."""
        facts = {
            "task": self.task, "delivery": self.delivery, "attempt": self.attempt, "started": self.held_at,
            "worker": self.worker, "consumer": self.consumer, "error": error,
        }  # fmt: skip
        return event_json(kind, self.run_id, at, **facts, **fields)


class FinishedRun(NamedTuple):
    """A run that its worker has finished, and the effects stored when it is acknowledged.

    An earlier cancel raises CancelRequested, unless this outcome `is_cancel` itself.
    """

    claimed: Delivery
    effects: Effects
    is_cancel: bool = False


class TurnResult(NamedTuple):
    """`settled`: True if the previous run was settled, or there was none. `claimed`: the next message."""

    settled: bool
    claimed: Delivery | None


class MissingTask(NamedTuple):
    """The task that a message names and a consumer's code lacks, and that consumer. Times in Unix seconds."""

    task: str  # dotted
    consumer: str  # such as light@host
    consumer_id: str
    version: str
    met_at: float = 0.0  # first time
    until: float = 0.0  # then the message is dead, unless a consumer with the task has claimed it

    @property
    def reason(self) -> str:
        return f"{self.consumer} runs {self.version}, which does not know this task; restart it"


class MessageLocation(NamedTuple):
    """`state`: `waiting`, `scheduled`, `held` or `dead`. `ahead`: messages before a waiting one, up to AHEAD_LIMIT."""

    state: str
    ahead: int = 0
