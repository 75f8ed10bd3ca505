"""A database with very many runs in it, as a busy month would leave them.

    .venv/bin/python benchmarks/million.py sqlite:////tmp/million.db [--runs 1000000]
    .venv/bin/python benchmarks/million.py postgresql:///million

30 days of three tasks in daily waves, retries, an evening on which a service was away, a few dead runs, the ticks of
the schedule; the counts are in step with the rows. The same numbers each time, up to the instant at which it ends.
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
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from engine.database import bind, database, on_postgresql  # noqa: E402
from engine.history import run_counts  # noqa: E402
from engine.migrations import migrate  # noqa: E402
from engine.models import Attempt, Run, RunCount, Tick, now  # noqa: E402

DAYS, CHUNK = 30, 20_000


class Kind(NamedTuple):
    """A task: its part of all runs; typical waiting and running (ms); what it may fail with."""

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
    """Fill the empty tables of the database that is bound."""
    if not on_postgresql():
        # Random ids touch every page of an index; nothing is lost but a benchmark if this is cut short.
        for pragma in ("synchronous = off", "cache_size = -1500000", "wal_autocheckpoint = 100000"):
            database.execute_sql(f"PRAGMA {pragma}")
    chance = random.Random(runs)
    indexes = drop_indexes()
    tally = Tally(as_of - run_counts.KEPT[run_counts.MINUTE])
    for story in chunks(stories(runs, as_of, chance)):
        with database.atomic():
            store("dewey_runs", RUN_COLUMNS, [one.row for one in story])
            store("dewey_attempts", ATTEMPT_COLUMNS, [row for one in story for row in one.attempts])
            for one in story:
                tally.count(one.keys)
            store("dewey_run_counts", COUNT_COLUMNS, tally.final(story[-1].second))
    with database.atomic():
        store("dewey_run_counts", COUNT_COLUMNS, tally.final(run_counts.FOREVER))
        ever = [(run_counts.EVER, 0, *key, count) for key, count in tally.ever.items()]
        store("dewey_run_counts", COUNT_COLUMNS, ever)
        store("dewey_ticks", TICK_COLUMNS, ticks(as_of))
    for index in indexes:
        database.execute_sql(index)
    database.execute_sql("ANALYZE")


# --- what happened -------------------------------------------------------------------------------------------


class Story(NamedTuple):
    """A run, as its rows and counts tell it; `second`: when it came in."""

    second: int
    row: tuple[Any, ...]
    attempts: list[tuple[Any, ...]]
    keys: list[run_counts.Key]


def stories(runs: int, as_of: datetime, chance: random.Random) -> Iterator[Story]:
    """In the order in which they came in."""
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
    identifier = f"{chance.getrandbits(128):032x}"
    run_id = "-".join(
        (identifier[:8], identifier[8:12], "4" + identifier[13:16], "a" + identifier[17:20], identifier[20:])
    )
    state, starts = ending(chance, outage)
    wait_ms = kind.waits * chance.lognormvariate(0, 0.9)
    worker = chance.choice(WORKERS)
    started, error = at + wait_ms / 1000, kind.fails if state == "failed" else DEATH if state == "dead" else None
    attempts, keys, run_ms, clock = [], [], None, started
    for number in range(1, starts + 1):
        if clock > end:
            break
        run_ms = kind.runs * chance.lognormvariate(0, 0.6)
        last, ended = number == starts, clock + run_ms / 1000
        outcome = state if last else "died" if state == "dead" else "failed"
        if ended > end:
            outcome, state, run_ms = "running", "running", None
        going_on = outcome == "failed" and not last
        why = (DEATH if outcome in ("died", "dead") else kind.fails) if outcome in ("failed", "died", "dead") else None
        next_at = ended + 30 if going_on else None
        trace = TRACEBACK.format(task=kind.task, error=why) if outcome == "failed" else None
        # The columns of Attempt, in their order.
        attempts.append(
            (run_id, number, number, outcome, worker, "2.4.1", text(clock),
             None if outcome == "running" else text(ended), run_ms, next_at and text(next_at), why, trace)
        )  # fmt: skip
        if going_on:
            keys.append((int(ended), kind.task, kind.queue, run_counts.RETRIED, 0))
        clock = ended + 30 if going_on else ended
    if starts and not attempts:
        state = "waiting"
    elif attempts and len(attempts) < starts and state != "running":
        state = "retrying"
    ended_at = at + wait_ms / 1000 if not starts else None if state in OPEN else clock
    if ended_at and ended_at > end:
        state, ended_at = "waiting", None
    if ended_at:
        second = int(ended_at)
        keys.append((second, kind.task, kind.queue, state, 0))
        if len(attempts) > 1:
            keys.append((second, kind.task, kind.queue, run_counts.AGAIN, 0))
        if attempts:
            keys.append((second, kind.task, kind.queue, run_counts.WAITED, run_counts.bucket_of(wait_ms)))
            keys.append((second, kind.task, kind.queue, run_counts.RAN, run_counts.bucket_of(run_ms or 0)))
    asker, name = chance.choice(ASKERS)
    # The columns of Run, in their order.
    row = (
        run_id, kind.task, kind.queue, state, "[]", arguments(kind, chance), kind.priority, 3, asker,
        name if asker != "run" else run_id, None, "2.4.1", text(at), attempts[-1][9] if state == "retrying" else None,
        text(started) if attempts else None, text(ended_at) if ended_at else None, None,
        wait_ms if attempts else None, run_ms, len(attempts), len(attempts), worker if attempts else None,
        dense({"plates": 8}) if state == "succeeded" else None,
        "cancelled by ann@example.org" if state == "cancelled" else error if state in ("failed", "dead") else None,
        None, None, None,
    )  # fmt: skip
    return Story(int(at), row, attempts, keys)


OPEN = ("waiting", "running", "retrying")


def ending(chance: random.Random, outage: bool) -> tuple[str, int]:
    """How a run ends, and how often it is started until then."""
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


def dense(value: Any) -> str:
    """As the recorder writes JSON."""
    return json.dumps(value, separators=(",", ":"))


def text(second: float) -> str:
    """As both databases take an instant."""
    return str(datetime.fromtimestamp(second, UTC))


def ticks(as_of: datetime) -> Iterator[tuple[Any, ...]]:
    """Each half hour of the cleanup; two were missed and one was late."""
    last = as_of.replace(minute=as_of.minute // 30 * 30, second=0, microsecond=0)
    for back in range(DAYS * 48):
        due = last - timedelta(minutes=30 * back)
        state = {3: "late", 7: "missed", 100: "missed"}.get(back, "enqueued")
        yield "close_abandoned_sessions", str(due), "light", state, None, str(due + timedelta(milliseconds=420))


# --- into the tables -----------------------------------------------------------------------------------------


class Tally:
    """Counts of all spans, given away as soon as nothing can be added to them; minutes only as far back as kept."""

    def __init__(self, minutes_from: datetime) -> None:
        self.minutes_from = int(minutes_from.timestamp())
        self.sums: dict[int, Counter[Any]] = {span: Counter() for span in run_counts.SPANS}
        self.ever: Counter[Any] = Counter()
        self.done = dict.fromkeys(run_counts.SPANS, 0)

    def count(self, keys: Iterable[run_counts.Key]) -> None:
        for second, *rest in keys:
            self.ever[tuple(rest)] += 1
            for span, sums in self.sums.items():
                if span != run_counts.MINUTE or second >= self.minutes_from:
                    sums[second // span * span, *rest] += 1

    def final(self, before: int) -> list[tuple[Any, ...]]:
        """What began and ended before: no run that comes in later ends earlier."""
        rows = []
        for span, sums in self.sums.items():
            if before - self.done[span] < run_counts.DAY and span != run_counts.MINUTE:
                continue  # not worth looking through so soon
            edge = before // span * span
            over = [key for key in sums if key[0] < edge]
            rows += [(span, *key, sums.pop(key)) for key in over]
            self.done[span] = edge
        return rows


def chunks(told: Iterable[Story]) -> Iterator[list[Story]]:
    chunk: list[Story] = []
    for one in told:
        chunk.append(one)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def drop_indexes() -> list[str]:
    """Those of the runs, which are quicker built at the end; gives the statements for that."""
    select = (
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'dewey_runs' AND indexname <> 'dewey_runs_pkey'"
        if on_postgresql()
        else "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'dewey_runs' AND sql <> ''"
    )
    found = database.execute_sql(select).fetchall()
    for name, _statement in found:
        database.execute_sql(f"DROP INDEX {name}")
    return [statement for _name, statement in found]


def store(table: str, columns: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    cursor = database.cursor()
    if not on_postgresql():
        marks = ", ".join("?" * len(columns))
        cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        return
    # An empty field without quotes is NULL; no value here is an empty string.
    lines = io.StringIO()
    csv.writer(lines).writerows(rows)
    lines.seek(0)
    cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN WITH (FORMAT csv)", lines)


if __name__ == "__main__":
    main()
