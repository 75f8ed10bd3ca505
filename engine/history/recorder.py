"""The Recorder, a thread beside the scheduler. A separate process would cost every consumer five megabytes."""

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
from engine.history import upgrade, writer
from engine.history.forged_entries import ForgedEntryCheck
from engine.history.lost_runs import LostRunCheck
from engine.queues.queue import Queue

#: Half the heartbeat interval, so that heartbeats reach the database soon.
SHUTDOWN_SECONDS = min(1.0, settings.lease_seconds / 6)
#: The recorder yields to tasks. If the cores do not suffice for both, the history lags and catches up later.
RECORDER_NICE = 10
#: How long the recorder waits to batch events, and how long it yields while tasks are queued.
GATHER_SECONDS, GIVE_WAY_SECONDS = 0.1, 1.0

#: Batches between two writes of the heartbeats. Events that must be set aside take several ms each.
SYNC_BATCHES = 10


class Recorder(threading.Thread):
    """Writes the history and the consumers' rows. A write that is cut off is rolled back and repeated."""

    is_upgraded = False
    written: list[Heartbeat] | None = None  # the heartbeats that were written last

    def __init__(self, queue: Queue, stop_flag: Event) -> None:
        super().__init__(name="Recorder", daemon=True)
        self.queue, self.stop_flag = queue, stop_flag
        self.back_off = BackOff("The recorder", longest_pause=5.0)
        self.lost_runs, self.forged_entries = LostRunCheck(queue), ForgedEntryCheck(queue)

    def run(self) -> None:
        with suppress(OSError):
            # Linux applies this priority to the thread only.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), RECORDER_NICE)
        patience = 0.01  # short at first: a new consumer should appear in the database soon
        self.attempt(limit_page_cache)
        while not self.stop_flag.is_set():
            # Two steps: a failed wait must not prevent the write.
            gathered = self.attempt(partial(self.wait_for_batch, patience))
            if self.attempt(self.record) and gathered:
                self.back_off.succeeded()
            patience = SHUTDOWN_SECONDS
        with suppress(Exception):
            release_connection()

    def attempt(self, step: Callable[[], None]) -> bool:
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
        until = time.monotonic() + GIVE_WAY_SECONDS
        self.queue.storage.events.wait(writer.stream_position(self.queue), patience)
        while not self.stop_flag.wait(GATHER_SECONDS) and time.monotonic() < until and self.has_backlog():
            pass

    def has_backlog(self) -> bool:
        return bool(self.queue.storage.messages.count_waiting(1))

    def record(self) -> None:
        if not self.is_upgraded:
            upgrade.note_upgrade(self.queue)
            self.is_upgraded = True
        self.forged_entries.check()
        written = writer.BATCH * SYNC_BATCHES
        while written >= writer.BATCH * SYNC_BATCHES and not self.stop_flag.is_set():
            written = writer.flush_events(self.queue, SYNC_BATCHES)
            self.written = writer.sync_consumers(self.queue, self.written)
        self.lost_runs.check()

    def drop_oldest_events(self) -> None:
        self.queue.storage.events.drop_oldest(writer.MAX_PENDING)
