"""From events to rows: the runs of a batch are read once, changed by its events and written once.

Rows are dictionaries of database values by column. Model instances would cost more than everything else in this file.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from engine.broker.messages import parse_body
from engine.database import database, write_rows
from engine.history import error_groups, run_counts
from engine.history.events import (
    Event,
    EventReader,
    InvalidEvent,
    StreamLine,
    encode_json,
    from_db_time,
    parse_message_body,
    strip_nul,
    to_db_time,
)
from engine.models import ENDED, LOST_ERROR, Attempt, AttemptState, LogLine, Run, State, Tick
from engine.queues.sealed_arguments import SealedArguments

RUN, ATTEMPT, LINE, TICK = (
    [field.column_name for field in model._meta.sorted_fields] for model in (Run, Attempt, LogLine, Tick)
)
#: Columns of an existing run that events can change.
CHANGING_COLUMNS = (
    "state", "due_at", "started_at", "ended_at", "instant_at", "wait_ms", "run_ms", "attempts", "deliveries", "worker",
    "result", "error", "error_group", "progress_done", "progress_total", "progress_text",
)  # fmt: skip
NEW_RUN = dict.fromkeys(RUN) | {"retries": 0, "attempts": 0, "deliveries": 0, "state": State.WAITING}
NEW_ATTEMPT = dict.fromkeys(ATTEMPT)
RUN_STATES = frozenset(State)

#: Column → database value.
Row = dict[str, Any]


def apply_events(reader: EventReader, lines: Sequence[StreamLine]) -> None:
    """Apply these stream lines in the caller's transaction.

    Raises an error that `refusals.is_refusal` accepts if a line cannot be stored. The transaction must then be rolled
    back.
    """
    events = [reader.parse(position, line, HANDLERS) for position, line in lines]
    batch = EventBatch(reader.queue.name, {event["id"] for event in events} - {""})
    for event in events:
        HANDLERS[event["kind"]](batch, event)
    batch.save()


class EventBatch:
    def __init__(self, queue: str, ids: set[str]) -> None:
        self.queue = queue
        self.runs = load_runs(ids)
        self.deltas: Counter[run_counts.Key] = Counter()
        self.deltas.subtract(key for run in self.runs.values() for key in counter_keys(run))
        self.attempts: dict[tuple[str, int], Row] = {}
        self.sealed: dict[str, str] = {}  # run id → its secret arguments
        self.lines: dict[tuple[str, int, int], Row] = {}
        self.left_out: dict[tuple[str, int], tuple[int, int]] = {}
        self.ticks: dict[tuple[str, int], Row] = {}
        self.lost: dict[str, str] = {}  # run id → time at which the loss was detected
        self.failures = error_groups.FailureBatch()

    def run(self, event: Event) -> Row:
        run = self.runs.get(event["id"])
        if run is None:
            run = self.runs[event["id"]] = NEW_RUN | {
                "id": event["id"], "task": event.get("task", "?"), "queue": self.queue,
                "enqueued_at": to_db_time(event["at"]), "started_at": None,
            }  # fmt: skip
        return run

    def attempt(self, event: Event, state: str) -> Row:
        """Create the attempt that this event ends, and update its run. Raises InvalidEvent for an event seen before."""
        run = self.run(event)
        if event["delivery"] < run["deliveries"] or (
            event["delivery"] == run["deliveries"] and run["state"] != State.RUNNING
        ):
            raise InvalidEvent(f"delivery {event['delivery']} of this run is on record already")
        worker = event["worker"]
        if "consumer" in event:
            worker = f"{worker} on {event['consumer']}"
        started = event.get("started") and to_db_time(event["started"])
        run["deliveries"], run["attempts"], run["worker"] = event["delivery"], event["attempt"], worker
        run["started_at"] = run["started_at"] or started
        row = self.attempts[event["id"], event["delivery"]] = NEW_ATTEMPT | {
            "run_id": event["id"], "number": event["delivery"], "attempt": event["attempt"], "state": state,
            "worker": worker, "started_at": started, "ended_at": to_db_time(event["at"]),
            "error": event.get("error"), "code_version": event.get("version"),
        }  # fmt: skip
        return row

    def open_run(self, event: Event) -> Row:
        """Return the run of an event that a holder in the broker has caused. Raises InvalidEvent if it has ended.

        Holders are not signed. A run that was lost may come back, and a dead one returns to its queue first.
        """
        run = self.run(event)
        if run["state"] in ENDED and run["state"] != State.DEAD and run["error"] != LOST_ERROR:
            raise InvalidEvent("this run has ended")
        return run

    def failed(self, event: Event, attempt: Row, exception: str = "") -> str:
        task = self.run(event)["task"]
        kind = error_groups.fingerprint(task, event.get("error"), event.get("traceback"), exception)
        attempt["error_group"] = kind.id
        failure = error_groups.Failure(to_db_time(event["at"]), event.get("version"), event.get("error") or "")
        self.failures.add(kind, failure)
        self.deltas[int(float(event["at"])), task, self.queue, run_counts.ERROR_PREFIX + kind.id, 0] += 1
        return kind.id

    def save(self) -> None:
        for run in self.runs.values():
            self.deltas.update(counter_keys(run))
        # In key order, so that concurrent writers never deadlock.
        write_rows(Run, sorted_rows(self.runs.values(), RUN), CHANGING_COLUMNS)
        write_rows(SealedArguments, sorted(self.sealed.items()))
        write_rows(Attempt, sorted_rows(self.attempts.values(), ATTEMPT))
        self.save_lost()
        self.save_lines()
        write_rows(Tick, sorted_rows(self.ticks.values(), TICK), changing=())
        self.failures.save()
        run_counts.increment(self.deltas)

    def save_lost(self) -> None:
        for run_id, ended_at in self.lost.items():
            running = (Attempt.run_id == run_id) & (Attempt.state == State.RUNNING)
            Attempt.update(state=State.FAILED, ended_at=ended_at, error=LOST_ERROR).where(running).execute()

    def save_lines(self) -> None:
        for (run_id, delivery), (first, last) in self.left_out.items():
            written = (LogLine.run_id == run_id) & (LogLine.delivery == delivery) & LogLine.number.between(first, last)
            LogLine.delete().where(written).execute()
            for key in [key for key in self.lines if key[:2] == (run_id, delivery) and first <= key[2] <= last]:
                del self.lines[key]
        write_rows(LogLine, sorted_rows(self.lines.values(), LINE), changing=())


def sorted_rows(rows: Iterable[Row], columns: list[str]) -> list[tuple[object, ...]]:
    return sorted(map(itemgetter(*columns), rows), key=itemgetter(0, 1))


def load_runs(ids: set[str]) -> dict[str, Row]:
    placeholders = ", ".join([database.param] * len(ids))
    sql = f"SELECT {', '.join(RUN)} FROM dewey_runs WHERE id IN ({placeholders})"
    return {row[0]: dict(zip(RUN, row, strict=True)) for row in database.execute_sql(sql, list(ids)).fetchall()}


def counter_keys(run: Row) -> list[run_counts.Key]:
    if run["ended_at"] is None:
        return []
    second, task, queue = int(from_db_time(run["ended_at"])), run["task"], run["queue"]
    keys = [(second, task, queue, str(run["state"]), 0)]
    if run["attempts"] > 1:
        keys.append((second, task, queue, run_counts.RETRIED_RUNS, 0))
    for what, ms in ((run_counts.WAITED, run["wait_ms"]), (run_counts.RAN, run["run_ms"])):
        if ms is not None:
            keys.append((second, task, queue, what, run_counts.duration_bucket(ms)))
    return keys


# --- handlers by kind of event -------------------------------------------------------------------------------


def on_enqueued(batch: EventBatch, event: Event) -> None:
    """Add a run. The same message again changes nothing, unless the run has ended before it was enqueued again."""
    run = batch.run(event)
    if run["ended_at"] and from_db_time(run["ended_at"]) < event["at"]:
        run.update(NEW_RUN | {"id": event["id"], "queue": batch.queue})
    if not run["attempts"] and not run["ended_at"]:
        run.update(new_run_columns(event))
        if event.get("sealed"):
            batch.sealed[event["id"]] = event["sealed"]


def new_run_columns(event: Event) -> Row:
    kind, name = event["asked_by"]
    due = event["due"]
    return {
        "task": event["task"], "enqueued_at": to_db_time(event["at"]), "args": encode_json(event["args"]),
        "kwargs": encode_json(event["kwargs"]), "priority": event["priority"], "retries": event["retries"],
        "asked_by_kind": kind, "asked_by": strip_nul(name), "parent_id": event["parent"],
        "code_version": event["version"], "due_at": due and to_db_time(due),
        "state": State.SCHEDULED if due else State.WAITING,
    }  # fmt: skip


def message_rows(queue: str, message: bytes) -> tuple[tuple[object, ...], list[tuple[str, str]]]:
    """Return the row of a new run, and that of its secret arguments if it has any."""
    event = parse_message_body(parse_body(message))
    run = itemgetter(*RUN)(NEW_RUN | {"id": event["id"], "queue": queue} | new_run_columns(event))
    return run, [(event["id"], event["sealed"])] if event["sealed"] else []


def on_due(batch: EventBatch, event: Event) -> None:
    """Not signed: see UNSIGNED_KINDS."""
    run = batch.runs.get(event["id"])
    if run and run["state"] in (State.SCHEDULED, State.RETRYING):
        run["state"] = State.WAITING


def on_limited(batch: EventBatch, event: Event) -> None:
    """Not signed: see UNSIGNED_KINDS."""
    run = batch.runs.get(event["id"])
    if run and run["state"] in (State.WAITING, State.SCHEDULED, State.RETRYING):
        run.update(state=State.SCHEDULED, due_at=to_db_time(event["due"]))


def on_ended(batch: EventBatch, event: Event) -> None:
    state = event["state"]
    if state not in RUN_STATES:
        raise InvalidEvent(f"{state!r} is not a state of a run")
    attempt = batch.attempt(event, State.FAILED if state == State.RETRYING else state)
    next_at = to_db_time(event["next_at"]) if event.get("next_at") else None
    attempt.update(run_ms=event["run_ms"], traceback=event.get("traceback"), next_at=next_at)
    run = batch.run(event)
    run.update(state=state, run_ms=event["run_ms"], error=event.get("error"), result=encode_json(event.get("result")))
    run["error_group"] = batch.failed(event, attempt) if state in (State.FAILED, State.RETRYING) else None
    run["ended_at"] = None if state in (State.RETRYING, State.SCHEDULED) else attempt["ended_at"]
    run["due_at"] = next_at or run["due_at"]
    if run["wait_ms"] is None:
        run["wait_ms"] = wait_before_start(run, attempt) if event["wait_ms"] is None else event["wait_ms"]
    record_progress(batch, event)
    if state == State.RETRYING:
        batch.deltas[int(event["at"]), run["task"], batch.queue, run_counts.RETRIED, 0] += 1


def wait_before_start(run: Row, attempt: Row) -> float | None:
    """Return the wait before a run's first start, in ms. None if the run had already started before."""
    if not attempt["started_at"] or attempt["started_at"] != run["started_at"]:
        return None
    return max(from_db_time(attempt["started_at"]) - from_db_time(run["due_at"] or run["enqueued_at"]), 0) * 1000


