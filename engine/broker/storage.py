"""What a queue's storage consists of. Redis and SQLite each have these parts, with the same promises.

Every step is atomic: it is stored whole, or not at all. Each may raise BrokerUnavailable.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from engine.broker.deliveries import Delivery, FinishedRun, HeldMessage, MessageLocation, MissingTask, TurnResult
from engine.broker.effects import Effects
from engine.broker.heartbeats import Heartbeat
from engine.broker.parsing import Info

#: How long a revocation of a run is kept that the broker does not have, unless results are kept for longer.
REVOKED_SECONDS = 7 * 86400

#: The counter of events that were dropped unread.
DROPPED_COUNTER = "events dropped"


class Messages(Protocol):
    """The messages of runs, from being enqueued to being claimed."""

    def write(self, effects: Effects) -> list[str]:
        """Store messages, results and events. Very many new runs are written in several steps.

        Returns the ids under which the runs of its messages go on: an earlier run's where it is to be unique.
        """

    def enqueue_batch(self, messages: Iterable[tuple[str, bytes]], priority: float) -> None:
        """Store messages of new runs, by run id."""

    def enqueue_due(self, now: float, limit: int = 500) -> int:
        """Move what is due from the schedule to the queue. Returns how many moved."""

    def get(self, run_id: str) -> bytes | None: ...

    def locate(self, run_id: str) -> MessageLocation | None: ...

    def missing_task(self, run_id: str) -> MissingTask | None:
        """Return the task that a deferred message waits for; None where it is not deferred."""

    def count_waiting(self, limit: int = -1) -> int:
        """Return how many wait; a broker may stop counting at `limit`."""

    def count_scheduled(self) -> int: ...

    def oldest_waiting(self) -> float | None:
        """Return when the oldest waiting message was enqueued, or fell due (Unix seconds)."""

    def waiting(self, limit: int | None = None) -> list[bytes]: ...

    def scheduled(self, limit: int | None = None) -> list[bytes]: ...

    def delete_waiting(self) -> None: ...

    def delete_scheduled(self) -> None: ...

    def cancel(self, run_id: str, by: str) -> str:
        """Return `removed` where it waited or was scheduled, `running` where it is marked for its consumer to
        interrupt, or `unknown`.
        """

    def purge(self, by: str, limit: int = 1000) -> int:
        """Cancel the first `limit` that wait. Returns how many did."""

    def clear_finished(self, run_id: str) -> None:
        """Delete how a run ended: its result, and the mark that its attempts are finished."""

    def report_lost(self, ids: Sequence[str]) -> int:
        """Write an event for each of these runs that the broker does not have. Returns how many."""


class Deliveries(Protocol):
    """What workers have claimed and hold, until it is settled or released."""

    known_tasks: Collection[str]  # dotted; those that the code of this process has

    def settle_and_claim(
        self, consumer: str, worker: str, look_first: bool, limits: str, finished: FinishedRun | None = None
    ) -> TurnResult:
        """Settle the run before, if there is one, and claim the next message, in one step.

        With `look_first`, what this worker holds already comes first. `limits`: JSON of task → [starts, seconds], or
        empty. Raises CancelRequested.
        """

    def settle(self, consumer: str, finished: FinishedRun) -> bool:
        """Acknowledge a delivery and store its effects. False, and nothing stored, when it is not held any more.

        Raises CancelRequested.
        """

    def wait_for_work(self) -> None:
        """Return when there may be something to claim, or after the read timeout."""

    def dead_letter(self, consumer: str, claimed: Delivery, reason: str) -> None:
        """Make a message that cannot be run a dead letter."""

    def defer(self, consumer: str, claimed: Delivery, missing: MissingTask, grace: float) -> str:
        """Release a message for a consumer that has the task; it is dead when none has claimed it within the grace.

        Returns `scheduled`, `dead` when the grace is over, or empty when it is not held any more.
        """

    def release(
        self,
        consumer: str,
        worker: str | None,
        reason: str,
        max_deliveries: int,
        counts: bool = True,
        only: HeldMessage | Delivery | None = None,
    ) -> int:
        """Return what a worker (None: all of the consumer's) held to its place in the queue.

        A delivery `counts` when the worker died of it; one too many makes the message dead. With `only`, this delivery
        alone is released, and the worker keeps its locks.
        """

    def reap(self, lease: float, max_deliveries: int) -> list[str]:
        """Release what consumers hold whose heartbeat is older than the lease. Returns their ids.

        After an outage every heartbeat is old: unless there was a reap within a lease, half a lease goes by first.
        """

    def held(self) -> list[HeldMessage]: ...

    def cancelled(self) -> dict[str, str]:
        """Return the running runs that are to be cancelled, and by whom."""


class DeadLetters(Protocol):
    def all(self, limit: int = 1000) -> list[tuple[str, bytes]]:
        """Return run ids and messages."""

    def ids(self, limit: int, before: tuple[float, str] | None = None) -> list[tuple[str, float]]:
        """Return run ids and when they died (Unix seconds), newest first, after the place `before` in this order."""

    def count(self) -> int: ...

    def requeue(self, run_id: str) -> bool:
        """Enqueue it again, with its deaths forgiven. False where there is none."""

    def discard(self, run_id: str) -> bool: ...


class Results(Protocol):
    """Values by key: results, revocations, what consumers are ordered; and counters."""

    def put(self, key: str, value: bytes, expires: bool = False) -> None:
        """Store a value; one that `expires` is kept as long as a result."""

    def put_new(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Store a value for `ttl` seconds, unless there is one. Returns whether it was stored."""

    def revoke(self, run_id: str, data: bytes) -> None:
        """Store a revocation; it goes with the run, and expires where the broker does not have that."""

    def get(self, key: str) -> bytes | None: ...

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]: ...

    def all(self) -> dict[str, bytes]: ...

    def count(self) -> int: ...

    def has(self, key: str) -> bool: ...

    def wait(self, key: str, timeout: float | None = None) -> bool:
        """Wait until there is a value, or for `timeout` seconds. Returns whether there is one."""

    def delete(self, key: str) -> bool: ...

    def delete_expired(self) -> int: ...

    def delete_all(self) -> None: ...

    def increment(self, counter: str, amount: int = 1) -> int: ...

    def delete_counter(self, counter: str) -> None: ...

    def delete_counters(self) -> None: ...


