"""The Recorder, a thread beside the scheduler: a process more would cost every consumer five megabytes."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Event

from config import settings
from engine.back_off import BackOff
from engine.broker.heartbeats import Heartbeat
from engine.database import limit_page_cache, release_connection
from engine.history import writer
from engine.history.lost_runs import LostRunCheck
from engine.queues.queue import Queue

#: Heartbeats come half as often, and what they say should be on record soon.
SHUTDOWN_SECONDS = min(1.0, settings.lease_seconds / 6)
#: History gives way to work: where there are not cores enough for both it lags, and catches up.
RECORDER_NICE = 10
#: What is reported together is written together; and while work waits, history waits, but no longer than the second.
GATHER_SECONDS, GIVE_WAY_SECONDS = 0.1, 1.0


class Recorder(threading.Thread):
    """Writes history and the consumers' records, whatever fails meanwhile. It ends with its process: what it was just
    writing is not on record then, and still in the stream.
    """

    written: list[Heartbeat] | None = None  # the heartbeats that were written last

    def __init__(self, queue: Queue, stop_flag: Event) -> None:
        super().__init__(name="Recorder", daemon=True)
        self.queue, self.stop_flag = queue, stop_flag
        self.back_off = BackOff("The recorder", longest_pause=5.0)
        self.lost_runs = LostRunCheck(queue)

    def run(self) -> None:
        with suppress(OSError):
            # To Linux this is the thread's own affair.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), RECORDER_NICE)
        patience = 0.01  # at first: that this consumer is there should be on record soon
        self.attempt(limit_page_cache)
        while not self.stop_flag.is_set():
            # Each by itself: what cannot be waited for can still be written.
            gathered = self.attempt(partial(self.wait_for_batch, patience))
            if self.attempt(self.record) and gathered:
                self.back_off.succeeded()
            patience = SHUTDOWN_SECONDS
        with suppress(Exception):
            release_connection()

    def attempt(self, step: Callable[[], None]) -> bool:
        """Whether it worked; after a failure this returns when it is time to try again."""
        try:
            step()
            return True
        except Exception as error:
            pause = self.back_off.failed(error)
        self.written = None
        for clearing_up in (release_connection, self.drop_oldest_events):
            with suppress(Exception):
                clearing_up()
        self.stop_flag.wait(pause)
        return False

    def wait_for_batch(self, patience: float) -> None:
        """Return when there is something to be written, or after so many seconds."""
        until = time.monotonic() + GIVE_WAY_SECONDS
        self.queue.storage.events.wait(writer.stream_position(self.queue), patience)
        while not self.stop_flag.wait(GATHER_SECONDS) and time.monotonic() < until and self.has_backlog():
            pass

    def has_backlog(self) -> bool:
        return bool(self.queue.storage.messages.count_waiting(1))

    def record(self) -> None:
        """Write all that there is."""
        written = writer.BATCH * writer.MOST_BATCHES
        while written >= writer.BATCH * writer.MOST_BATCHES and not self.stop_flag.is_set():
            written = writer.flush_events(self.queue)
            self.written = writer.sync_consumers(self.queue, self.written)
        self.lost_runs.check()

    def drop_oldest_events(self) -> None:
        self.queue.storage.events.drop_oldest(writer.MAX_PENDING)