def on_returned(batch: EventBatch, event: Event) -> None:
    run = batch.open_run(event)
    attempt = batch.attempt(event, AttemptState.DIED if event["counts"] else AttemptState.RETURNED)
    group = batch.failed(event, attempt, error_groups.DIED) if event["counts"] else None
    run["state"] = State.DEAD if event["dead"] else State.WAITING
    if event["dead"]:
        run.update(ended_at=to_db_time(event["at"]), error=event["error"], error_group=group)


def on_put_off(batch: EventBatch, event: Event) -> None:
    """Handle a run that a consumer returned because its code lacks the task. That is not a start of the run."""
    run = batch.open_run(event)
    before = {name: run[name] for name in ("started_at", "wait_ms", "attempts", "worker")}
    seen_running = run["deliveries"] == event["delivery"]  # the recorder saw it while it was held
    attempt = batch.attempt(event, AttemptState.PUT_OFF)
    if (
        seen_running
        and before["started_at"]
        and from_db_time(before["started_at"]) == from_db_time(to_db_time(event["started"]))
    ):
        before = {"started_at": None, "wait_ms": None, "attempts": event["attempt"] - 1, "worker": None}
    run.update(before, state=State.SCHEDULED, error=attempt["error"], error_group=None)


def on_dead(batch: EventBatch, event: Event) -> None:
    batch.open_run(event)
    kind = error_groups.NOT_KNOWN if event.get("unknown") else error_groups.UNREADABLE
    group = batch.failed(event, batch.attempt(event, State.DEAD), kind)
    batch.run(event).update(state=State.DEAD, ended_at=to_db_time(event["at"]), error=event["error"], error_group=group)


