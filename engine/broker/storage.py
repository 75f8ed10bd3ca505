"""The parts of a queue's storage, which Redis and SQLite both implement with the same guarantees.

Every step is atomic. Each may raise BrokerUnavailable.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from engine.broker.deliveries import Delivery, FinishedRun, HeldMessage, MessageLocation, MissingTask, TurnResult
from engine.broker.effects import Effects
from engine.broker.heartbeats import Heartbeat
from engine.broker.messages import StoredValue
from engine.broker.parsing import Info, Raw
from engine.broker.signed_entries import SignedEntries

#: How long the revocation of an unknown run is kept, unless results are kept for longer.
REVOKED_SECONDS = 7 * 86400

#: The counter of events that were dropped unread.
DROPPED_COUNTER = "events dropped"


class Messages(Protocol):
    def write(self, effects: Effects) -> list[str]:
        """Store messages, results and events. Very many new runs are written in several steps.

        Returns the run ids of its messages. A unique message that repeats an unfinished run gets the id of that run.
        """

    def enqueue_batch(self, messages: Iterable[tuple[str, bytes]], priority: float) -> None:
        """Store messages of new runs, by run id."""

    def enqueue_due(self, now: float, limit: int = 500) -> int:
        """Move due messages from the schedule to the queue. Returns their number."""

    def get(self, run_id: str) -> bytes | None: ...

    def waiting_ids(self, limit: int) -> list[str]:
        """Return the run ids of the first waiting messages."""

    def ended_attempt(self, run_id: str) -> int:
        """Return the last attempt of an ended run that the broker remembers, 0 if it remembers none. Not signed."""

    def locate(self, run_id: str) -> MessageLocation | None: ...

    def missing_task(self, run_id: str) -> MissingTask | None:
        """Return the task that a deferred message waits for. None if it is not deferred."""

    def count_waiting(self, limit: int = -1) -> int:
        """Return the number of waiting messages. A broker may stop counting at `limit`."""

    def count_scheduled(self) -> int: ...

    def oldest_waiting(self) -> float | None:
        """Return when the oldest waiting message was enqueued, or became due (Unix seconds)."""

    def waiting(self, limit: int | None = None) -> list[bytes]: ...

    def scheduled(self, limit: int | None = None) -> list[bytes]: ...

    def delete_waiting(self) -> None: ...

    def delete_scheduled(self) -> None: ...

    def cancel(self, run_id: str, by: str) -> str:
        """Cancel a run. Returns `removed` if it was waiting or scheduled, `running` if its consumer will interrupt it,
        or `unknown`.
        """

    def purge(self, by: str, limit: int = 1000) -> int:
        """Cancel the first `limit` waiting messages. Returns their number."""

    def clear_finished(self, run_id: str) -> None:
        """Delete the result of a run and the mark that its attempts are finished."""

    def report_lost(self, ids: Sequence[str]) -> int:
        """Write an event for each of these runs that the broker has in no place. Returns their number."""


class Deliveries(Protocol):
    known_tasks: Collection[str]  # dotted names of the tasks in this process's code

    def settle_and_claim(
        self, consumer: str, worker: str, look_first: bool, limits: str, finished: FinishedRun | None = None
    ) -> TurnResult:
        """Settle the previous run, if there is one, and claim the next message, in one step.

        With `look_first`, a message that this worker already holds comes first. `limits`: JSON of task → [starts,
        seconds], or
        empty. Raises CancelRequested.
        """

    def settle(self, consumer: str, finished: FinishedRun) -> bool:
        """Acknowledge a delivery and store its effects. If it is no longer held, store nothing and return False.

        Raises CancelRequested.
        """

    def wait_for_work(self) -> None:
        """Return when there may be something to claim, or after the read timeout."""

    def dead_letter(self, consumer: str, claimed: Delivery, reason: str) -> None:
        """Make a message that cannot be run a dead letter."""

    def defer(self, consumer: str, claimed: Delivery, missing: MissingTask, grace: float) -> str:
        """Release a message for a consumer that has the task. After the grace it is dead.

        Returns `scheduled`, `dead` after the grace, or empty if it is no longer held.
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
        """Return the messages of a worker, or of all workers (None), to their places in the queue.

        A delivery `counts` if the worker died of it. At `max_deliveries` the message is dead. With `only`, this
        delivery alone
        is released, and the worker keeps its locks.
        """

    def reap(self, lease: float, max_deliveries: int) -> list[str]:
        """Release the messages of consumers whose heartbeat is older than the lease. Returns the consumers' ids.

        After an outage every heartbeat is old. Without a reap within the last lease, the next one waits half a lease.
        """

    def held(self) -> list[HeldMessage]: ...

    def cancelled(self) -> dict[str, str]:
        """Return the running runs that must be cancelled, with the requester."""


