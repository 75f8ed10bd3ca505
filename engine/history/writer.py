"""Writes events from the broker's stream to the database.

Workers, schedulers and callers append an event in the same step as the change it describes. A recorder reads events in
order and writes them in batches. The stream position is a row of the same database and advances in the same
transaction. So each event counts exactly once, with any number of recorders and after any crash.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from peewee import PeeweeException

from engine.broker.deliveries import HeldMessage
from engine.broker.heartbeats import Heartbeat, consumer_columns
from engine.broker.storage import DROPPED_COUNTER
from engine.database import database, release_connection, write_rows
from engine.exceptions import BrokerUnavailable
from engine.history import event_handlers, rejected
from engine.history.events import EventReader, StreamLine, to_datetime
from engine.models import ENDED, Attempt, Consumer, HistoryCursor, Run, State, now
from engine.queues.queue import Queue
from engine.queues.sealed_arguments import SealedArguments
from engine.queues.task import QueueTask
from engine.refusals import is_refusal, write_each

logger = logging.getLogger(__name__)

#: A process keeps the memory of one batch: 500 events take two megabytes more and are no faster.
BATCH, MOST_BATCHES = 100, 100

#: Above this number of unwritten events the oldest are dropped and counted.
MAX_PENDING = 200_000


def flush_events(queue: Queue, batches: int = MOST_BATCHES) -> int:
    """Write the pending events of the queue, batch by batch. Returns the number that this call has written.

    On return the events that were pending before are written, by any recorder. An exception is a very large backlog:
    a caller who needs one event does not write all of it.
    """
    total = 0
    for _ in range(batches):
        if not (events := next_events(queue)):
            break
        total += write_events(queue, events)
    return total


class Events(NamedTuple):
    """`signed_from`: as in HistoryCursor."""

    stream: str
    position: int
    signed_from: int | None
    lines: list[StreamLine]


def next_events(queue: Queue) -> Events | None:
    stream = queue.storage.events.stream()
    cursor = read_cursor(stream)
    lines = queue.storage.events.read(cursor.position, BATCH)
    return Events(stream, cursor.position, cursor.signed_from, lines) if lines else None


def write_events(queue: Queue, batch: Events) -> int:
    stream, lines, reader = batch.stream, batch.lines, EventReader(queue, batch.signed_from)
    try:
        written = write_once(batch, partial(event_handlers.apply_events, reader))
    except Exception as error:
        if not is_refusal(error):
            raise
        written = write_once(batch, partial(rejected.apply_or_reject, reader, stream))
    if not written:
        return 0
    queue.storage.events.trim(lines[-1][0])
    record_dropped(queue, stream)
    return len(lines)


def write_once(batch: Events, play: Callable[[Sequence[StreamLine]], None]) -> bool:
    """Apply a batch and advance the cursor, in one transaction. False if another recorder has done so."""
    with database.atomic() as transaction:
        # The guard: of several recorders with the same batch, only the one that advances the cursor writes it.
        if not advance_cursor(batch.stream, batch.position, batch.lines[-1][0]):
            transaction.rollback()
            return False
        play(batch.lines)
        return True


def read_cursor(stream: str) -> HistoryCursor:
    """Return the cursor of a stream. All events of a stream that this code sees first must be signed."""
    row = HistoryCursor.get_or_none(HistoryCursor.stream == stream)
    if row is None:
        HistoryCursor.insert(stream=stream, position=0, signed_from=0).on_conflict_ignore().execute()
        row = HistoryCursor.get(HistoryCursor.stream == stream)
    return row


def advance_cursor(stream: str, position: int, last: int) -> bool:
    unmoved = (HistoryCursor.stream == stream) & (HistoryCursor.position == position)
    return bool(HistoryCursor.update(position=last).where(unmoved).execute())


def stream_position(queue: Queue) -> int:
    return int(read_cursor(queue.storage.events.stream()).position)


def sync_consumers(queue: Queue, written: list[Heartbeat] | None = None) -> list[Heartbeat] | None:
    """Write the latest heartbeats to the consumers' rows, and held messages as running runs.

    Stopped consumers are then removed from the broker. Returns the written heartbeats. Pass them as `written` next time
    to skip an unchanged state. Returns None while messages are held, as their runs may not have a row yet.
    """
    beats, held = reportable_heartbeats(queue), sorted(queue.storage.deliveries.held())
    if beats == written and not held:
        return written
    rows = [row for beat in beats if (row := consumer_row(queue.name, beat, held))]
    with database.atomic():
        for run, error in write_each(held, sync_running_runs):
            log_refused_row(run.run_id, str(error).partition("\n")[0])
        for row, error in write_each(rows, write_consumer_rows):
            log_refused_row(str(row["id"]), str(error).partition("\n")[0])
    for beat in beats:
        if beat.info.get("stopped_at"):
            queue.storage.heartbeats.remove(beat.consumer)
    return None if held else beats


@lru_cache(maxsize=1000)
def log_refused_row(name: str, reason: str) -> None:
    """Log a row once, although it is written again with each heartbeat."""
    logger.error("The database rejects the row of %s: %s", name, reason)


def write_consumer_rows(rows: Sequence[Mapping[str, object]]) -> None:
    replaced = [field for field in Consumer._meta.sorted_fields if field.name != "id"]
    Consumer.insert_many(rows).on_conflict(conflict_target=[Consumer.id], preserve=replaced).execute()


def reportable_heartbeats(queue: Queue) -> list[Heartbeat]:
    """Return the heartbeats. Those older than `Consumer.KEPT` are removed."""
    beats = []
    for beat in queue.storage.heartbeats.all():
        if now().timestamp() - beat.at > Consumer.RETENTION.total_seconds():
            queue.storage.heartbeats.remove(beat.consumer)
        else:
            beats.append(beat)
    return beats


def sync_running_runs(held: Sequence[HeldMessage]) -> None:
    """Mark held messages as running. A run with an unread `enqueued` or end event is left to that event."""
    runs = {run.id: run for run in Run.select().where(Run.id.in_([delivery.run_id for delivery in held]))}
    for delivery in held:
        run = runs.get(delivery.run_id)
        if run and run.deliveries < delivery.delivery and run.state not in ENDED:
            write_start(run, delivery)


def write_start(run: Run, held: HeldMessage) -> None:
    worker, since = f"{held.worker} on {held.consumer}", to_datetime(held.held_at)
    # Guarded: another recorder may have written the run's end meanwhile.
    unchanged = (Run.id == run.id) & (Run.deliveries == run.deliveries) & (Run.state == run.state)
    if Run.update(**start_columns(run, held), worker=worker).where(unchanged).execute():
        attempt = {"run_id": run.id, "number": held.delivery, "attempt": held.attempt, "state": State.RUNNING}
        Attempt.insert(**attempt, worker=worker, started_at=since).on_conflict_ignore().execute()


def start_columns(run: Run, held: HeldMessage) -> dict[str, object]:
    columns: dict[str, object] = {
        "state": State.RUNNING,
        "deliveries": held.delivery,
        "attempts": held.attempt,
    }
    if run.attempts < held.attempt:
        columns["run_ms"] = None  # it belongs to the previous attempt
    if run.started_at is None:
        since = to_datetime(held.held_at)
        waited = (since - (run.due_at or run.enqueued_at)).total_seconds() * 1000
        columns |= {"started_at": since, "wait_ms": max(waited, 0)}
    return columns


def consumer_row(queue: str, beat: Heartbeat, held: list[HeldMessage]) -> dict[str, object] | None:
    running = [
        {"worker": run.worker, "run_id": run.run_id, "task": run.task, "since": to_datetime(run.held_at).isoformat()}
        for run in held
        if run.consumer == beat.consumer
    ]
    facts = consumer_columns(queue, beat)
    return facts and {"id": beat.consumer, "queue": queue, "running": running, **facts}


def record_dropped(queue: Queue, stream: str) -> None:
    dropped = queue.storage.results.increment(DROPPED_COUNTER, 0)
    if dropped:
        HistoryCursor.update(dropped=dropped).where(HistoryCursor.stream == stream).execute()


def dropped_events() -> int:
    return sum(row.dropped for row in HistoryCursor.select(HistoryCursor.dropped))


def record_new_run(queue: Queue, task: QueueTask) -> None:
    """Write the row of a run just enqueued, so that the next page shows it. An error does not affect the run."""
    run, sealed = event_handlers.message_rows(queue.name, queue.serialize_task(task))
    try:
        with database.atomic():
            write_rows(Run, [run], changing=())
            write_rows(SealedArguments, sealed, changing=())
    except PeeweeException:
        release_connection()


def flush_events_now(queue: Queue) -> None:
    """Write pending events now, without waiting for a recorder. An error does not affect the messages."""
    try:
        flush_events(queue)
    except (PeeweeException, BrokerUnavailable):
        release_connection()