def on_cancelled(batch: EventBatch, event: Event) -> None:
    by = f"cancelled by {event['by']}"
    batch.open_run(event).update(state=State.CANCELLED, ended_at=to_db_time(event["at"]), error=by, error_group=None)


def on_forged(batch: EventBatch, event: Event) -> None:
    """Set aside a value that a program of ours has found in the broker."""
    raise InvalidEvent(f"the {event['what']} is malformed or forged: {event['reason']}")


def on_requeued(batch: EventBatch, event: Event) -> None:
    """Handle a dead run, or one with an unreadable holder, that returns to its queue. A retry names its attempt."""
    run = batch.run(event)
    is_open = run["state"] not in ENDED or run["state"] == State.DEAD
    if not is_open and event.get("attempt", 0) <= run["attempts"]:
        raise InvalidEvent("this retry is on record already")
    run.update(state=State.WAITING, ended_at=None, due_at=None, error=None, error_group=None, result=None)


def on_lost(batch: EventBatch, event: Event) -> None:
    """End a run that the broker has lost. Earlier events of the run are already stored."""
    run = batch.runs.get(event["id"])
    if run and run["state"] not in ENDED:
        ended_at = batch.lost[event["id"]] = to_db_time(event["at"])
        run.update(state=State.FAILED, ended_at=ended_at, error=LOST_ERROR, error_group=None)


