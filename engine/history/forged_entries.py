"""Detection of heartbeats and pauses in the broker that no program of ours has signed."""

import time

from config import settings
from engine.broker.signing import Purpose
from engine.queues.queue import Queue

CHECK_SECONDS = settings.lease_seconds


class ForgedEntryCheck:
    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.next_look = 0.0  # monotonic

    def check(self) -> None:
        """Report such entries. Each process reports an entry once."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + CHECK_SECONDS
        storage = self.queue.storage
        for beat in storage.heartbeats.all():
            if not beat.info:
                self.queue.report_forged("heartbeat", beat.consumer, "not signed for this consumer")
        for target, raw in storage.pauses.rows():
            if storage.entries.read(Purpose.PAUSE, target, raw) is None:
                self.queue.report_forged("pause", target or "everything", "not signed for this target")
