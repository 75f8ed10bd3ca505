"""Events → rows: a batch of events is played on the runs that it is about, which are read once and written once.

Rows are dictionaries of what the database holds, by column. The models would cost more than everything else here.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import orjson

from engine.broker.effects import to_timestamp
from engine.broker.messages import parse_body, short_task_name
from engine.database import database, write_rows
from engine.history import error_groups, run_counts
from engine.models import ENDED, Attempt, LogLine, Run, State, Tick

RUN, ATTEMPT, LINE, TICK = (
    [field.column_name for field in model._meta.sorted_fields] for model in (Run, Attempt, LogLine, Tick)
)
#: Of a run on record, all that events still change.
CHANGING = (
    "state", "due_at", "started_at", "ended_at", "instant_at", "wait_ms", "run_ms", "attempts", "deliveries", "worker",
    "result", "error", "error_group", "progress_done", "progress_total", "progress_text",
)  # fmt: skip
NEW_RUN = dict.fromkeys(RUN) | {"retries": 0, "attempts": 0, "deliveries": 0, "state": State.WAITING}
NEW_ATTEMPT = dict.fromkeys(ATTEMPT)
STATES = frozenset(State)
#: The error of a run that has disappeared from the broker.
LOST = "lost: the broker no longer has this run, so its outcome is unknown"

Row = dict[str, Any]
Event = dict[str, Any]
#: A position in the stream, and what stands there.
Line = tuple[int, bytes]


class NoEvent(ValueError):
    """A line of the stream that this program cannot understand. The message says why."""


def play(queue: str, lines: Sequence[Line]) -> None:
    """Write down what these lines of the stream say, in the caller's transaction.

    Raises what `refusals.is_refusal` knows, and writes nothing complete, when one of them cannot be written down.
    """
    events = [known(line) for _, line in lines]
    book = Book(queue, {event["id"] for event in events} - {""})
    for event in events:
        PLAY[event["kind"]](book, event)
    book.save()


def known(line: bytes) -> Event:
    """The event of a line. Raises NoEvent and ValueError."""
    event = read(line)
    if event["kind"] not in PLAY:
        raise NoEvent(f"no event has the kind {event['kind']!r}")
    if not isinstance(event["id"], str):
        raise NoEvent("its id is no text")
    return event


def read(line: bytes) -> Event:
    """An event; without NUL, which JSON writes as an escape and PostgreSQL's text cannot hold. Its id stays as it is:
    another one would be that of another run.
    """
    if not line.startswith(b"{"):
        return message_read(line)
    if b"\\u0000" not in line:
        event: Event = orjson.loads(line)
        return event
    return {
        name: without_nul(value) if isinstance(value, str) and name not in ("id", "result") else value
        for name, value in orjson.loads(line).items()
    }


def told_at(line: bytes) -> float | None:
    """When the event of a line happened (Unix seconds); None where the line does not say so."""
    try:
        return float(read(line)["at"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def message_read(line: bytes) -> Event:
    """The message of a new run is its own line of history."""
    content = orjson.loads(parse_body(line))
    message, envelope = content["message"], content["envelope"]
    enqueued_at = to_timestamp(datetime.fromisoformat(envelope["enqueued_at"]))
    due = to_timestamp(datetime.fromisoformat(message["eta"])) if "eta" in message else 0
    return {
        "kind": "enqueued", "id": message["id"], "at": enqueued_at, "task": short_task_name(message["name"]),
        "args": message["args"], "kwargs": message["kwargs"], "priority": message.get("priority"),
        "retries": envelope["retries"], "asked_by": envelope["asked_by"], "parent": envelope["parent_id"],
        "version": envelope["code_version"], "due": due if due > enqueued_at else None,
    }  # fmt: skip


class Book:
    """The runs that a batch of events is about, and what is new about them."""

    def __init__(self, queue: str, ids: set[str]) -> None:
        self.queue = queue
        self.runs = rows_of(ids)
        self.deltas = Counter(key for run in self.runs.values() for key in where_counted(run))
        self.deltas = Counter({key: -count for key, count in self.deltas.items()})
        self.attempts: dict[tuple[str, int], Row] = {}
        self.lines: dict[tuple[str, int, int], Row] = {}
        self.left_out: dict[tuple[str, int], tuple[int, int]] = {}
        self.ticks: dict[tuple[str, int], Row] = {}
        self.lost: dict[str, str] = {}  # run id → when it was found to be lost
        self.failures = error_groups.Gathered()

    def run(self, event: Event) -> Row:
        """The run of an event; one whose enqueuing was never told begins here."""
        run = self.runs.get(event["id"])
        if run is None:
            run = self.runs[event["id"]] = NEW_RUN | {
                "id": event["id"], "task": event.get("task", "?"), "queue": self.queue,
                "enqueued_at": at(event["at"]), "started_at": None,
            }  # fmt: skip
        return run

    def attempt(self, event: Event, state: str) -> Row:
        """The attempt that this event ends, and its run, which has come so far."""
        run = self.run(event)
        worker = event["worker"]
        if "consumer" in event:
            worker = f"{worker} on {event['consumer']}"
        started = event.get("started") and at(event["started"])
        run["deliveries"], run["attempts"], run["worker"] = event["delivery"], event["attempt"], worker
        run["started_at"] = run["started_at"] or started
        row = self.attempts[event["id"], event["delivery"]] = NEW_ATTEMPT | {
            "run_id": event["id"], "number": event["delivery"], "attempt": event["attempt"], "state": state,
            "worker": worker, "started_at": started, "ended_at": at(event["at"]),
            "error": event.get("error"), "code_version": event.get("version"),
        }  # fmt: skip
        return row

    def failed(self, event: Event, attempt: Row, exception: str = "") -> str:
        """Count the failure of an attempt; gives back its group."""
        task = self.run(event)["task"]
        kind = error_groups.kind_of(task, event.get("error"), event.get("traceback"), exception)
        attempt["error_group"] = kind.id
        failure = error_groups.Failure(at(event["at"]), event.get("version"), event.get("error") or "")
        self.failures.add(kind, failure)
        self.deltas[int(float(event["at"])), task, self.queue, run_counts.ERROR + kind.id, 0] += 1
        return kind.id

    def save(self) -> None:
        for run in self.runs.values():
            self.deltas.update(where_counted(run))
        # In the order of their keys, so that two who write at once never lock each other out.
        write_rows(Run, in_order(self.runs.values(), RUN), CHANGING)
        write_rows(Attempt, in_order(self.attempts.values(), ATTEMPT))
        self.save_lost()
        self.save_lines()
        write_rows(Tick, in_order(self.ticks.values(), TICK), changing=())
        self.failures.save()
        run_counts.add(self.deltas)

    def save_lost(self) -> None:
        """End the attempts that were running when their run was lost."""
        for run_id, ended_at in self.lost.items():
            running = (Attempt.run_id == run_id) & (Attempt.state == State.RUNNING)
            Attempt.update(state=State.FAILED, ended_at=ended_at, error=LOST).where(running).execute()

    def save_lines(self) -> None:
        """Those that were left out again when more came are removed, whether or not they were written already."""
        for (run_id, delivery), (first, last) in self.left_out.items():
            gone = (LogLine.run_id == run_id) & (LogLine.delivery == delivery) & LogLine.number.between(first, last)
            LogLine.delete().where(gone).execute()
            mine = [key for key in self.lines if key[:2] == (run_id, delivery) and first <= key[2] <= last]
            for key in mine:
                del self.lines[key]
        write_rows(LogLine, in_order(self.lines.values(), LINE), changing=())


def in_order(rows: Iterable[Row], columns: list[str]) -> list[tuple[Any, ...]]:
    return sorted(map(itemgetter(*columns), rows), key=itemgetter(0, 1))


def rows_of(ids: set[str]) -> dict[str, Row]:
    marks = ", ".join([database.param] * len(ids))
    found = database.execute_sql(f"SELECT {', '.join(RUN)} FROM dewey_runs WHERE id IN ({marks})", list(ids))
    return {values[0]: dict(zip(RUN, values, strict=True)) for values in found.fetchall()}


def where_counted(run: Row) -> list[run_counts.Key]:
    """As `counts.keys_of`, of a row."""
    if run["ended_at"] is None:
        return []
    second, task, queue = int(seconds(run["ended_at"])), run["task"], run["queue"]
    keys = [(second, task, queue, str(run["state"]), 0)]
    if run["attempts"] > 1:
        keys.append((second, task, queue, run_counts.AGAIN, 0))
    for what, ms in ((run_counts.WAITED, run["wait_ms"]), (run_counts.RAN, run["run_ms"])):
        if ms is not None:
            keys.append((second, task, queue, what, run_counts.bucket_of(ms)))
    return keys


# --- what each kind of event says ----------------------------------------------------------------------------


def enqueued(book: Book, event: Event) -> None:
    run = book.run(event)
    if not run["attempts"]:  # else the same message, sent again
        run.update(new_run(event))


def new_run(event: Event) -> Row:
    """Return the columns that a run has from its enqueuing on."""
    kind, name = event["asked_by"]
    due = event["due"]
    return {
        "task": event["task"], "enqueued_at": at(event["at"]), "args": dump(event["args"]),
        "kwargs": dump(event["kwargs"]), "priority": event["priority"], "retries": event["retries"],
        "asked_by_kind": kind, "asked_by": without_nul(name), "parent_id": event["parent"],
        "code_version": event["version"], "due_at": due and at(due),
        "state": State.SCHEDULED if due else State.WAITING,
    }  # fmt: skip


def row_of_message(queue: str, message: bytes) -> tuple[Any, ...]:
    """Return the row of the run that a message asks for, as it is before anything has happened to it."""
    event = message_read(message)
    return itemgetter(*RUN)(NEW_RUN | {"id": event["id"], "queue": queue} | new_run(event))


def due(book: Book, event: Event) -> None:
    run = book.run(event)
    if run["state"] in (State.SCHEDULED, State.RETRYING):
        run["state"] = State.WAITING


def limited(book: Book, event: Event) -> None:
    run = book.run(event)
    if run["state"] in (State.WAITING, State.SCHEDULED, State.RETRYING):
        run.update(state=State.SCHEDULED, due_at=at(event["due"]))


def ended(book: Book, event: Event) -> None:
    state = event["state"]
    if state not in STATES:
        raise NoEvent(f"{state!r} is no state of a run")
    goes_on = state in (State.RETRYING, State.SCHEDULED)
    attempt = book.attempt(event, State.FAILED if state == State.RETRYING else state)
    run, next_at = book.run(event), event.get("next_at")
    attempt.update(run_ms=event["run_ms"], traceback=event.get("traceback"), next_at=next_at and at(next_at))
    run.update(state=state, run_ms=event["run_ms"], error=event.get("error"), result=dump(event.get("result")))
    run["error_group"] = book.failed(event, attempt) if state in (State.FAILED, State.RETRYING) else None
    run["ended_at"] = None if goes_on else attempt["ended_at"]
    run["due_at"] = at(next_at) if next_at else run["due_at"]
    if run["wait_ms"] is None:
        run["wait_ms"] = waited(run, attempt) if event["wait_ms"] is None else event["wait_ms"]
    told(book, event)
    if state == State.RETRYING:
        book.deltas[int(event["at"]), run["task"], book.queue, run_counts.RETRIED, 0] += 1


def waited(run: Row, attempt: Row) -> float | None:
    """Return how long a run has waited for its first start, in milliseconds: it may have been put off before."""
    if not attempt["started_at"] or attempt["started_at"] != run["started_at"]:
        return None
    return max(seconds(attempt["started_at"]) - seconds(run["due_at"] or run["enqueued_at"]), 0) * 1000


def returned(book: Book, event: Event) -> None:
    attempt = book.attempt(event, "died" if event["counts"] else "returned")
    run = book.run(event)
    group = book.failed(event, attempt, error_groups.DIED) if event["counts"] else None
    run["state"] = State.DEAD if event["dead"] else State.WAITING
    if event["dead"]:
        run.update(ended_at=at(event["at"]), error=event["error"], error_group=group)


def put_off(book: Book, event: Event) -> None:
    """A consumer could not begin it, for want of code: that is no start of the run."""
    run = book.run(event)
    before = {name: run[name] for name in ("started_at", "wait_ms", "attempts", "worker")}
    seen_running = run["deliveries"] == event["delivery"]  # in the moment in which it was held
    attempt = book.attempt(event, "put_off")
    if seen_running and before["started_at"] and seconds(before["started_at"]) == seconds(at(event["started"])):
        before = {"started_at": None, "wait_ms": None, "attempts": event["attempt"] - 1, "worker": None}
    run.update(before, state=State.SCHEDULED, error=attempt["error"], error_group=None)


def dead(book: Book, event: Event) -> None:
    kind = error_groups.NOT_KNOWN if event.get("unknown") else error_groups.UNREADABLE
    group = book.failed(event, book.attempt(event, State.DEAD), kind)
    book.run(event).update(state=State.DEAD, ended_at=at(event["at"]), error=event["error"], error_group=group)


def cancelled(book: Book, event: Event) -> None:
    by = f"cancelled by {event['by']}"
    book.run(event).update(state=State.CANCELLED, ended_at=at(event["at"]), error=by, error_group=None)


def requeued(book: Book, event: Event) -> None:
    book.run(event).update(state=State.WAITING, ended_at=None, due_at=None, error=None, error_group=None, result=None)


def lost(book: Book, event: Event) -> None:
    """The broker has nothing of this run. What it had reported of it before is on record by now."""
    run = book.runs.get(event["id"])
    if run and run["state"] not in ENDED:
        ended_at = book.lost[event["id"]] = at(event["at"])
        run.update(state=State.FAILED, ended_at=ended_at, error=LOST, error_group=None)


def noted(book: Book, event: Event) -> None:
    """Facts about a run that goes on."""
    if "instant_at" in event:
        book.run(event)["instant_at"] = at(datetime.fromisoformat(event["instant_at"]).timestamp())
    told(book, event)


def told(book: Book, event: Event) -> None:
    """What an attempt has logged, and how far it came. A late one may stand behind the attempt's end."""
    run_id, delivery = event["id"], event.get("delivery", 0)
    for number, logged_at, level, logger, text in event.get("lines", ()):
        words = {"level": level, "logger": without_nul(logger), "text": without_nul(text)}
        key = {"run_id": run_id, "delivery": delivery, "number": number}
        book.lines[run_id, delivery, number] = key | {"at": at(logged_at)} | words
    if "left_out" in event:
        book.left_out[run_id, delivery] = event["left_out"]
    if "progress" in event:
        done, total, text = event["progress"]
        book.run(event).update(progress_done=done, progress_total=total, progress_text=text and without_nul(text))


