"""What happened to runs → records. Events wait in the broker's stream until somebody writes them down.

Workers, schedulers and callers only append events, in the same step as what they tell of. A recorder reads them in
order and writes them in batches; the place it has reached is a row of the same database, moved on in the same
transaction. So each event counts exactly once, whoever records, and whatever dies or goes away meanwhile.
"""

import logging
from typing import Any, NamedTuple

from engine import playback
from engine.database import database
from engine.delivery import DROPPED, Beat, Held
from engine.playback import instant
from engine.queues import Queue
from engine.records import ENDED, Attempt, HistoryCursor, Run, State, WorkerProcess, now

logger = logging.getLogger(__name__)

#: What is read at once stays with the process that has read it: 500 take two megabytes more, and are as quick.
BATCH, MOST_BATCHES = 100, 100

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
        playback.play(queue.name, [line for _, line in lines])
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


def write_consumers(queue: Queue, known: list[Beat] | None = None) -> list[Beat] | None:
    """The consumers' last signs of life → their rows; what they hold → running runs.

    One that said goodbye is forgotten by the broker after that. Returns what was written: when that is `known` the
    next time, nothing is written. While something is held it is None, as runs may have to wait for their own rows.
    """
    beats, held = worth_a_row(queue), sorted(queue.storage.held())
    if beats == known and not held:
        return known
    rows = [consumer_row(queue.name, beat, held) for beat in beats]
    others = [field for field in WorkerProcess._meta.sorted_fields if field.name != "id"]
    with database.atomic():
        write_running(held)
        if rows:
            upsert = WorkerProcess.insert_many(rows).on_conflict(conflict_target=[WorkerProcess.id], preserve=others)
            upsert.execute()
    for beat in beats:
        if beat.info.get("stopped_at"):
            queue.storage.forget(beat.consumer)
    return None if held else beats


def worth_a_row(queue: Queue) -> list[Beat]:
    """Signs of life, but of who died so long ago that the broker may forget it too."""
    found = []
    for beat in queue.storage.beats():
        if now() - instant(beat.at) > WorkerProcess.KEPT:
            queue.storage.forget(beat.consumer)
        else:
            found.append(beat)
    return found


def write_running(held: list[Held]) -> None:
    """Nobody tells when a run starts: it is seen from who holds it, and told again when it has ended.

    A run whose enqueuing or whose end is still on its way through the stream is left to that.
    """
    waiting = {run.id: run for run in Run.select().where(Run.id.in_([one.run_id for one in held]))} if held else {}
    for one in held:
        run = waiting.get(one.run_id)
        if run is None or run.deliveries >= one.delivery or run.state in ENDED:
            continue
        worker, since = f"{one.worker} on {one.consumer}", instant(one.held_at)
        facts: dict[str, Any] = {"state": State.RUNNING, "deliveries": one.delivery, "attempts": one.attempt}
        if run.attempts < one.attempt:
            facts["run_ms"] = None  # that was the attempt before
        if run.started_at is None:
            waited = (since - (run.due_at or run.enqueued_at)).total_seconds() * 1000
            facts |= {"started_at": since, "wait_ms": max(waited, 0)}
        # Guarded: another recorder may have written its end meanwhile.
        still = (Run.id == run.id) & (Run.deliveries == run.deliveries) & (Run.state == run.state)
        if Run.update(**facts, worker=worker).where(still).execute():
            attempt = {"run_id": run.id, "number": one.delivery, "attempt": one.attempt, "state": State.RUNNING}
            Attempt.insert(**attempt, worker=worker, started_at=since).on_conflict_ignore().execute()


def consumer_row(queue: str, beat: Beat, held: list[Held]) -> dict[str, Any]:
    times = {name: beat.info.get(name) for name in ("started_at", "stopped_at", "scheduler_at", "quiet_at")}
    running = [
        {"worker": one.worker, "run_id": one.run_id, "task": one.task, "since": instant(one.held_at).isoformat()}
        for one in held
        if one.consumer == beat.consumer
    ]
    return {
        "id": beat.consumer,
        "queue": queue,
        "beat_at": instant(beat.at),
        "running": running,
        **{name: value for name, value in beat.info.items() if name not in times},
        **{name: value and instant(value) for name, value in times.items()},
    }


def note_dropped(queue: Queue, stream: str) -> None:
    dropped = queue.storage.incr(DROPPED, 0)
    if dropped:
        HistoryCursor.update(dropped=dropped).where(HistoryCursor.stream == stream).execute()


def dropped_events() -> int:
    """Events of all queues that were lost because they could not be written down for too long."""
    return sum(row.dropped for row in HistoryCursor.select(HistoryCursor.dropped))
