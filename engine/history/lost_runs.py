"""Detection of lost runs: unfinished in the database but missing from the broker, for example after it was emptied.

Each recorder regularly checks some runs. One broker step finds a missing run and appends the event `lost`. So the
event follows everything that the broker reported about the run before.
"""

import time
from datetime import datetime, timedelta

from config import settings
from engine.models import ENDED, Run, State, now
from engine.queues.queue import Queue

CHECK_SECONDS = settings.lease_seconds
#: Younger runs are not checked.
MINIMUM_AGE = timedelta(seconds=settings.lease_seconds)
#: Runs of each state per check, oldest first. The next check continues after them.
BATCH_SIZE = 200
ACTIVE_STATES = tuple(state for state in State if state not in ENDED)

ScanPosition = tuple[datetime, str]


class LostRunCheck:
    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.places: dict[State, ScanPosition] = {}  # where the next check continues
        self.next_look = 0.0

    def check(self) -> None:
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + CHECK_SECONDS
        for state in ACTIVE_STATES:
            runs = self.next_runs(state)
            if runs:
                self.queue.storage.messages.report_lost([run.id for run in runs])

    def next_runs(self, state: State) -> list[Run]:
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
