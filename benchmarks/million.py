"""Fill a database with very many runs, as after a busy month.

    .venv/bin/python benchmarks/million.py sqlite:////tmp/million.db [--runs 1000000]
    .venv/bin/python benchmarks/million.py postgresql:///million

The data are 30 days of three tasks in daily waves, with retries, an outage in one evening, a few dead runs and ticks.
The counts match the rows. The numbers are the same each time, relative to the end time.
"""

import argparse
import csv
import io
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from engine.database import bind, database, on_postgresql  # noqa: E402
from engine.history import run_counts  # noqa: E402
from engine.migrations import migrate  # noqa: E402
from engine.models import Attempt, Run, RunCount, Tick, now  # noqa: E402

DAYS, CHUNK = 30, 20_000


class Kind(NamedTuple):
    """A task: its share of all runs, typical wait and duration (ms), its typical error."""

    task: str
    queue: str
    priority: int
    share: float
    waits: float
    runs: float
    fails: str


KINDS = (
    Kind(
        "generate_image", "normal", 3, 0.60, 80, 2_400, "ConnectionError: images.internal:8080 refused the connection"
    ),
    Kind("get_cleanup_statistics", "light", 1, 0.32, 6, 12, "OperationalError: canceling statement due to timeout"),
    Kind("process_book", "heavy", 5, 0.08, 900, 14_000, "BadZipFile: File is not a zip file"),
)
SHARES = [kind.share for kind in KINDS]
DEATH = "The worker died 5 times while it ran this"
TRACEBACK = """Traceback (most recent call last):
  File "/app/engine/queues/queue.py", line 240, in execute
    value = task.execute()
  File "/app/tasks.py", line 88, in {task}
    return pictures.draw(book, passage, size)
  File "/app/reading/pictures.py", line 41, in draw
    answer = session.post(url, json=wanted, timeout=30)
{error}
"""
ASKERS = [("operator", "ann@example.org"), ("token", "nightly"), ("cli", "root"), ("code", None), ("run", None)]
WORKERS = [f"Worker-{number} on app-{host}:{4000 + host}:7c1e" for host in (1, 2) for number in (1, 2, 3, 4)]

RUN_COLUMNS = [field.name for field in Run._meta.sorted_fields]
ATTEMPT_COLUMNS = [field.name for field in Attempt._meta.sorted_fields]
COUNT_COLUMNS = [field.name for field in RunCount._meta.sorted_fields]
TICK_COLUMNS = [field.name for field in Tick._meta.sorted_fields]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="sqlite:///… or postgresql://…, of a database without runs")
    parser.add_argument("--runs", type=int, default=1_000_000)
    options = parser.parse_args()
    bind(options.url)
    migrate()
    if Run.select().exists():
        sys.exit("There are runs in this database already.")
    seed(options.runs, now())


def seed(runs: int, as_of: datetime) -> None:
    """Fill the empty tables of the bound database."""
    if not on_postgresql():
        # Random ids touch every page of an index. Only a benchmark is lost if this is interrupted.
        for pragma in ("synchronous = off", "cache_size = -1500000", "wal_autocheckpoint = 100000"):
            database.execute_sql(f"PRAGMA {pragma}")
    chance = random.Random(runs)
    indexes = drop_indexes()
    tally = Tally(as_of - run_counts.RETENTION[run_counts.MINUTE])
    for chunk in chunks(stories(runs, as_of, chance)):
        with database.atomic():
            store("dewey_runs", RUN_COLUMNS, [story.row for story in chunk])
            store("dewey_attempts", ATTEMPT_COLUMNS, [row for story in chunk for row in story.attempts])
            for story in chunk:
                tally.count(story.keys)
            store("dewey_run_counts", COUNT_COLUMNS, tally.final(chunk[-1].second))
    with database.atomic():
        store("dewey_run_counts", COUNT_COLUMNS, tally.final(run_counts.FOREVER))
        ever = [(run_counts.ALL_TIME, 0, *key, count) for key, count in tally.ever.items()]
        store("dewey_run_counts", COUNT_COLUMNS, ever)
        store("dewey_ticks", TICK_COLUMNS, ticks(as_of))
    for index in indexes:
        database.execute_sql(index)
    database.execute_sql("ANALYZE")


# --- runs ----------------------------------------------------------------------------------------------------


#: Column → database value. A missing column is NULL.
Columns = dict[str, object]


class Story(NamedTuple):
    """A run with its rows and counters. `second`: enqueue time."""

    second: int
    row: tuple[object, ...]
    attempts: list[tuple[object, ...]]
    keys: list[run_counts.Key]


