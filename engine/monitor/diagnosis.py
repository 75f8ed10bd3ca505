"""Why a run is not running: one answer from broker, consumers and history. Read-only."""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from huey.api import Task

from config import settings
from engine.broker.deliveries import HeldMessage, MessageLocation, MissingTask
from engine.exceptions import BrokerUnavailable, InvalidMessage
from engine.history import writer
from engine.models import ENDED, Consumer, Run, State, now
from engine.monitor.consumers import LEASE_TIME, full_worker_name, list_consumers, live_consumers, running_consumers
from engine.monitor.registered_tasks import registered_classes
from engine.queues.queue import Queue, Queues
from engine.queues.task import QueueTask
from engine.version import code_version

#: The error of `lock_task` if the lock is taken, as stored with a run.
LOCKED = re.compile(r"TaskLockedException: unable to acquire lock (.+)")

#: A scheduler looks every second. A run due for longer than this was not enqueued as it should be.
OVERDUE = timedelta(seconds=5)

MAX_NAMED = 3


#: The keys depend on the kind.
Facts = dict[str, Any]


class Cause(NamedTuple):
    """A reason why a run waits. `kind` and its `facts`, with aware times:

    ended         state, at, error
    running       worker, since, cancelled_by     cancelled_by: a user has requested its interruption
    broker_away
    record_behind                                 the history is catching up with the broker
    lost          state                           in the history, but missing from the broker
    cancelled     task, until                     by Huey's `revoke` in code; with a task: all of its runs
    older_code    task, consumer, worker_id, version, since, until     a consumer whose code lacks the task returned it
    task_unknown  task, code_version, workers     the code versions of the consumers of its queue
    queue_unknown queue
    queue_paused  queue, by, at, reason
    task_paused   task, queue, by, at, reason
    no_worker     queue, wanted, last, state, seen_at     the consumer with the latest heartbeat, if any
    scheduled     due_at
    retry_due     due_at, attempt, retries, error
    rate_limited  task, limit, due_at
    overdue       due_at, looked_at               due, but no scheduler has enqueued it
    lock_held     lock, task, run_id, worker, since       without a run: the holder is unknown
    lock_free     lock                            the last attempt could not acquire it; it is free now
    ahead         count, queue
    busy          queue, workers, runs            [{run_id, task, worker, since}], the longest first
    next          queue, free                     ready to run
    """

    kind: str
    facts: Facts


def diagnose(queues: Queues, run: Run) -> list[Cause]:
    if run.state in ENDED:
        return [Cause("ended", {"state": str(run.state), "at": run.ended_at, "error": run.error})]
    queue = queues.get(run.queue)
    if queue is None:
        return [Cause("queue_unknown", {"queue": run.queue})]
    try:
        return RunDiagnosis(queue, run).causes()
    except BrokerUnavailable:
        return [Cause("broker_away", {})]


