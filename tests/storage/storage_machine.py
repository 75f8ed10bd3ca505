"""Every operation of a storage, in any order. After each one it must agree with the model."""

import time
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from storage_fixtures import choose
from storage_model import DEAD, ENDED, HELD, MOST, SCHEDULED, WAITING, Run
from storage_steps import ENDINGS, StorageSteps, arrival_bounds

from engine.broker.effects import event_json
from engine.models import State

#: With the first lease every consumer is current. With the last one every consumer is stale and was just checked.
LEASE, MOMENT, NONE = 10_000.0, 1e-5, -1.0
DEATHS = ["it dies", "it dies", "it dies", "its consumer shuts down", "all consumers are lost"]

small_counts, minutes, either = st.integers(1, 3), st.integers(1, 4), st.booleans()
#: The most recently touched run is chosen more often than the rest, so that much happens to one run.
picks = st.sampled_from([0, 0, 0, 0, 1, 2, 5])
kinds = st.sampled_from(["plain", "slow", "lone", "lone", "once", "tick", "garbage"])
endings = st.sampled_from([*ENDINGS, "is dead-lettered", "is retried", *["is rescheduled"] * 4])
consumers, workers = st.sampled_from(["c1", "c2"]), st.sampled_from(["w1", "w2"])
targets = st.just([]) | st.lists(st.sampled_from(["", "plain", "slow", "lone"]), max_size=2, unique=True)


#: The operations: their weights, and their functions.
EVENTS: dict[str, tuple[int, dict[str, st.SearchStrategy[Any]]]] = {
    "enqueue": (4, {"kind": kinds, "priority": st.integers(0, 3), "delay": st.none() | minutes, "many": small_counts}),
    "work": (6, {"consumer": consumers, "worker": workers, "end": endings, "minute": minutes, "takes": either}),
    "work_and_die": (6, {"consumer": consumers, "worker": workers, "how": st.sampled_from(DEATHS)}),
    "take": (2, {"consumer": consumers, "worker": workers, "paused": targets}),
    "move_due": (3, {"minute": st.sampled_from([0, 1, 2, 3, 4, 100]), "limit": small_counts}),
    "finish_too_late": (3, {"pick": picks, "ending": endings, "minute": minutes, "takes": either}),
    "settle_again": (1, {"pick": picks}),
    "replay": (3, {"pick": picks, "which": picks, "later": either}),
    "command": (5, {"pick": picks, "rather": either}),
    "purge": (1, {"limit": small_counts}),
    "the_records_tell_the_same": (1, {}),
}
names = st.sampled_from([name for name, (often, _) in EVENTS.items() for _ in range(often)])
events = names.flatmap(lambda name: st.tuples(st.just(name), st.fixed_dictionaries(EVENTS[name][1])))