def stories(runs: int, as_of: datetime, chance: random.Random) -> Iterator[Story]:
    """Yield the runs in order of their enqueue time."""
    end = as_of.timestamp()
    first = end - DAYS * 86_400
    outage = (end - 2 * 86_400, end - 2 * 86_400 + 2400)
    weights = [1.2 + math.sin(2 * math.pi * hour / 24) for hour in range(DAYS * 24)]
    made, passed = 0, 0.0
    for hour, weight in enumerate(weights):
        passed += weight
        due = round(runs * passed / sum(weights))
        for offset in sorted(chance.random() for _ in range(due - made)):
            at = first + (hour + offset) * 3600
            yield story(at, end, outage[0] < at < outage[1], chance)
        made = due


def story(at: float, end: float, outage: bool, chance: random.Random) -> Story:
    kind = chance.choices(KINDS, SHARES)[0]
    run_id = new_id(chance)
    intended, count = ending(chance, outage)
    wait_ms = kind.waits * chance.lognormvariate(0, 0.9)
    worker = chance.choice(WORKERS)
    starts = start_times(kind, intended, count, at + wait_ms / 1000, end, chance)
    state, ended_at = end_of(intended, count, starts, at + wait_ms / 1000, end)
    asker, name = chance.choice(ASKERS)
    run: Columns = {
        "id": run_id, "task": kind.task, "queue": kind.queue, "state": state,
        "args": "[]", "kwargs": arguments(kind, chance), "priority": kind.priority, "retries": 3,
        "asked_by_kind": asker, "asked_by": name if asker != "run" else run_id, "code_version": "2.4.1",
        "enqueued_at": text(at), "ended_at": text(ended_at),
        "attempts": len(starts), "deliveries": len(starts),
        "result": dense({"plates": 8}) if state == "succeeded" else None,
        "error": {"failed": kind.fails, "dead": DEATH, "cancelled": "cancelled by ann@example.org"}.get(state),
    }  # fmt: skip
    if starts:
        run |= {"started_at": text(starts[0].began), "wait_ms": wait_ms, "run_ms": starts[-1].run_ms, "worker": worker}
    if state == "retrying":
        run["due_at"] = text(starts[-1].next_at)
    attempts = [attempt_row(run_id, number, kind, worker, start) for number, start in enumerate(starts, 1)]
    keys = counter_keys(kind, state, starts, wait_ms, ended_at)
    return Story(int(at), in_order(RUN_COLUMNS, run), attempts, keys)


def new_id(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], "4" + digits[13:16], "a" + digits[17:20], digits[20:]))


class Start(NamedTuple):
    """A start of a run, in Unix seconds. `ended` and `run_ms` are None while it runs."""

    outcome: str
    began: float
    ended: float | None
    run_ms: float | None
    next_at: float | None = None  # of the following retry
    error: str | None = None


def start_times(kind: Kind, state: str, count: int, began: float, end: float, chance: random.Random) -> list[Start]:
    """Return at most `count` starts, the last of which ends in `state`. None begins after `end`."""
    starts: list[Start] = []
    while len(starts) < count and began <= end:
        run_ms = kind.runs * chance.lognormvariate(0, 0.6)
        ended, is_last = began + run_ms / 1000, len(starts) + 1 == count
        if ended > end:
            return [*starts, Start("running", began, None, None)]
        outcome = state if is_last else "died" if state == "dead" else "failed"
        error = DEATH if outcome in ("died", "dead") else kind.fails if outcome == "failed" else None
        next_at = ended + 30 if outcome == "failed" and not is_last else None
        starts.append(Start(outcome, began, ended, run_ms, next_at, error))
        began = next_at or ended
    return starts


def end_of(intended: str, count: int, starts: list[Start], due: float, end: float) -> tuple[str, float | None]:
    """Return the state of the run at `end`, and when it ended, if it has."""
    if not count:
        return (intended, due) if due <= end else ("waiting", None)
    if not starts:
        return "waiting", None
    if starts[-1].outcome == "running":
        return "running", None
    return (intended, starts[-1].ended) if len(starts) == count else ("retrying", None)


def attempt_row(run_id: str, number: int, kind: Kind, worker: str, start: Start) -> tuple[object, ...]:
    values: Columns = {
        "run_id": run_id, "number": number, "attempt": number, "state": start.outcome, "worker": worker,
        "code_version": "2.4.1", "started_at": text(start.began), "ended_at": text(start.ended),
        "run_ms": start.run_ms, "next_at": text(start.next_at), "error": start.error,
        "traceback": TRACEBACK.format(task=kind.task, error=start.error) if start.outcome == "failed" else None,
    }  # fmt: skip
    return in_order(ATTEMPT_COLUMNS, values)


