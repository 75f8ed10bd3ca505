"""Runs that are on record as waiting or running while the broker has nothing of them, as when it was emptied.

Each recorder asks about some of them now and then. What is lost goes into the stream of events in the step that finds
it missing, so it comes after everything that the broker reported of the run before.
"""

import time
from datetime import datetime, timedelta

from config import settings
from engine.models import ENDED, Run, State, now
from engine.queues.queue import Queue

CHECK_SECONDS = settings.lease_seconds
#: Younger runs are left alone.
MINIMUM_AGE = timedelta(seconds=settings.lease_seconds)
#: The broker is asked about so many runs of each state at a time, the oldest first; the next time about those after.
BATCH_SIZE = 200
ACTIVE_STATES = tuple(state for state in State if state not in ENDED)

ScanPosition = tuple[datetime, str]


class LostRunCheck:
    """How far one recorder has come with asking."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.places: dict[State, ScanPosition] = {}  # where the next look goes on
        self.next_look = 0.0

    def check(self) -> None:
        """Report what is lost, if it is time."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + CHECK_SECONDS
        for state in ACTIVE_STATES:
            runs = self.next_runs(state)
            if runs:
                self.queue.storage.messages.report_lost([run.id for run in runs])

    def next_runs(self, state: State) -> list[Run]:
        """The next runs in this state, of those that were enqueued a while ago."""
        in_state = (Run.queue == self.queue.name) & (Run.state == state)
        old = Run.select(Run.id, Run.enqueued_at).where(in_state & (Run.enqueued_at < now() - MINIMUM_AGE))
        query = old.order_by(Run.enqueued_at, Run.id).limit(BATCH_SIZE)
        if place := self.places.pop(state, None):
            at, run_id = place
            query = query.where((Run.enqueued_at >= at) & ((Run.enqueued_at > at) | (Run.id > run_id)))
        runs = list(query)
        if len(runs) == BATCH_SIZE:
            self.places[state] = runs[-1].enqueued_at, runs[-1].id
        return runs