class Locks(Protocol):
    def acquire(self, name: str, owner: str, consumer: str, worker: str, seconds: float | None, lease: float) -> bool:
        """Take a lock that ends with its consumer or worker, and after `seconds` where they are given."""

    def release(self, name: str, owner: str = "") -> bool:
        """Release a lock; without an owner, whichever has it."""

    def all(self) -> dict[str, tuple[str, str, str]]:
        """Return name → owner, consumer, worker."""


class Heartbeats(Protocol):
    def record(self, consumer: str, info: Info) -> None: ...

    def remove(self, consumer: str) -> None: ...

    def all(self) -> list[Heartbeat]: ...


class Events(Protocol):
    """The lines of history that the recorder has not written yet, in order of their positions."""

    def stream(self) -> str:
        """Return the name of this stream, which is new for each data set."""

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return the next lines and their positions, whatever the bytes."""

    def count(self, after: int) -> int: ...

    def wait(self, after: int, seconds: float) -> None:
        """Return when there are events after this position, or after so many seconds."""

    def trim(self, upto: int) -> None:
        """Delete those that the recorder has written."""

    def drop_oldest(self, limit: int) -> None:
        """Delete the oldest beyond `limit`, and count them in DROPPED_COUNTER."""


class Pauses(Protocol):
    """By target: `""`, which is the whole queue, a task, or `schedule:` and a task."""

    def put(self, target: str, info: Info) -> None: ...

    def remove(self, target: str) -> bool: ...

    def all(self) -> dict[str, Info]: ...


class Ticks(Protocol):
    """The last minute of each scheduled task that was enqueued or passed over (minutes since 1970)."""

    def record(self, task: str, minute: int, effects: Effects) -> bool:
        """Store the effects of a tick, unless this minute or a later one was recorded. Returns whether it was not."""

    def last(self) -> dict[str, int]: ...


class BrokerAddress(NamedTuple):
    transport: str  # redis or sqlite
    host: str  # or the path of its socket or file
    port: int = 0
    database: int = 0
    user: str | None = None
    tls: bool = False


class Storage(Protocol):
    name: str

    @property
    def messages(self) -> Messages: ...
    @property
    def deliveries(self) -> Deliveries: ...
    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def results(self) -> Results: ...
    @property
    def locks(self) -> Locks: ...
    @property
    def heartbeats(self) -> Heartbeats: ...
    @property
    def events(self) -> Events: ...
    @property
    def pauses(self) -> Pauses: ...
    @property
    def ticks(self) -> Ticks: ...

    def address(self) -> BrokerAddress: ...

    def close(self) -> bool: ...

    def probe_write(self, seconds: float) -> None:
        """Write something, waiting no longer than this for a lock. Raises BrokerUnavailable."""

    def rollback_interrupted(self) -> None:
        """End what an interrupt, such as a time limit's, has left half done on this thread's connection."""

    def warnings(self) -> list[str]:
        """Return what endangers accepted work or admits strangers, a sentence each."""
