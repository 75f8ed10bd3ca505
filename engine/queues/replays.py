"""Messages of settled attempts that were put back into the broker. They do not run.

Three records are asked, the cheapest first:

1. the memory of this consumer: the attempts that its workers have settled. It is shared with their parent, so it
   outlives a worker, and holds the newest BUCKETS × BUCKET_SIZE at most.
2. the broker: results, and ends without one. A writer to the broker can delete them.
3. the database: ends of runs, which the recorder writes shortly after them. It is asked for every message that is older
   than FRESH_SECONDS or older than this process, for many waiting messages at once.

An attempt settled by another consumer is missed if its marks in the broker are deleted and its message is put back
within the seconds until the recorder has written it, or if its event is deleted before. While the database is
unavailable the first two records decide. A run that the history has deleted is unknown to it.
"""

import logging
import mmap
import time
from collections.abc import Sequence
from typing import NamedTuple

from engine.broker.deliveries import Delivery
from engine.broker.messages import Envelope
from engine.database import database, release_connection
from engine.models import DISCARDED, LOST_ERROR, Run, State
from engine.outages import DATABASE_ERRORS
from engine.queues.interfaces import TaskQueue

logger = logging.getLogger(__name__)

BUCKETS, BUCKET_SIZE = 1 << 14, 4
#: A younger message is checked without the database. Its answers are used for up to twice as long.
FRESH_SECONDS = 2.0
#: Waiting messages that one statement checks.
LOOKAHEAD = 2000
#: How long a worker waits at most for another one that checks the waiting messages.
LOOKAHEAD_SECONDS = 0.5
#: How long the database is left alone after an error.
OUTAGE_SECONDS = 30.0

ENDED_ATTEMPT = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED)


class RecordedRun(NamedTuple):
    """`ended_at`: Unix seconds, None for a run without a settled end. `attempt`: the last settled one, 0 for none."""

    ended_at: float | None
    attempt: int


class SharedSet:
    """Hashes of pairs in memory that forked workers share. A new one replaces the oldest of its bucket.

    With buckets of one, a few percent of some thousand runs would be lost, and each would cost one more query.
    """

    def __init__(self) -> None:
        self.slots = memoryview(mmap.mmap(-1, BUCKETS * BUCKET_SIZE * 8)).cast("q")

    def add(self, run_id: str, number: int) -> None:
        key, slots = hash((run_id, number)), self.slots
        start = key % BUCKETS * BUCKET_SIZE
        slots[start + 1 : start + BUCKET_SIZE] = slots[start : start + BUCKET_SIZE - 1]
        slots[start] = key

    def has(self, run_id: str, number: int) -> bool:
        key = hash((run_id, number))
        start = key % BUCKETS * BUCKET_SIZE
        return key in self.slots[start : start + BUCKET_SIZE].tolist()


class ReplayGuard:
    def __init__(self, queue: TaskQueue) -> None:
        self.queue = queue
        #: Settled attempts, and runs without a settled attempt in the database with the period of that answer.
        self.memory, self.cleared = SharedSet(), SharedSet()
        #: When a worker began to check the waiting messages, Unix seconds. 0: none does at the moment.
        self.lookahead_began_at = memoryview(mmap.mmap(-1, 8)).cast("d")
        self.started_at = time.time()
        #: This worker's last answers. None: the run has no settled attempt.
        self.answers: dict[str, RecordedRun | None] = {}
        self.answered_at = self.next_query_at = 0.0

    def is_replay(self, taken: Delivery, envelope: Envelope) -> bool:
        """Return true if this attempt of the run has been settled."""
        run_id, attempt, now = taken.run_id, envelope.attempt, time.time()
        if self.memory.has(run_id, attempt):
            return True
        if taken.is_marked and self.queue.storage.messages.ended_attempt(run_id) >= attempt:
            return True
        enqueued_at = envelope.enqueued_at.timestamp()
        if not taken.is_marked and now - enqueued_at < FRESH_SECONDS and enqueued_at > self.started_at:
            return False
        run = self.recorded_run(run_id, now)
        return run is not None and (run.attempt >= attempt or (run.ended_at or 0) >= enqueued_at)

    def recorded_run(self, run_id: str, now: float) -> RecordedRun | None:
        """Return the recorded run of a message. One statement also checks the messages that wait behind it."""
        if now - self.answered_at <= FRESH_SECONDS and run_id in self.answers:
            return self.answers[run_id]
        if now < self.next_query_at or self.is_cleared(run_id, now):
            return None
        if not self.wait_for_lookahead():
            self.look_ahead(run_id, now)
        elif self.is_cleared(run_id, now):
            return None
        else:  # claimed while the other worker looked ahead
            self.query([run_id], now)
        return self.answers.get(run_id)

    def is_cleared(self, run_id: str, now: float) -> bool:
        period = int(now / FRESH_SECONDS)
        return self.cleared.has(run_id, period) or self.cleared.has(run_id, period - 1)

    def wait_for_lookahead(self) -> bool:
        """Wait for the worker that checks the waiting messages at the moment. False if there is none."""
        has_waited = False
        while 0 <= time.time() - self.lookahead_began_at[0] < LOOKAHEAD_SECONDS:
            has_waited = True
            time.sleep(0.002)
        return has_waited

    def look_ahead(self, run_id: str, now: float) -> None:
        self.lookahead_began_at[0] = now
        try:
            self.query([run_id, *self.queue.storage.messages.waiting_ids(LOOKAHEAD)], now)
        finally:
            self.lookahead_began_at[0] = 0

    def query(self, ids: Sequence[str], now: float) -> None:
        try:
            recorded = select_recorded_runs(ids)
        except DATABASE_ERRORS as error:
            logger.warning("Messages are not checked for replays while the database is unavailable: %s", error)
            self.answers, self.next_query_at = {}, now + OUTAGE_SECONDS
            release_connection()
            return
        self.answers, self.answered_at = dict.fromkeys(ids) | recorded, now
        period = int(now / FRESH_SECONDS)
        for run_id in self.answers.keys() - recorded.keys():
            self.cleared.add(run_id, period)


def select_recorded_runs(ids: Sequence[str]) -> dict[str, RecordedRun]:
    """Return the recorded runs among these. A run that was lost and has come back has no settled end.

    A dead run has one only if it was discarded. Runs that have not begun are left out.
    """
    marks, states = ", ".join([database.param] * len(ids)), ", ".join(f"'{state}'" for state in ENDED_ATTEMPT)
    not_lost = f"coalesce(error, '') <> {database.param}"
    rows = database.execute_sql(
        f"SELECT id, CASE WHEN state IN ({states}) AND {not_lost} OR error LIKE {database.param} THEN ended_at END,"
        " (SELECT max(attempt)"
        f" FROM dewey_attempts WHERE run_id = dewey_runs.id AND state IN ({states}) AND {not_lost})"
        f" FROM dewey_runs WHERE id IN ({marks}) AND (ended_at IS NOT NULL OR attempts > 0)",
        [LOST_ERROR, f"{DISCARDED}%", LOST_ERROR, *ids],
    ).fetchall()
    to_datetime = Run.ended_at.python_value
    return {
        run_id: RecordedRun(ended_at and to_datetime(ended_at).timestamp(), attempt or 0)
        for run_id, ended_at, attempt in rows
    }