def counter_keys(
    kind: Kind, state: str, starts: list[Start], wait_ms: float, ended_at: float | None
) -> list[run_counts.Key]:
    retried = [int(start.ended) for start in starts if start.ended and start.next_at]
    keys = [(second, kind.task, kind.queue, run_counts.RETRIED, 0) for second in retried]
    if not ended_at:
        return keys
    counted = [(state, 0)]
    if len(starts) > 1:
        counted.append((run_counts.RETRIED_RUNS, 0))
    if starts:
        counted.append((run_counts.WAITED, run_counts.duration_bucket(wait_ms)))
        counted.append((run_counts.RAN, run_counts.duration_bucket(starts[-1].run_ms or 0)))
    return [*keys, *((int(ended_at), kind.task, kind.queue, what, bucket) for what, bucket in counted)]


def in_order(columns: list[str], values: Columns) -> tuple[object, ...]:
    return tuple(values.get(column) for column in columns)


def ending(chance: random.Random, outage: bool) -> tuple[str, int]:
    """Return how a run ends, and its number of starts until then."""
    roll = chance.random()
    if roll < (0.6 if outage else 0.012):
        return "failed", 4
    if roll < 0.9810:
        return "succeeded", 1 if chance.random() > 0.03 else 2
    if roll < 0.9812:
        return "dead", 5
    if roll < 0.99:
        return "cancelled", 0
    return ("expired", 0) if roll < 0.993 else ("succeeded", 3)


def arguments(kind: Kind, chance: random.Random) -> str:
    match kind.task:
        case "process_book":
            return dense({"book_id": f"{chance.getrandbits(48):012x}"})
        case "generate_image":
            return dense({"passage": chance.randrange(100_000), "size": "1024x768"})
    return dense({"hours": chance.choice((1, 24, 168))})


def dense(value: object) -> str:
    """Return JSON as the recorder writes it."""
    return json.dumps(value, separators=(",", ":"))


def text(second: float | None) -> str | None:
    """Return a time as both databases accept it."""
    return None if second is None else str(datetime.fromtimestamp(second, UTC))


def ticks(as_of: datetime) -> Iterator[tuple[object, ...]]:
    """Yield a tick of the cleanup per half hour. Two were missed and one was late."""
    last = as_of.replace(minute=as_of.minute // 30 * 30, second=0, microsecond=0)
    for back in range(DAYS * 48):
        due = last - timedelta(minutes=30 * back)
        state = {3: "late", 7: "missed", 100: "missed"}.get(back, "enqueued")
        yield "close_abandoned_sessions", str(due), "light", state, None, str(due + timedelta(milliseconds=420))


class Tally:
    """Counters of all spans. Final rows are removed at once. Minutes are kept as far back as in production."""

    def __init__(self, minutes_from: datetime) -> None:
        self.minutes_from = int(minutes_from.timestamp())
        self.sums: dict[int, Counter[tuple[int | str, ...]]] = {span: Counter() for span in run_counts.SPANS}
        self.ever: Counter[tuple[int | str, ...]] = Counter()
        self.done = dict.fromkeys(run_counts.SPANS, 0)

    def count(self, keys: Iterable[run_counts.Key]) -> None:
        for second, *rest in keys:
            self.ever[tuple(rest)] += 1
            for span, sums in self.sums.items():
                if span != run_counts.MINUTE or second >= self.minutes_from:
                    sums[second // span * span, *rest] += 1

    def final(self, before: int) -> list[tuple[object, ...]]:
        """Return and remove the counters of spans that ended before this time. No later run can change them."""
        rows = []
        for span, sums in self.sums.items():
            if before - self.done[span] < run_counts.DAY and span != run_counts.MINUTE:
                continue  # too few new rows to search all keys
            edge = before // span * span
            over = [key for key in sums if key[0] < edge]
            rows += [(span, *key, sums.pop(key)) for key in over]
            self.done[span] = edge
        return rows


def chunks(stories: Iterable[Story]) -> Iterator[list[Story]]:
    rest = iter(stories)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def drop_indexes() -> list[str]:
    """Drop the indexes of the runs, which are faster to build at the end. Returns their statements."""
    select = (
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'dewey_runs' AND indexname <> 'dewey_runs_pkey'"
        if on_postgresql()
        else "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'dewey_runs' AND sql <> ''"
    )
    indexes = database.execute_sql(select).fetchall()
    for name, _statement in indexes:
        database.execute_sql(f"DROP INDEX {name}")
    return [statement for _name, statement in indexes]


def store(table: str, columns: list[str], rows: Iterable[tuple[object, ...]]) -> None:
    cursor = database.cursor()
    if not on_postgresql():
        placeholders = ", ".join("?" * len(columns))
        cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({placeholders})", rows)
        return
    # An unquoted empty field is NULL. No value is an empty string.
    lines = io.StringIO()
    csv.writer(lines).writerows(rows)
    lines.seek(0)
    cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN WITH (FORMAT csv)", lines)


if __name__ == "__main__":
    main()
