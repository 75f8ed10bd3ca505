"""HeartbeatSender: sends the heartbeat of a consumer with its state to the broker."""

import time
from collections.abc import Mapping, Sequence
from ctypes import c_double

from engine.back_off import BackOff
from engine.book_folder import read_folder_id
from engine.exceptions import BrokerUnavailable
from engine.queues.queue import BEAT_SECONDS, Queue
from engine.worker.resource_usage import UsageMeter
from engine.worker.worker_slot import WorkerSlot


class HeartbeatSender:
    """Sends heartbeats. `facts` never change. `scheduler_at` and `quiet_at` are shared: Unix seconds, or 0."""

    def __init__(
        self,
        queue: Queue,
        consumer: str,
        facts: Mapping[str, object],
        slots: Sequence[WorkerSlot],
        scheduler_at: c_double,
        quiet_at: c_double,
    ) -> None:
        self.queue, self.consumer, self.facts, self.slots = queue, consumer, facts, slots
        self.scheduler_at, self.quiet_at = scheduler_at, quiet_at
        self.usage, self.back_off = UsageMeter(), BackOff("The heartbeat")
        self.next_at = 0.0  # monotonic

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self.next_at

    def beat(self) -> None:
        self.next_at = time.monotonic() + BEAT_SECONDS
        self.send()

    def send(self, **extra: object) -> None:
        info = {
            **self.facts,
            "scheduler_at": self.scheduler_at.value or None,
            "processed": sum(slot.tally[0] for slot in self.slots),
            "failed": sum(slot.tally[1] for slot in self.slots),
            "quiet_at": self.quiet_at.value or None,
            "book_folder": read_folder_id(),
            **self.usage.sample(self.pids),
            **extra,
        }
        try:
            self.queue.storage.heartbeats.record(self.consumer, info)
            self.back_off.succeeded()
        except BrokerUnavailable as error:
            self.back_off.failed(error)

    @property
    def pids(self) -> dict[str, int]:
        return {slot.name: slot.pid for slot in self.slots if slot.pid}
