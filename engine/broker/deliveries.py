"""The shapes of delivery that both brokers share: what is claimed, held, settled, and where a message is."""

from typing import NamedTuple

from engine.broker.effects import Effects

#: How many messages before another are counted.
AHEAD_LIMIT = 10_000


class Delivery(NamedTuple):
    """A message that a worker has claimed. `delivery` fences: each claim of a run has a higher one than the last."""

    run_id: str
    delivery: int
    data: bytes
    revoked: bool = False  # True where Huey must check the revocations


class HeldMessage(NamedTuple):
    """Which worker holds which run, since when (Unix seconds)."""

    run_id: str
    task: str
    consumer: str
    worker: str
    held_at: float
    delivery: int
    attempt: int


class FinishedRun(NamedTuple):
    """A run that its worker has finished with, and what is stored when it is acknowledged.

    An earlier cancel raises CancelRequested, unless this outcome `is_cancel` itself.
    """

    claimed: Delivery
    effects: Effects
    is_cancel: bool = False


class TurnResult(NamedTuple):
    """True if the run before was settled, or there was none; and the next one."""

    settled: bool
    claimed: Delivery | None


class MissingTask(NamedTuple):
    """The task that a message names and a consumer's code does not have, and that consumer. Times in Unix seconds."""

    task: str  # dotted
    consumer: str  # such as light@host
    consumer_id: str
    version: str
    met_at: float = 0.0  # for the first time
    until: float = 0.0  # then the message is dead, unless a consumer has claimed it that has the task

    @property
    def reason(self) -> str:
        return f"{self.consumer} runs {self.version}, which does not know this task; restart it"


class MessageLocation(NamedTuple):
    """`state`: `waiting`, `scheduled`, `held` or `dead`. `ahead`: the number of messages before one that waits, counted
    no further than AHEAD_LIMIT.
    """

    state: str
    ahead: int = 0