def ticks(book: Book, event: Event) -> None:
    """What became of a task's ticks. The last one has the run, if it started one."""
    for place, (minute, state) in enumerate(event["ticks"], 1):
        book.ticks[event["task"], minute] = {
            "task": event["task"], "due_at": at(minute * 60), "queue": book.queue, "state": state,
            "run_id": event["run"] if place == len(event["ticks"]) else None, "seen_at": at(event["at"]),
        }  # fmt: skip


PLAY: dict[str, Callable[[Book, Event], None]] = {
    "enqueued": enqueued, "due": due, "limited": limited, "ended": ended, "returned": returned, "dead": dead,
    "cancelled": cancelled, "put_off": put_off, "requeued": requeued, "lost": lost, "noted": noted, "ticks": ticks,
}  # fmt: skip


# --- values as the database holds them -----------------------------------------------------------------------


def instant(unix: float | str) -> datetime:
    """Raises ValueError."""
    try:
        return datetime.fromtimestamp(float(unix), UTC)
    except (OSError, OverflowError) as error:
        raise ValueError(f"{unix} is out of range for a time") from error


def at(unix: float | str) -> str:
    return str(instant(unix))


def seconds(value: Any) -> float:
    """Unix time of an instant as a row holds it."""
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).timestamp()


def dump(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def without_nul(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
