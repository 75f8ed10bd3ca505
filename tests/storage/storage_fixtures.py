"""The base of the storage machine: a queue on a broker, its model, and the invariants between them."""

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple, TypeVar

from hypothesis.stateful import RuleBasedStateMachine
from storage_model import DEAD, ENDED, HELD, SCHEDULED, WAITING, Model, Run

from engine.broker.deliveries import Delivery, FinishedRun
from engine.history import writer
from engine.models import Attempt, State
from engine.models import Run as Record
from engine.queues.queue import Queue

T = TypeVar("T")
numbers = count(1)

#: The database state of each place, without start events. `retrying` is between two attempts.
ON_RECORD = {
    WAITING: {State.WAITING, State.RETRYING},
    SCHEDULED: {State.SCHEDULED, State.RETRYING},
    HELD: {State.WAITING, State.RETRYING, State.SCHEDULED},  # scheduled: deferred, and claimed by another consumer
    DEAD: {State.DEAD},
}


def choose(things: Iterable[T], pick: int) -> T:
    """Return one of the items. 0 picks the most recently touched one."""
    newest_first = list(things)[::-1]
    return newest_first[pick % len(newest_first)]


class Hand(NamedTuple):
    """A run that a worker has claimed, and may have lost since."""

    consumer: str
    worker: str
    taken: Delivery


class StorageMachineBase(RuleBasedStateMachine):
    """Times of messages are minutes since the start. The machine never waits."""

    def connect(self, name: str) -> Any:
        """Open another connection to the broker for the queue of that name."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(f"machine{next(numbers)}")
        self.storage = self.queue.storage = self.connect(self.queue.name)
        self.theirs = {name: self.connect(self.queue.name) for name in ("c1", "c2")}
        self.tasks = {
            "plain": self.queue.task(name="plain")(print),
            "slow": self.queue.task(name="slow", rate_limit="2/h")(print),
            "lone": self.queue.task(name="lone", unique=True)(print),
        }
        self.model, self.limits = Model({}), ""
        for name in self.model.newer:
            self.theirs[name].deliveries.known_tasks = self.queue._registry._registry
        self.start, self.places = int(time.time()), count(1)
        self.hands: list[Hand] = []
        self.sent: list[tuple[str, FinishedRun]] = []
        self.refused: set[str] = set()  # ids that were never accepted

    def teardown(self) -> None:
        self.the_records_tell_the_same()
        for storage in (self.storage, *self.theirs.values()):
            storage.close()

    def instant(self, minute: int) -> datetime:
        return datetime.fromtimestamp(self.start + minute * 60, UTC)

    def task(self, kind: str, argument: int = 0, priority: int = 0, delay: int | None = None, **options: Any) -> Any:
        eta = None if delay is None else self.instant(delay).replace(tzinfo=None)
        options.setdefault("id", self.next_id())
        return self.tasks[kind].task_class((argument,), {}, eta=eta, priority=priority, **options)

    def next_id(self) -> str:
        """Return the next id of a fixed sequence, because ids may decide between equals."""
        return f"{self.queue.name}-{next(self.places):03}"

    def forget(self, hand: Hand) -> Run:
        """Clear the worker's hand. Return the run."""
        self.hands.remove(hand)
        return self.model.touch(self.model.runs[hand.taken.run_id])

    def live_hands(self) -> list[Hand]:
        return [hand for hand in self.hands if self.model.holds(hand.consumer, hand.taken)]

    def late_hands(self) -> list[Hand]:
        return [hand for hand in self.hands if not self.model.holds(hand.consumer, hand.taken)]

    # --- invariants ------------------------------------------------------------------------------------------

    def they_agree(self) -> None:
        self.every_message_is_in_one_place()
        self.results_are_those_that_were_settled()
        self.who_is_to_be_cancelled_is_known()

    def every_message_is_in_one_place(self) -> None:
        storage, model = self.storage, self.model
        assert sorted(self.ids(storage.messages.waiting())) == model.ids_at(WAITING)
        assert sorted(self.ids(storage.messages.scheduled())) == model.ids_at(SCHEDULED)
        assert sorted(run_id for run_id, _ in storage.dead_letters.all()) == model.ids_at(DEAD)
        assert sorted(
            (message.run_id, message.task, message.consumer, message.worker, message.delivery)
            for message in storage.deliveries.held()
        ) == [
            (run.id, run.task, run.consumer, run.worker, run.deliveries)
            for run in sorted(model.at(HELD), key=lambda run: run.id)
        ]

    def results_are_those_that_were_settled(self) -> None:
        assert self.storage.results.get_many(list(self.model.runs) or ["none"]) == self.model.results

    def who_is_to_be_cancelled_is_known(self) -> None:
        marked = {run.id for run in self.model.at(HELD) if run.marked}
        assert {
            run_id for run_id in self.storage.deliveries.cancelled() if self.model.runs[run_id].place == HELD
        } == marked

    def the_records_tell_the_same(self) -> None:
        """Replayed, the events give the same states and numbers of deliveries, and no unknown runs."""
        while writer.flush_events(self.queue):
            pass
        records = {run.id: run for run in Record.select().where(Record.queue == self.queue.name)}
        assert not self.refused & records.keys()
        attempts = Attempt.select(Attempt.run_id).where(Attempt.run_id.in_(list(records)))
        attempt_counts = Counter(attempt.run_id for attempt in attempts)
        for run in self.model.runs.values():
            over = run.deliveries - (run.place == HELD)
            if run.readable or over:
                record = records[run.id]
                assert record.state in ON_RECORD.get(run.place, {run.record})
                assert (record.deliveries, attempt_counts[run.id]) == (over, over)
                assert (record.ended_at is None) == (run.place in (WAITING, SCHEDULED, HELD))
        assert [run.id for run in self.model.at(ENDED) if self.storage.messages.get(run.id) is not None] == []

    def ids(self, wires: Iterable[bytes]) -> list[str]:
        ids_by_wire = {run.wires[-1]: run.id for run in self.model.runs.values()}
        return [ids_by_wire.get(bytes(wire), f"unknown: {wire!r}") for wire in wires]
