"""Error groups: similar failures are one group, counted exactly, in the transaction that records them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sample_tasks import echo, probe

from config import ROOT
from engine.broker.effects import Effects, event_json
from engine.broker.sqlite.storage import SqliteStorage
from engine.control.retention import prune
from engine.control.runs import delete_ended
from engine.history import error_groups, run_counts, writer
from engine.history.error_groups import fingerprint
from engine.history.error_stats import load_error_counts
from engine.models import Attempt, ErrorGroup, Run, RunCount, now
from engine.monitor.status import load_problems
from engine.search.query_plan import RunQuery
from engine.search.run_search import all_matching, search_runs


@pytest.fixture(autouse=True)
def fresh_broker(tmp_path: Path) -> Iterator[None]:
    before = probe.storage
    probe.storage = SqliteStorage("probe", tmp_path / "queue.db", 60, read_timeout=0.05)
    probe.set_worker_identity("here", "Worker-1")
    yield
    probe.storage = before


def traceback(
    line: int = 7, code: str = "raise ValueError(path)", function: str = "open_epub", message: str = "x"
) -> str:
    """Return the traceback of an exception that a library raised in a call from this project."""
    return (
        "Traceback (most recent call last):\n"
        f'  File "{ROOT}/reading/books.py", line {line}, in {function}\n'
        f"    {code}\n"
        '  File "/usr/lib/python3.11/site-packages/lxml/etree.py", line 88, in parse\n'
        "    parse(it)\n"
        f"ValueError: {message}\n"
    )


def record_failure(
    run_id: str,
    at: datetime,
    *,
    state: str = "failed",
    delivery: int = 1,
    version: str = "v1",
    error: str = "ValueError: x",
    trace: str | None = "",
    task: str = "echo",
) -> None:
    """Record a failure as a worker does, and write it to the database."""
    facts = {"state": state, "delivery": delivery, "attempt": delivery, "task": task, "worker": "w", "version": version}
    rest = {"started": at.timestamp(), "wait_ms": None, "run_ms": 1, "result": None, "error": error}
    trace = traceback() if trace == "" else trace
    next_at = at.timestamp() + 60 if state == "retrying" else None
    event = event_json("ended", run_id, at.timestamp(), **facts, **rest, traceback=trace, next_at=next_at)
    probe.storage.messages.write(Effects().event(event))
    writer.flush_events(probe)


# --- grouping ------------------------------------------------------------------------------------------------


def test_moved_lines_and_numbers_keep_the_fingerprint() -> None:
    original = fingerprint("echo", "ValueError: book 7 at 0x7f31", traceback(line=7, message="book 7"))
    moved = fingerprint("echo", "ValueError: book 81 at 0x9a20", traceback(line=91, message="book 81"))
    assert original == moved
    assert original.place == "reading/books.py, in open_epub"
    assert original.exception == "ValueError"
    assert error_groups.ID_PATTERN.fullmatch(original.id)


@pytest.mark.parametrize(
    ("task", "error", "trace"),
    [
        ("other", "ValueError: x", traceback()),
        ("echo", "KeyError: x", traceback()),
        ("echo", "ValueError: x", traceback(function="close")),
        ("echo", "ValueError: x", traceback(code="raise ValueError(title)")),
        ("echo", "ValueError: x", None),
    ],
)
def test_different_task_exception_or_frame_changes_the_fingerprint(task: str, error: str, trace: str | None) -> None:
    assert fingerprint(task, error, trace).id != fingerprint("echo", "ValueError: x", traceback()).id


def test_fingerprint_without_own_frame_uses_the_normalised_message() -> None:
    ids = ("8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52", "00000000-2a4f-4d57-9f0a-5a4f7c1f3b52")
    first, other = (fingerprint("echo", f"TimeLimit: run {name} ran 1800.5 s, 0xff01", None) for name in ids)
    assert first == other
    assert first.code == "TimeLimit: run … ran … s, …"
    assert first.id != fingerprint("echo", "TimeLimit: run was refused", None).id


# --- stored failures -----------------------------------------------------------------------------------------


def test_group_stores_its_first_and_last_occurrence_and_version(each_database: str) -> None:
    at = now().replace(microsecond=0)
    record_failure("second", at - timedelta(minutes=2), version="v2", error="ValueError: two")
    record_failure("third", at - timedelta(minutes=1, microseconds=-5), version="v3", error="ValueError: three")
    record_failure("first", at - timedelta(minutes=9), version="v1", error="ValueError: one")
    (group,) = ErrorGroup.select()
    assert (group.task, group.exception, group.state) == ("echo", "ValueError", "open")
    assert (group.first_version, group.last_version, group.message) == ("v1", "v3", "ValueError: three")
    assert (group.first_seen_at, group.last_seen_at) == (
        at - timedelta(minutes=9),
        at - timedelta(minutes=1, microseconds=-5),
    )
    assert {run.error_group for run in Run.select()} == {group.id}
    assert {attempt.error_group for attempt in Attempt.select()} == {group.id}


def test_failed_attempts_are_counted_in_every_window(each_database: str) -> None:
    at = datetime(2026, 11, 25, 18, 30, 20, tzinfo=UTC)
    ages = {"hour": [1, 59], "day": [62, 1439], "week": [1442, 10079], "before": [10082, 50000]}
    for number, minutes in enumerate(age for some in ages.values() for age in some):
        record_failure(f"run {number}", at - timedelta(minutes=minutes))
    record_failure("retried", at, state="retrying")
    record_failure("retried", at, state="succeeded", delivery=2, error="", trace=None)
    (group,) = ErrorGroup.select()
    tally = load_error_counts([group.id], at)[group.id]
    assert (tally.hour, tally.day, tally.week, tally.total) == (3, 5, 7, 9)
    assert sum(tally.slots) == 6  # since midnight six days ago
    assert Run.get_by_id("retried").error_group is None
    assert load_error_counts(["0" * 12], at)["0" * 12].total == 0


def test_succeeded_or_cancelled_run_has_no_group(each_database: str) -> None:
    echo(1)
    while (task := probe.dequeue()) is not None:
        probe.execute(task)
    writer.flush_events(probe)
    record_failure("cancelled", now(), state="cancelled", error="cancelled")
    assert ErrorGroup.select().count() == 0
    assert RunCount.select().where(RunCount.what.startswith("error")).count() == 0


def test_dead_worker_and_unparseable_message_are_errors(each_database: str) -> None:
    echo("first")
    assert probe.storage.deliveries.settle_and_claim("c", "w", False, "{}").claimed
    probe.storage.deliveries.release("c", "w", "Worker-1 died (signal 9)", 5)
    probe.storage.deliveries.settle_and_claim("c", "w", False, "{}")
    probe.storage.deliveries.release("c", "w", "shutdown", 5, counts=False)
    writer.flush_events(probe)
    (group,) = ErrorGroup.select()
    assert (group.exception, group.task) == ("WorkerDied", "echo")
    assert load_error_counts([group.id], now())[group.id].total == 1


def test_deleted_run_is_subtracted(each_database: str) -> None:
    for number in range(3):
        record_failure(f"run {number}", now())
    (group,) = ErrorGroup.select()
    delete_ended({"probe": probe}, ["run 0", "run 1"])
    assert load_error_counts([group.id], now())[group.id].hour == 1
    assert sum(row.count for row in RunCount.select().where(RunCount.what == run_counts.ERROR_PREFIX + group.id)) == 3


def test_group_is_deleted_after_the_failure_retention(each_database: str) -> None:
    record_failure("old", now() - timedelta(days=91), task="old")
    record_failure("young", now() - timedelta(days=89), task="young")
    prune([probe], now(), 30, 90)
    assert [group.task for group in ErrorGroup.select()] == ["young"]


# --- decisions -----------------------------------------------------------------------------------------------


def test_resolved_group_regresses_on_a_new_failure(each_database: str) -> None:
    record_failure("one", now())
    (group,) = ErrorGroup.select()
    assert error_groups.resolve_group(group.id, "vera") and not error_groups.resolve_group(group.id, "vera")
    record_failure("late news", now() - timedelta(minutes=5))
    assert ErrorGroup.get().state == "resolved"
    record_failure("again", now(), version="v2")
    group = ErrorGroup.get()
    assert (group.state, group.resolved_by, group.last_version) == ("regressed", "vera", "v2")
    assert group.regressed_at > group.resolved_at
    assert error_groups.resolve_group(group.id, "ann")
    assert ErrorGroup.get().regressed_at is None


def test_snoozed_group_reopens_after_its_time(each_database: str) -> None:
    record_failure("one", now())
    (group,) = ErrorGroup.select()
    at = now()
    assert error_groups.snooze_group(group.id, at + timedelta(hours=1), "vera")
    record_failure("another", now())

    def lists(moment: datetime) -> list[str]:
        states = ("open", "snoozed", "resolved")
        return [
            state for state in states if ErrorGroup.select().where(error_groups.state_filter(state, moment)).count()
        ]

    assert lists(at) == ["snoozed"]
    assert lists(at + timedelta(hours=2)) == ["open"]
    assert error_groups.reopen_group(group.id) and not error_groups.reopen_group(group.id)
    assert lists(at) == ["open"]
    assert error_groups.resolve_group(group.id, "vera")
    assert not error_groups.snooze_group(group.id, at + timedelta(hours=1), "vera")
    assert lists(at) == ["resolved"]


# --- search --------------------------------------------------------------------------------------------------


def test_group_lists_the_runs_that_ended_with_it(each_database: str) -> None:
    for number in range(4):
        record_failure(
            f"run {number}", now() - timedelta(minutes=number), state="retrying" if number == 3 else "failed"
        )
    record_failure("other", now(), error="KeyError: x")
    group = ErrorGroup.get(ErrorGroup.exception == "ValueError")
    query = RunQuery(errors=frozenset({group.id}))
    assert {run.id for run in search_runs(query, 2).rows} | {
        run.id for run in search_runs(query, 2, search_runs(query, 2).older).rows
    } == {
        "run 0",
        "run 1",
        "run 2",
        "run 3",
    }
    failed = RunQuery(errors=frozenset({group.id}), states=frozenset({"failed"}))
    assert (
        {run.id for run in all_matching(failed)}
        == {run.id for run in search_runs(failed, 10).rows}
        == {f"run {n}" for n in range(3)}
    )


def test_most_frequent_group_of_the_last_hour_is_reported(each_database: str) -> None:
    hour = run_counts.window_start(now(), 1)
    assert load_problems(hour, hour).loudest is None
    for number in range(5):
        record_failure(f"old {number}", now() - timedelta(hours=2), task="old")
    for number in range(3):
        record_failure(f"new {number}", now(), task="new")
    record_failure("old", now(), task="old")
    group = ErrorGroup.get(ErrorGroup.task == "new")
    assert load_problems(hour, hour).loudest == (group.id, 3)