def on_metadata(batch: EventBatch, event: Event) -> None:
    if "instant_at" in event:
        batch.run(event)["instant_at"] = to_db_time(datetime.fromisoformat(event["instant_at"]).timestamp())
    record_progress(batch, event)


def record_progress(batch: EventBatch, event: Event) -> None:
    """Add log lines and progress of an attempt. A late event may come after the attempt's end."""
    run_id, delivery = event["id"], event.get("delivery", 0)
    for number, logged_at, level, logger, text in event.get("lines", ()):
        batch.lines[run_id, delivery, number] = {
            "run_id": run_id, "delivery": delivery, "number": number, "at": to_db_time(logged_at),
            "level": level, "logger": strip_nul(logger), "text": strip_nul(text),
        }  # fmt: skip
    if "left_out" in event:
        batch.left_out[run_id, delivery] = event["left_out"]
    if "progress" in event:
        done, total, text = event["progress"]
        batch.run(event).update(progress_done=done, progress_total=total, progress_text=text and strip_nul(text))


def on_ticks(batch: EventBatch, event: Event) -> None:
    """Add the outcomes of a task's ticks. The last tick carries the run, if one was started."""
    for number, (minute, state) in enumerate(event["ticks"], 1):
        batch.ticks[event["task"], minute] = {
            "task": event["task"], "due_at": to_db_time(minute * 60), "queue": batch.queue, "state": state,
            "run_id": event["run"] if number == len(event["ticks"]) else None, "seen_at": to_db_time(event["at"]),
        }  # fmt: skip


HANDLERS: dict[str, Callable[[EventBatch, Event], None]] = {
    "enqueued": on_enqueued,
    "due": on_due,
    "limited": on_limited,
    "ended": on_ended,
    "returned": on_returned,
    "dead": on_dead,
    "cancelled": on_cancelled,
    "put_off": on_put_off,
    "forged": on_forged,
    "requeued": on_requeued,
    "lost": on_lost,
    "noted": on_metadata,
    "ticks": on_ticks,
}