class StorageMachine(StorageSteps):
    """Adds deaths and operators' commands to the steps of producers, schedulers and workers."""

    @initialize(rates=either)
    def consumers_come_up(self, rates: bool) -> None:
        if rates:
            self.model.starts_left["slow"], self.limits = 2, self.queue.claimer.rate_limits_json
        for name, storage in self.theirs.items():
            storage.heartbeats.record(name, {})
        assert self.storage.deliveries.reap(MOMENT, MOST) == []

    @rule(event=events)
    def comes(self, event: tuple[str, dict[str, Any]]) -> None:
        """Combine all operations in one rule. Hypothesis omits some rules in each example, and they depend on each
        other.
        """
        name, details = event
        getattr(self, name)(**details)
        self.they_agree()

    def work(self, consumer: str, worker: str, end: str, minute: int, takes: bool) -> None:
        """End the message that a worker holds or claims, and optionally claim the next one in the same step."""
        self.take(consumer, worker, [])
        own_hands = [hand for hand in self.live_hands() if (hand.consumer, hand.worker) == (consumer, worker)]
        if own_hands:
            self.finish(own_hands[-1], end, minute, takes)

    def work_and_die(self, consumer: str, worker: str, how: str) -> None:
        self.take(consumer, worker, [])
        if how == "it dies":
            self.worker_dies(consumer, worker)
        elif how == "its consumer shuts down":
            self.consumer_shuts_down(consumer)
        else:
            self.consumers_are_lost()

    # --- deaths ----------------------------------------------------------------------------------------------

    def worker_dies(self, consumer: str, worker: str) -> None:
        held_runs = self.model.held_by(consumer, worker)
        assert self.storage.deliveries.release(consumer, worker, "it died", MOST) == len(held_runs)
        self.returned(held_runs, counts=True)

    def consumer_shuts_down(self, consumer: str) -> None:
        held_runs = self.model.held_by(consumer)
        assert self.theirs[consumer].deliveries.release(consumer, None, "shutdown", MOST, counts=False) == len(
            held_runs
        )
        self.returned(held_runs, counts=False)

    def consumers_are_lost(self) -> None:
        """Let all consumers be lost. The first checks return no runs, the last one returns all held runs."""
        assert self.storage.deliveries.reap(LEASE, MOST) == []
        assert self.storage.deliveries.reap(MOMENT, MOST) == []
        held_runs = self.model.at(HELD)
        assert set(self.storage.deliveries.reap(NONE, MOST)) == {run.consumer for run in held_runs}
        self.returned(held_runs, counts=True)

    def returned(self, held_runs: list[Run], counts: bool) -> None:
        for run in held_runs:
            self.model.touch(run).returns(counts)

    # --- commands --------------------------------------------------------------------------------------------

    def command(self, pick: int, rather: bool) -> None:
        """Run a command. A command that does not fit the run's place must be refused."""
        if not self.model.runs:
            return
        run = self.model.touch(choose(self.model.runs.values(), pick))
        if run.place != DEAD:
            assert not self.storage.dead_letters.requeue(run.id)
            assert not self.storage.dead_letters.discard(run.id)
        if run.place == DEAD and rather:
            self.requeue(run)
        elif run.place == DEAD:
            self.discard(run)
        elif run.place == ENDED and run.readable and rather:
            self.retry(run)
        elif rather:
            self.cancel(run)

    def cancel(self, run: Run) -> None:
        answer = self.storage.messages.cancel(run.id, "vera")
        assert answer == {WAITING: "removed", SCHEDULED: "removed", HELD: "running"}.get(run.place, "unknown")
        if answer == "removed":
            run.ends(State.CANCELLED)
        elif answer == "running":
            run.marked = True

    def discard(self, run: Run) -> None:
        assert self.storage.messages.cancel(run.id, "vera") == "unknown"
        assert self.storage.dead_letters.discard(run.id)
        run.ends(State.DEAD)

    def requeue(self, run: Run) -> None:
        before = time.time()
        assert self.storage.dead_letters.requeue(run.id)
        run.is_brought_back(arrival_bounds(before))

    def retry(self, run: Run) -> None:
        """Retry an ended run under its id, with the next attempt and the next delivery."""
        before = time.time()
        task = self.queue.deserialize_task(run.wires[-1])
        task.envelope, task.eta = task.envelope._replace(attempt=run.attempt + 1), None
        effects = self.queue.enqueue_effects(task, delivered=run.deliveries)
        effects.event(event_json("requeued", run.id, before, by="vera", attempt=run.attempt + 1))
        self.storage.messages.clear_finished(run.id)
        assert self.storage.messages.write(effects) == [run.id]
        self.model.results.pop(run.id, None)
        run.is_tried_again(effects.messages[0].data)
        run.is_brought_back(arrival_bounds(before))

    def purge(self, limit: int) -> None:
        waiting = self.model.at(WAITING)
        assert self.storage.messages.purge("vera", limit) == min(limit, len(waiting))
        left = self.ids(self.storage.messages.waiting())
        for run in waiting:
            if run.id not in left:
                run.ends(State.CANCELLED)
