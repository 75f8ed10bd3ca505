"""Detection of heartbeats, pauses and positions of events in the broker that no program of ours has written."""

import time

from config import settings
from engine.broker.signing import Purpose
from engine.history import writer
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
        self.renew_stream()
        for beat in storage.heartbeats.all():
            if not beat.info:
                self.queue.report_forged("heartbeat", beat.consumer, "not signed for this consumer")
        for target, raw in storage.pauses.rows():
            if storage.entries.read(Purpose.PAUSE, target, raw) is None:
                self.queue.report_forged("pause", target or "everything", "not signed for this target")

    def renew_stream(self) -> None:
        """Replace a stream whose positions were moved. Its later events would not be read, or could not be stored."""
        events = self.queue.storage.events
        stream = events.stream()
        if events.renew(stream, int(writer.read_cursor(stream).position)):
            self.queue.report_forged("event stream", self.queue.name, "its positions were moved")