class RunDiagnosis:
    def __init__(self, queue: Queue, run: Run) -> None:
        self.queue, self.run, self.storage = queue, run, queue.storage
        self.held: list[HeldMessage] = self.storage.deliveries.held()
        self.place: MessageLocation | None = self.storage.messages.locate(run.id)

    def causes(self) -> list[Cause]:
        for held in self.held:
            if held.run_id == self.run.id:
                return [self.running(held)]
        if self.place is None or self.place.state == "dead":
            return [self.check_missing()]
        consumers = list_consumers()
        self.serving = live_consumers(consumers, self.queue.name)
        put_off = self.put_off()
        self.due = None if put_off else self.due_at()
        later = self.later() if self.due and self.due > now() else []
        obstacles = [*self.paused(), *self.unknown(), *self.no_worker(consumers), *self.overdue(), *self.locked()]
        causes = [*self.cancelled(), *later, *put_off, *obstacles]
        return causes if later else [*causes, *self.queue_position(is_next=not causes)]

    def running(self, held: HeldMessage) -> Cause:
        by = self.storage.deliveries.cancelled().get(held.run_id)
        since = from_timestamp(held.held_at)
        return Cause("running", {"worker": f"{held.worker} on {held.consumer}", "since": since, "cancelled_by": by})

    def check_missing(self) -> Cause:
        """Return the cause for a run missing from the broker: its end is not written yet, or it is lost."""
        behind = self.storage.events.read(writer.stream_position(self.queue), 1)
        as_it_is = Run.get_or_none(Run.id == self.run.id)
        if behind or as_it_is is None or as_it_is.state != self.run.state:
            return Cause("record_behind", {})
        return Cause("lost", {"state": str(self.run.state)})

    # --- later -----------------------------------------------------------------------------------------------

    def due_at(self) -> datetime | None:
        if self.run.state == State.WAITING or (self.place and self.place.state == "waiting"):
            return None
        due: datetime | None = self.run.due_at
        return due

    def later(self) -> list[Cause]:
        run = self.run
        if run.state == State.RETRYING:
            facts = {"attempt": run.attempts + 1, "retries": run.retries, "error": run.error}
            return [Cause("retry_due", {"due_at": self.due, **facts})]
        if (limit := self.task_class and self.task_class.rate_limit) and not is_scheduled_for_later(self.queue, run.id):
            return [Cause("rate_limited", {"task": run.task, "limit": limit, "due_at": self.due})]
        return [Cause("scheduled", {"due_at": self.due})]

    def overdue(self) -> list[Cause]:
        if not (self.due and self.serving and now() - self.due > OVERDUE):
            return []
        looked = max((consumer.scheduler_at for consumer in self.serving if consumer.scheduler_at), default=None)
        return [Cause("overdue", {"due_at": self.due, "looked_at": looked})]

    # --- obstacles -------------------------------------------------------------------------------------------

    def cancelled(self) -> list[Cause]:
        """Return the revocation by Huey's `revoke` in code. It applies at the next claim, a cancel at once."""
        keys: dict[str, str | None] = {Task(id=self.run.id).revoke_id: None}
        if self.task_class:
            keys[self.queue._task_key(self.task_class, "rt")] = self.run.task
        for key, stored in self.storage.peek_many(list(keys)).items():
            with suppress(InvalidMessage):
                if not self.queue._check_revoked(stored)[0]:
                    continue
                until, _once = self.queue.serializer.deserialize(stored)
                return [Cause("cancelled", {"task": keys[key], "until": until and until.replace(tzinfo=UTC)})]
        return []

    @property
    def task_class(self) -> type[QueueTask] | None:
        return next((task for task in registered_classes(self.queue) if task.__name__ == self.run.task), None)

    def paused(self) -> list[Cause]:
        pauses, queue, task = self.queue.pauses(), self.queue.name, self.run.task
        causes = []
        if "" in pauses:
            causes.append(Cause("queue_paused", {"queue": queue, **pause_facts(pauses[""])}))
        if task in pauses:
            causes.append(Cause("task_paused", {"task": task, "queue": queue, **pause_facts(pauses[task])}))
        return causes

    def put_off(self) -> list[Cause]:
        is_scheduled = self.place is not None and self.place.state == "scheduled"
        put_off: MissingTask | None = self.storage.messages.missing_task(self.run.id) if is_scheduled else None
        if put_off is None:
            return []
        facts = {
            "task": put_off.task,
            "consumer": put_off.consumer,
            "worker_id": put_off.consumer_id,
            "version": put_off.version,
            "since": from_timestamp(put_off.met_at),
            "until": from_timestamp(put_off.until),
        }
        return [Cause("older_code", facts)]

    def unknown(self) -> list[Cause]:
        if self.task_class:
            return []
        versions = sorted({consumer.code_version for consumer in self.serving})
        facts = {"task": self.run.task, "code_version": code_version(), "workers": versions}
        return [Cause("task_unknown", facts)]

    def no_worker(self, consumers: Sequence[Consumer]) -> list[Cause]:
        if self.serving:
            return []
        name = self.queue.name
        last = next((consumer for consumer in consumers if consumer.queue == name), None)
        facts = {
            "queue": name,
            "wanted": settings.workers.get(name, 1) > 0,
            "last": last and full_worker_name(last),
            "state": last
            and ("quiet" if last in running_consumers(consumers, name) else last.state(now(), LEASE_TIME)),
            "seen_at": last and (last.stopped_at or last.beat_at),
        }
        return [Cause("no_worker", facts)]

    def locked(self) -> list[Cause]:
        """Return the lock that its last attempt could not acquire, or one held by another run of the task."""
        locks = self.storage.locks.all()
        holders = {(held.consumer, held.worker): held for held in self.held}
        if match := LOCKED.match(self.run.error or ""):
            name = match[1]
            if name not in locks:
                return [Cause("lock_free", {"lock": name})]
            return [is_lock_held(name, holders.get(locks[name][1:]))]
        for name, (_owner, consumer, worker) in locks.items():
            holder = holders.get((consumer, worker))
            if holder and holder.task == self.run.task:
                return [is_lock_held(name, holder)]
        return []

    # --- position --------------------------------------------------------------------------------------------

    def queue_position(self, is_next: bool) -> list[Cause]:
        """Return what is ahead of it in the queue. `is_next`: there is no other cause."""
        ahead, busy = self.ahead(), self.busy()
        if busy or ahead or not (is_next and self.serving):
            return [*ahead, *busy]
        free = self.worker_total() - len(self.held_by_serving())
        return [Cause("next", {"queue": self.queue.name, "free": free})]

    def ahead(self) -> list[Cause]:
        count = self.place.ahead if self.place else 0
        return [Cause("ahead", {"count": count, "queue": self.queue.name})] if count else []

    def busy(self) -> list[Cause]:
        held, total = self.held_by_serving(), self.worker_total()
        if not self.serving or len(held) < total:
            return []
        longest = sorted(held, key=lambda run: run.held_at)[:MAX_NAMED]
        runs = [
            {"run_id": run.run_id, "task": run.task, "worker": run.worker, "since": from_timestamp(run.held_at)}
            for run in longest
        ]
        return [Cause("busy", {"queue": self.queue.name, "workers": total, "runs": runs})]

    def held_by_serving(self) -> list[HeldMessage]:
        consumers = {consumer.id for consumer in self.serving}
        return [held for held in self.held if held.consumer in consumers]

    def worker_total(self) -> int:
        return sum(consumer.worker_count for consumer in self.serving)


def is_scheduled_for_later(queue: Queue, run_id: str) -> bool:
    try:
        letter = queue.serializer.deserialize_message(queue.name, queue.storage.messages.get(run_id) or b"")
    except InvalidMessage:
        return False
    return letter.message.eta is not None


def pause_facts(info: Facts) -> Facts:
    return {"by": info["by"], "at": datetime.fromisoformat(info["at"]), "reason": info.get("reason")}


def is_lock_held(name: str, holder: HeldMessage | None) -> Cause:
    facts: Facts = {"lock": name, "task": None, "run_id": None, "worker": None, "since": None}
    if holder:
        facts |= {
            "task": holder.task,
            "run_id": holder.run_id,
            "worker": holder.worker,
            "since": from_timestamp(holder.held_at),
        }
    return Cause("lock_held", facts)


def from_timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
