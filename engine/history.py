"""What happened to runs → records. Events wait in the broker's stream until somebody writes them down.

Workers, schedulers and callers only append events, in the same step as what they tell of. A recorder reads them in
order and writes them in batches; the place it has reached is a row of the same database, moved on in the same
transaction. So each event counts exactly once, whoever records, and whatever dies or goes away meanwhile.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any, NamedTuple

from engine.database import JSONTextField, database
from engine.delivery import DROPPED, Beat
from engine.queues import Queue
from engine.records import Attempt, HistoryCursor, Run, State, WorkerProcess

logger = logging.getLogger(__name__)

BATCH = 1000
ROWS_PER_INSERT = 500
MOST_BATCHES = 20

#: Beyond this many unwritten events the oldest are dropped, and counted.
MOST_WAITING = 200_000


def write_down(queue: Queue) -> int:
    """Write what waits in the queue's stream, a batch at a time. Returns the number of events written by this call.

    When it returns, what was there when it was called has been written, by whichever recorder, unless that was very
    much: nobody who came for one event should be kept by all the others.
    """
    total = 0
    for _ in range(MOST_BATCHES):
        if not (events := waiting(queue)):
            break
        total += write_batch(queue, *events)
    return total


class Events(NamedTuple):
    stream: str
    position: int
    lines: list[tuple[int, str]]


def waiting(queue: Queue) -> Events | None:
    """The next events to be written, and the place they follow on."""
    stream = queue.storage.stream()
    position = reached(stream)
    lines = queue.storage.events(position, BATCH)
    return Events(stream, position, lines) if lines else None


def write_batch(queue: Queue, stream: str, position: int, lines: list[tuple[int, str]]) -> int:
    last = lines[-1][0]
    with database.atomic() as transaction:
        # The guard: of several recorders that read the same batch, one moves the cursor on, and only that one writes.
        if not move_on(stream, position, last):
            transaction.rollback()
            return 0
        apply(queue.name, [json.loads(line) for _, line in lines])
    queue.storage.trim(last)
    note_dropped(queue, stream)
    return len(lines)


def reached(stream: str) -> int:
    row = HistoryCursor.get_or_none(HistoryCursor.stream == stream)
    if row is None:
        HistoryCursor.insert(stream=stream, position=0).on_conflict_ignore().execute()
        return 0
    return int(row.position)


def move_on(stream: str, position: int, last: int) -> bool:
    here = (HistoryCursor.stream == stream) & (HistoryCursor.position == position)
    return bool(HistoryCursor.update(position=last).where(here).execute())


def position(queue: Queue) -> int:
    """The last event of the queue's stream that has been written down."""
    return reached(queue.storage.stream())


def write_consumers(queue: Queue) -> None:
    """The consumers' last signs of life → their rows. One that said goodbye is forgotten by the broker after that."""
    beats = queue.storage.beats()
    running: dict[str, list[dict[str, Any]]] = {}
    for held in queue.storage.held():
        since = instant(held.held_at).isoformat()
        held_now = {"worker": held.worker, "run_id": held.run_id, "task": held.task, "since": since}
        running.setdefault(held.consumer, []).append(held_now)
    rows = [consumer_row(queue.name, beat, running.get(beat.consumer, [])) for beat in beats]
    with database.atomic():
        upsert(WorkerProcess, rows, [WorkerProcess.id])
    for beat in beats:
        if beat.info.get("stopped_at"):
            queue.storage.forget(beat.consumer)


def consumer_row(queue: str, beat: Beat, running: list[dict[str, Any]]) -> WorkerProcess:
    times = {name: beat.info.get(name) for name in ("started_at", "stopped_at", "scheduler_at")}
    return WorkerProcess(
        id=beat.consumer,
        queue=queue,
        beat_at=instant(beat.at),
        processed=beat.processed,
        failed=beat.failed,
        running=running,
        **{name: value for name, value in beat.info.items() if name not in times},
        **{name: value and instant(value) for name, value in times.items()},
    )


def note_dropped(queue: Queue, stream: str) -> None:
    dropped = queue.storage.incr(DROPPED, 0)
    if dropped:
        HistoryCursor.update(dropped=dropped).where(HistoryCursor.stream == stream).execute()


def dropped_events() -> int:
    """Events of all queues that were lost because they could not be written down for too long."""
    return sum(row.dropped for row in HistoryCursor.select(HistoryCursor.dropped))


# --- events → rows -------------------------------------------------------------------------------------------


def apply(queue: str, events: list[dict[str, Any]]) -> None:
    """Play a batch of events on the rows they concern: read once, changed in memory, written once."""
    book = Book(queue, {event["id"] for event in events})
    for event in events:
        PLAY[event["kind"]](book, event, instant(event["at"]))
    book.save()


