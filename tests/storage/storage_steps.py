"""The steps of producers, schedulers and workers."""

import time
from collections.abc import Callable

import pytest
from storage_fixtures import Hand, StorageMachineBase, choose, numbers
from storage_model import DEAD, HELD, SCHEDULED, WAITING, Run

from engine.broker.deliveries import Delivery, FinishedRun, MissingTask
from engine.broker.effects import Effects
from engine.broker.message_header import parse_header
from engine.broker.messages import FinalResult
from engine.exceptions import CancelRequested
from engine.models import State
from engine.queues.execution import Execution

ENDINGS = {
    "succeeds": State.SUCCEEDED,
    "enqueues more": State.SUCCEEDED,
    "fails": State.FAILED,
    "is cancelled": State.CANCELLED,
    "expires": State.EXPIRED,
    "is retried": State.RETRYING,
    "is retried later": State.RETRYING,
    "is dead-lettered": State.DEAD,
    "is rescheduled": State.SCHEDULED,
}
PUT_OFF = MissingTask("tasks.missing", "machine@here", "c2", "some version")
#: The largest number of runs that can be kept in motion.
MAX_UNFINISHED = 6


class StorageSteps(StorageMachineBase):
    # --- enqueuing -------------------------------------------------------------------------------------------

    def enqueue(self, kind: str, priority: int, delay: int | None, many: int) -> None:
        if len(self.model.at(WAITING, SCHEDULED, HELD)) > MAX_UNFINISHED:
            return
        if kind == "once":
            self.enqueue_once(f"name{many}")
        elif kind == "tick":
            self.tick(many)
        elif kind == "garbage":
            self.put_garbage()
        else:
            self.enqueue_tasks(kind, priority, delay, many)

    def enqueue_tasks(self, kind: str, priority: int, delay: int | None, many: int) -> None:
        effects = Effects()
        for _ in range(many):
            effects.merge(self.queue.enqueue_effects(self.task(kind, priority=priority, delay=delay)))
        self.accepted(effects, lambda: self.storage.messages.write(effects))

    def put_garbage(self) -> None:
        run_id = self.next_id()
        effects = Effects().enqueue(run_id, f"not a message {run_id}".encode())
        self.accepted(effects, lambda: self.storage.messages.write(effects))

    def enqueue_once(self, name: str) -> None:
        """Enqueue a chord's callback. Its id is fixed, and two of its members may both send it."""
        task = self.task("plain", id=f"{self.queue.name}-{name}")
        effects = self.queue.enqueue_effects(task, once=name)
        if name in self.model.once:
            assert self.storage.messages.write(effects) == [task.id]
        else:
            self.model.once.add(name)
            self.accepted(effects, lambda: self.storage.messages.write(effects))

    def tick(self, minute: int) -> None:
        effects = self.queue.enqueue_effects(self.task("plain"))
        if minute <= self.model.last_tick:
            assert not self.storage.ticks.record("plain", minute, effects)
            self.refused.add(effects.messages[0].run_id)
        else:
            self.model.last_tick = minute
            self.accepted(effects, lambda: self.storage.ticks.record("plain", minute, effects) and None)
        assert self.storage.ticks.last() == {"plain": self.model.last_tick}

    def accepted(self, effects: Effects, step: Callable[[], list[str] | None]) -> None:
        """Run the step and record the messages that it must have stored."""
        before = time.time()
        kept = step()
        for number, posted in enumerate(effects.messages):
            rivals = self.model.of_name(posted.unique)
            came_in = kept[number] == posted.run_id if kept else self.storage.messages.get(posted.run_id) is not None
            assert came_in or rivals
            assert not came_in or all(run.brought_back for run in rivals)
            if came_in:
                readable = not posted.data.startswith(b"not a message")
                task = str(self.queue.deserialize_task(posted.data).name) if readable else "?"
                run = Run(posted.run_id, task, [posted.data], readable, posted.unique, posted.priority)
                self.model.touch(run).is_posted(posted.due, arrival_bounds(before))
            else:
                assert not kept or kept[number] in [run.id for run in rivals]
                self.refused.add(posted.run_id)

    # --- scheduling ------------------------------------------------------------------------------------------

    def move_due(self, minute: int, limit: int) -> None:
        now = self.start + minute * 60
        moved = self.storage.messages.enqueue_due(now, limit)
        due = [run for run in self.model.at(SCHEDULED) if run.due <= now]
        assert moved == min(len(due), limit)
        left = self.ids(self.storage.messages.scheduled())
        gone, kept = [run for run in due if run.id not in left], [run for run in due if run.id in left]
        assert len(gone) == moved
        assert all(moved_run.due <= other.due for moved_run in gone for other in kept)
        for run in gone:
            self.model.touch(run).waits(run.since)

    # --- working ---------------------------------------------------------------------------------------------

    def take(self, consumer: str, worker: str, paused: list[str]) -> None:
        for what in paused:
            self.storage.pauses.put(what, {"by": "vera"})
        self.model.paused.update(paused)
        assert self.storage.pauses.all().keys() == set(paused)
        held_runs = self.model.held_by(consumer, worker)
        turn = self.theirs[consumer].deliveries.settle_and_claim(consumer, worker, bool(held_runs), self.limits)
        assert turn.settled
        self.handed_out(consumer, worker, turn.claimed)
        for what in paused:
            assert self.storage.pauses.remove(what)
            assert not self.storage.pauses.remove(what)
        self.model.paused.clear()

    def finish(self, hand: Hand, ending: str, minute: int, takes: bool) -> None:
        """Let a worker settle its run and store the follow-up runs."""
        run = self.forget(hand)
        if ending == "is rescheduled" and run.readable:
            self.put_off(run, hand, minute)
            return
        if ending == "is dead-lettered" or not run.readable:
            self.theirs[hand.consumer].deliveries.dead_letter(hand.consumer, hand.taken, "the message cannot run")
            run.place = DEAD
            return
        if run.marked and ending != "is cancelled":
            with pytest.raises(CancelRequested, match="vera"):
                self.settle(hand, self.done(hand.taken, ending, minute), takes)
            self.they_agree()
            ending = "is cancelled"
        done, before, answers = self.done(hand.taken, ending, minute), time.time(), []
        further = Effects()
        further.messages = [posted for posted in done.effects.messages if posted.run_id != run.id]
        run.ends(ENDINGS[ending])
        self.accepted(further, lambda: answers.append(self.settle(hand, done, takes)))
        [(settled, taken)] = answers
        assert settled
        self.model.results.update(done.effects.results)
        for posted in done.effects.messages:
            if posted.run_id == run.id:
                run.is_tried_again(posted.data)
                run.is_posted(posted.due, arrival_bounds(before))
        if takes:
            self.handed_out(hand.consumer, hand.worker, taken)

    def put_off(self, run: Run, hand: Hand, minute: int) -> None:
        """Defer the run because the consumer does not have its task. In the last minute there is no grace."""
        why, grace = PUT_OFF._replace(task=parse_header(hand.taken.data).task), minute % 4 * 60
        state = self.theirs[hand.consumer].deliveries.defer(hand.consumer, hand.taken, why, grace)
        if grace:
            assert state == "scheduled"
            run.is_put_off(self.storage.messages.missing_task(run.id).until)
        else:
            assert state == "dead"
            run.place = DEAD

    def finish_too_late(self, pick: int, ending: str, minute: int, takes: bool) -> None:
        """Settle a run that was taken from the worker in the meantime. The call must have no effect."""
        if not self.late_hands():
            return
        hand = choose(self.late_hands(), pick)
        run = self.forget(hand)
        if ending == "is rescheduled":
            assert self.theirs[hand.consumer].deliveries.defer(hand.consumer, hand.taken, PUT_OFF, minute) == ""
            return
        if ending == "is dead-lettered" or not run.readable:
            self.theirs[hand.consumer].deliveries.dead_letter(hand.consumer, hand.taken, "the message cannot run")
            return
        done = self.done(hand.taken, ending, minute)
        self.refused |= {posted.run_id for posted in done.effects.messages} - {run.id}
        takes = takes and not self.model.held_by(hand.consumer, hand.worker)
        settled, taken = self.settle(hand, done, takes)
        assert not settled
        if takes:
            self.handed_out(hand.consumer, hand.worker, taken)

    def settle_again(self, pick: int) -> None:
        """Settle again after a lost reply. The repetition must have no effect."""
        if self.sent:
            consumer, done = choose(self.sent, pick)
            assert not self.theirs[consumer].deliveries.settle(consumer, done)

    def replay(self, pick: int, which: int, later: bool) -> None:
        """Replay an old message of a run. The call must have no effect in any state of the run."""
        if readable_runs := [run for run in self.model.runs.values() if run.readable]:
            wire = choose(choose(readable_runs, pick).wires, which)
            if later:
                self.storage.add_to_schedule(wire, self.instant(1))
            else:
                self.storage.enqueue(wire)

    def settle(self, hand: Hand, done: FinishedRun, takes: bool) -> tuple[bool, Delivery | None]:
        self.sent.append((hand.consumer, done))
        if not takes:
            return self.theirs[hand.consumer].deliveries.settle(hand.consumer, done), None
        turn = self.theirs[hand.consumer].deliveries.settle_and_claim(
            hand.consumer, hand.worker, False, self.limits, done
        )
        return turn.settled, turn.claimed

    def handed_out(self, consumer: str, worker: str, taken: Delivery | None) -> None:
        """Verify the claimed run: one that the worker holds, or the first that may start."""
        self.note_who_was_put_off()
        held_runs, may_start = self.model.held_by(consumer, worker), self.model.may_start(consumer)
        if taken is None:
            assert not held_runs and not may_start
            return
        run = self.model.touch(self.model.runs[taken.run_id])
        if held_runs:
            assert run in held_runs
        else:
            assert run in may_start and self.model.may_go_first(run, may_start)
            run.is_held(consumer, worker)
            if run.task in self.model.starts_left:
                self.model.starts_left[run.task] -= 1
        assert (taken.delivery, taken.data) == (run.deliveries, run.wires[-1])
        self.hands.append(Hand(consumer, worker, taken))

    def note_who_was_put_off(self) -> None:
        """Record the runs that may have been deferred by their rate limit, until the first start is an hour old."""
        later = self.ids(self.storage.messages.scheduled())
        for run in self.model.at(WAITING):
            if run.id in later and not self.model.starts_left.get(run.task, 1):
                run.place, run.due = SCHEDULED, self.start + 3601

    def done(self, taken: Delivery, ending: str, minute: int) -> FinishedRun:
        task = self.queue.deserialize_task(taken.data)
        execution = Execution(task, taken)
        execution.state = ENDINGS[ending]
        if execution.state == State.RETRYING:
            task.envelope = task.envelope._replace(attempt=task.envelope.attempt + 1)
            task.eta = self.instant(minute).replace(tzinfo=None) if ending == "is retried later" else None
            execution.effects.merge(self.queue.enqueue_effects(task))
        elif ending == "enqueues more":
            for kind in ("plain", task.name):
                execution.effects.merge(self.queue.enqueue_effects(self.task(kind, *task.args, delay=minute)))
        if ending in ("succeeds", "enqueues more", "fails"):
            result = FinalResult(next(numbers), execution.attempt, taken.run_id)
            execution.effects.result(taken.run_id, self.queue.sign_value(taken.run_id, result))
        execution.finalize("another worker", "some version")
        assert execution.finished
        return execution.finished


def arrival_bounds(before: float) -> tuple[float, float]:
    """Return two bounds for the arrival time of a message that was just sent."""
    return before, time.time() + 1e-3