class DeadLetters(Protocol):
    def all(self, limit: int = 1000) -> list[tuple[str, bytes]]:
        """Return run ids and messages."""

    def ids(self, limit: int, before: tuple[float, str] | None = None) -> list[tuple[str, float]]:
        """Return run ids and times of death (Unix seconds), newest first, after the position `before`."""

    def count(self) -> int: ...

    def requeue(self, run_id: str) -> bool:
        """Enqueue a dead run again, with its count of deaths reset. False if there is none."""

    def discard(self, run_id: str) -> bool: ...


class Results(Protocol):
    """Values by key (results, revocations, commands to consumers), and counters."""

    def put(self, key: str, value: bytes, expires: bool = False) -> None:
        """Store a value. With `expires` it is kept as long as a result."""

    def put_new(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Store a value for `ttl` seconds, unless there is one. Returns True if it was stored."""

    def revoke(self, run_id: str, data: bytes) -> None:
        """Store a revocation. It is deleted with the run, and expires if the broker does not have the run."""

    def get(self, key: str) -> bytes | None: ...

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]: ...

    def all(self) -> dict[str, bytes]: ...

    def count(self) -> int: ...

    def has(self, key: str) -> bool: ...

    def wait(self, key: str, timeout: float | None = None) -> bool:
        """Wait until there is a value, at most `timeout` seconds. Returns True if there is one."""

    def delete(self, key: str) -> bool: ...

    def delete_expired(self) -> int: ...

    def delete_all(self) -> None: ...

    def increment(self, counter: str, amount: int = 1) -> int: ...

    def delete_counter(self, counter: str) -> None: ...

    def delete_counters(self) -> None: ...


class Locks(Protocol):
    def acquire(self, name: str, owner: str, consumer: str, worker: str, seconds: float | None, lease: float) -> bool:
        """Acquire a lock that ends with its consumer or worker, and after `seconds` if given."""

    def release(self, name: str, owner: str = "") -> bool:
        """Release a lock. Without an owner, any holder's lock is released."""

    def all(self) -> dict[str, tuple[str, str, str]]:
        """Return name → owner, consumer, worker."""


class Heartbeats(Protocol):
    def record(self, consumer: str, info: Info) -> None: ...

    def remove(self, consumer: str) -> None: ...

    def all(self) -> list[Heartbeat]: ...


class Events(Protocol):
    def stream(self) -> str:
        """Return the name of this stream, which is new for each data set."""

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return the next lines and their positions, without parsing them."""

    def count(self, after: int) -> int: ...

    def wait(self, after: int, seconds: float) -> None:
        """Return when there are events after this position, or after `seconds`."""

    def last(self) -> int:
        """Return the position of the newest event, 0 if there is none."""

    def trim(self, upto: int) -> None:
        """Delete events that the recorder has written."""

    def renew(self, stream: str, after: int) -> bool:
        """Move the lines into a new stream if the positions of this one were moved. Returns True if so.

        `after`: the position up to which the recorder has read. A writer to the broker can move later positions below
        it, so that they are never read, or to the end of the range, so that no line can be added.
        """

    def drop_oldest(self, limit: int) -> None:
        """Delete the oldest beyond `limit`, and count them in DROPPED_COUNTER."""


class Pauses(Protocol):
    """Pauses by target: `""` for the whole queue, a task, or `schedule:` and a task."""

    def put(self, target: str, info: Info) -> None: ...

    def remove(self, target: str) -> bool: ...

    def all(self) -> dict[str, Info]: ...

    def rows(self) -> Sequence[tuple[str, Raw]]:
        """Return targets and entries as they are stored."""


class Ticks(Protocol):
    """The last minute of each scheduled task that was processed (minutes since 1970)."""

    def record(self, task: str, minute: int, effects: Effects) -> bool:
        """Store the effects of a tick. Return False and store nothing if this or a later minute was recorded."""

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
    entries: SignedEntries

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

    # --- called by Huey ------------------------------------------------------------------------------------------

    def put_data(self, key: str, value: bytes, is_result: bool = False) -> None: ...

    def put_if_empty(self, key: str, value: bytes, ttl: float | None = None) -> bool: ...

    def peek_many(self, keys: list[str]) -> dict[str, StoredValue]: ...

    # --- the server or file --------------------------------------------------------------------------------------

    def probe_write(self, seconds: float) -> None:
        """Write a probe value, with this lock timeout. Raises BrokerUnavailable."""

    def rollback_interrupted(self) -> None:
        """Clean up this thread's connection after an interruption, such as a time limit."""

    def clock(self) -> float:
        """Return the broker's time (Unix seconds)."""

    def warnings(self) -> list[str]:
        """Return the risks for accepted work or access, one sentence each."""