class Book:
    """The runs and attempts that a batch of events is about."""

    def __init__(self, queue: str, ids: set[str]) -> None:
        self.queue = queue
        self.runs = {run.id: run for run in Run.select().where(Run.id.in_(list(ids)))}
        numbered = Attempt.select().where(Attempt.run_id.in_(list(self.runs)))
        self.attempts = {(one.run_id, one.number): one for one in numbered} if self.runs else {}

    def run(self, event: dict[str, Any], at: datetime) -> Run:
        """The run of an event; one whose enqueuing was never told begins here."""
        if event["id"] not in self.runs:
            self.runs[event["id"]] = Run(
                id=event["id"], task=event.get("task", "?"), queue=self.queue, state=State.WAITING, enqueued_at=at
            )
        return self.runs[event["id"]]

    def attempt(self, event: dict[str, Any]) -> Attempt:
        key = (event["id"], event["delivery"])
        if key not in self.attempts:
            number = event.get("attempt", 1)
            self.attempts[key] = Attempt(run_id=key[0], number=key[1], attempt=number, state=State.RUNNING)
        return self.attempts[key]

    def save(self) -> None:
        upsert(Run, list(self.runs.values()), [Run.id])
        upsert(Attempt, list(self.attempts.values()), [Attempt.run_id, Attempt.number])


def upsert(model: type[Any], rows: list[Any], key: list[Any]) -> None:
    keys = {field.name for field in key}
    fields = model._meta.sorted_fields
    others = [field for field in fields if field.name not in keys]
    for start in range(0, len(rows), ROWS_PER_INSERT):
        values = [
            {field.name: storable(row, field) for field in fields} for row in rows[start : start + ROWS_PER_INSERT]
        ]
        model.insert_many(values).on_conflict(conflict_target=key, preserve=others).execute()


def storable(row: Any, field: Any) -> Any:
    """PostgreSQL's text holds everything but NUL, which JSON writes as an escape."""
    value = getattr(row, field.name)
    plain = isinstance(value, str) and not isinstance(field, JSONTextField)
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if plain else value


def enqueued(book: Book, event: dict[str, Any], at: datetime) -> None:
    run = book.run(event, at)
    if run.attempts:  # the same message, sent again
        return
    run.task, run.enqueued_at = event["task"], at
    run.args, run.kwargs, run.priority, run.retries = (
        event["args"],
        event["kwargs"],
        event["priority"],
        event["retries"],
    )
    run.asked_by_kind, run.asked_by = event["asked_by"]
    run.parent_id, run.code_version = event["parent"], event["version"]
    run.due_at = event["due"] and instant(event["due"])
    run.state = State.SCHEDULED if run.due_at else State.WAITING


def due(book: Book, event: dict[str, Any], at: datetime) -> None:
    book.run(event, at).state = State.WAITING


def started(book: Book, event: dict[str, Any], at: datetime) -> None:
    run, attempt = book.run(event, at), book.attempt(event)
    run.state, run.ended_at, run.error = State.RUNNING, None, None
    run.deliveries, run.attempts = event["delivery"], event["attempt"]
    attempt.attempt, attempt.started_at = event["attempt"], at
    run.worker = attempt.worker = f"{event['worker']} on {event['consumer']}"
    if run.started_at is None:
        run.started_at = at
        run.wait_ms = max((at - (run.due_at or run.enqueued_at)).total_seconds() * 1000, 0)


def ended(book: Book, event: dict[str, Any], at: datetime) -> None:
    run, attempt = book.run(event, at), book.attempt(event)
    run.state, run.run_ms, run.error, run.result = event["state"], event["run_ms"], event["error"], event["result"]
    run.due_at = instant(event["next_at"]) if event["next_at"] else run.due_at
    run.ended_at = None if run.state in (State.RETRYING, State.SCHEDULED) else at
    attempt.state = State.FAILED if run.state == State.RETRYING else run.state
    attempt.ended_at, attempt.run_ms, attempt.code_version = at, event["run_ms"], event["version"]
    attempt.error, attempt.traceback = event["error"], event["traceback"]
    attempt.next_at = event["next_at"] and instant(event["next_at"])


def returned(book: Book, event: dict[str, Any], at: datetime) -> None:
    run, attempt = book.run(event, at), book.attempt(event)
    attempt.state, attempt.ended_at, attempt.error = "died" if event["counts"] else "returned", at, event["error"]
    run.state = State.DEAD if event["dead"] else State.WAITING
    if event["dead"]:
        run.ended_at, run.error = at, event["error"]


def dead(book: Book, event: dict[str, Any], at: datetime) -> None:
    run, attempt = book.run(event, at), book.attempt(event)
    run.state, run.ended_at, run.error = State.DEAD, at, event["error"]
    attempt.state, attempt.ended_at, attempt.error = State.DEAD, at, event["error"]


def noted(book: Book, event: dict[str, Any], at: datetime) -> None:
    book.run(event, at).instant_at = datetime.fromisoformat(event["instant_at"])


def limited(book: Book, event: dict[str, Any], at: datetime) -> None:
    run = book.run(event, at)
    run.state, run.due_at = State.SCHEDULED, instant(event["due"])


def cancelled(book: Book, event: dict[str, Any], at: datetime) -> None:
    run = book.run(event, at)
    run.state, run.ended_at, run.error = State.CANCELLED, at, f"cancelled by {event['by']}"


def requeued(book: Book, event: dict[str, Any], at: datetime) -> None:
    run = book.run(event, at)
    run.state, run.ended_at, run.due_at, run.error, run.result = State.WAITING, None, None, None, None


PLAY = {
    "enqueued": enqueued, "due": due, "started": started, "ended": ended, "returned": returned, "dead": dead,
    "noted": noted, "limited": limited, "cancelled": cancelled, "requeued": requeued,
}  # fmt: skip


def instant(seconds: float | str) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
