"""Huey's features work unchanged on Dewey's queue."""

import random
import signal
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from huey import CancelExecution, chord, group, signals
from huey.exceptions import ResultTimeout, RetryTask, TaskException, TaskLockedException

from engine import exceptions
from engine.broker.effects import Effects
from engine.broker.messages import Requester
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.broker.storage import Storage
from engine.control import runs
from engine.exceptions import NotSerializable, RunCancelled
from engine.queues.enqueue import requested_by
from engine.queues.queue import Queue
from engine.worker.served_queue import ServedQueue


@pytest.fixture
def queue(fresh_storage: Storage) -> Queue:
    """Return a fresh queue that this thread serves."""
    made = ServedQueue("fresh")
    made.storage = fresh_storage
    made.set_worker_identity("here", "Worker-1")
    return made


def process_all(queue: Queue, until: datetime | None = None) -> None:
    """Run all waiting tasks, and those due by `until`."""
    queue.storage.messages.enqueue_due((until or datetime.now(UTC)).timestamp())
    while (task := queue.dequeue()) is not None:
        queue.execute(task, until and until.replace(tzinfo=None))


def test_pipeline_passes_each_result_on(queue: Queue) -> None:
    add = queue.task()(lambda a, b: a + b)
    result = queue.enqueue(add.s(1, 2).then(add, 10).then(add, 100))
    process_all(queue)
    assert result.get() == [3, 13, 113]


def test_error_handler_gets_the_error_as_text(queue: Queue) -> None:
    seen: list[str] = []
    handle = queue.task(name="handle")(seen.append)
    fail = queue.task(name="fail")(lambda: 1 / 0)
    queue.enqueue(fail.s().error(handle))
    process_all(queue)
    assert seen == ["ZeroDivisionError('division by zero')"]


def test_group_and_chord_collect_their_results(queue: Queue) -> None:
    double = queue.task(name="double")(lambda number: number * 2)
    total = queue.task(name="total")(sum)
    results = queue.enqueue(group([double.s(number) for number in range(4)]))
    together = queue.enqueue(chord([double.s(number) for number in range(4)], total.s()))
    process_all(queue)
    assert results.get() == [0, 2, 4, 6]
    assert together.get() == 12


def test_retry_waits_for_its_delay_and_returns_the_last_result(queue: Queue) -> None:
    tried: list[int] = []

    @queue.task(retries=2, retry_delay=60)
    def shaky() -> str:
        tried.append(1)
        if len(tried) < 2:
            raise ValueError("not yet")
        return "well"

    result = shaky()
    process_all(queue)
    assert (len(tried), queue.scheduled_count(), result.get()) == (1, 1, None)
    process_all(queue, datetime.now(UTC) + timedelta(seconds=61))
    assert (len(tried), result.get()) == (2, "well")


def test_task_may_request_a_retry_or_cancel(queue: Queue) -> None:
    tried: list[str] = []

    @queue.task(name="again")
    def again() -> None:
        tried.append("again")
        if len(tried) == 1:
            raise RetryTask(delay=30)

    @queue.task(name="stop", retries=3)
    def stop() -> None:
        tried.append("stop")
        raise CancelExecution(retry=False)

    again()
    process_all(queue, datetime.now(UTC) + timedelta(seconds=31))
    process_all(queue, datetime.now(UTC) + timedelta(seconds=31))
    stop()
    process_all(queue)
    assert tried == ["again", "again", "stop"]


def test_run_may_be_scheduled_rescheduled_and_revoked(queue: Queue) -> None:
    seen: list[Any] = []
    note = queue.task(name="note")(seen.append)
    later = note.schedule(args=("first",), delay=60)
    later.reschedule(delay=120)
    gone = note("gone")
    gone.revoke()
    process_all(queue)
    assert seen == []
    process_all(queue, datetime.now(UTC) + timedelta(seconds=121))
    assert seen == ["first"]


def test_run_that_starts_too_late_expires(queue: Queue) -> None:
    seen: list[Any] = []
    ended: list[str] = []
    queue.signal(signals.SIGNAL_EXPIRED)(lambda signal, task: ended.append(signal))
    note = queue.task(name="note", expires=30)(seen.append)
    note("late")
    task = queue.dequeue()
    assert task is not None
    queue.execute(task, (datetime.now(UTC) + timedelta(seconds=31)).replace(tzinfo=None))
    assert (seen, ended) == ([], ["expired"])


def test_locks_signals_and_hooks_behave_as_in_huey(queue: Queue) -> None:
    calls: list[str] = []
    queue.signal()(lambda signal, task, *rest: calls.append(signal))
    queue.pre_execute(name="before")(lambda task: calls.append("before"))
    queue.post_execute(name="after")(lambda task, value, error: calls.append("after"))

    @queue.task(name="locked")
    @queue.lock_task("door")
    def locked() -> int:
        return 1

    locked()
    process_all(queue)
    assert calls == ["enqueued", "executing", "before", "after", "complete"]
    with queue.lock_task("door"):
        result = locked()
        process_all(queue)
    assert "locked" in calls
    with pytest.raises(TaskException, match=TaskLockedException.__name__):
        result.get()


def test_result_get_times_out(queue: Queue) -> None:
    result = queue.task(name="never")(lambda: None)()
    with pytest.raises(ResultTimeout):
        result.get(blocking=True, timeout=0.2)
    process_all(queue)
    assert result.get(blocking=True, timeout=1) is None


class Pair(NamedTuple):
    first: int
    second: int


def test_map_enqueues_all_calls_in_order(queue: Queue) -> None:
    seen: list[int] = []
    note = queue.task(name="note", retries=2, priority=3, expires=600)(lambda number: seen.append(number) or -number)
    last = queue.task(name="last")(lambda first, second: seen.append(second))
    with requested_by(Requester("operator", "vera@example.org")):
        results = note.map(range(450))
    last.map([Pair(1, 1000)])
    assert (queue.pending_count(), len(results)) == (451, 450)
    task = queue.dequeue()
    assert task is not None and task.envelope is not None
    assert (task.retries, task.priority, task.envelope.retries, task.envelope.asked_by.name, task.id) == (
        2, 3, 2, "vera@example.org", results._results[0].id,
    )  # fmt: skip
    assert 590 < (task.expires_resolved - datetime.now(UTC).replace(tzinfo=None)).total_seconds() <= 600
    queue.execute(task)
    process_all(queue)
    assert seen == [*range(450), 1000]
    assert results.get() == [-number for number in range(450)]
    kinds = [line.startswith(b"2 event ") for _, line in queue.storage.events.read(0, 2000)]
    assert (kinds.count(False), kinds.count(True)) == (451, 451)  # the messages themselves, and one end each


def test_map_stores_nothing_when_one_call_is_invalid(queue: Queue) -> None:
    note = queue.task(name="note")(lambda anything: None)
    with pytest.raises(NotSerializable, match="note"):
        note.map([1] * 300 + [object()])
    assert (queue.pending_count(), queue.storage.events.read(0, 10), list(note.map([]))) == (0, [], [])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_argument_is_rejected_by_name(queue: Queue, number: float) -> None:
    @queue.task(name="note")
    def note(pages: int, rates: object = None) -> None: ...

    @queue.task(name="gather")
    def gather(results: list[object], rate: float = 0) -> None: ...

    calls = [
        lambda: note(number),
        lambda: note(1, {"a": [0.5, number]}),
        lambda: note(1, rates=[number]),
        lambda: note.map([(1, 2), (1, number)]),
        lambda: queue.enqueue(note.s(1).then(note, number)),
        lambda: queue.enqueue(note.s(1).error(note, number)),
        lambda: queue.enqueue(chord([note.s(1)], gather.s(rate=number))),
    ]
    for call in calls:
        with pytest.raises(
            NotSerializable, match=rf"(pages|rates|rate).* is {number}: an argument of (note|gather) must be"
        ):
            call()
    assert queue.pending_count() == 0


def test_run_task_rejects_a_non_finite_number(queue: Queue) -> None:
    queue.task(name="note")(lambda rate: None)
    with pytest.raises(exceptions.InvalidArguments, match=r"rate: must hold finite numbers only: rate\[0\] is nan"):
        runs.run_task({"fresh": queue}, "note", kwargs={"rate": [float("nan")]}, by=Requester("cli", "vera"))


def test_null_and_null_text_are_ordinary_arguments(queue: Queue) -> None:
    note = queue.task(name="note")(lambda *anything: None)
    note(None, "null", {"null": None})
    assert queue.dequeue().args == (None, "null", {"null": None})


def test_eta_too_far_ahead_is_rejected(queue: Queue) -> None:
    note = queue.task(name="note")(lambda: None)
    with pytest.raises(ValueError, match="eta of note: more than 1000 years ahead"):
        note.schedule(eta=datetime(9999, 12, 31))
    assert (queue.pending_count(), queue.scheduled_count()) == (0, 0)


def test_map_signals_and_deduplicates_each_call_if_required(queue: Queue) -> None:
    heard: list[tuple[str, int]] = []
    note, once = queue.task(name="note")(print), queue.task(name="once", unique=True)(print)
    first, second = once.map([7, 7])
    assert (first.id == second.id, queue.pending_count()) == (True, 1)
    queue.signal(signals.SIGNAL_ENQUEUED)(lambda signal, task: heard.append((signal, *task.args)))
    note.map([1, 2])
    assert heard == [("enqueued", 1), ("enqueued", 2)]


def test_map_works_on_a_server_without_loaded_scripts(redis_url: str) -> None:
    queue = ServedQueue("fresh")
    queue.storage = RedisStorage("fresh", redis_url, 60, read_timeout=0.05)
    queue.storage.client.redis.script_flush()
    note = queue.task(name="note")(print)
    note.map(range(300))
    assert queue.pending_count() == 300


class Interrupted(Exception):
    pass


# An exception during connect leaves a socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_reply_interrupted_by_a_time_limit_is_not_read_by_the_next_call(queue: Queue) -> None:
    """The time limit may interrupt a task that is enqueuing."""
    armed = False

    def strike(*_: Any) -> None:
        if armed:
            raise Interrupted

    before, struck = signal.signal(signal.SIGALRM, strike), 0
    try:
        for number in range(2000):
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.0004))
            try:
                armed = True
                for again in range(20):
                    run_id = f"{number}-{again}"
                    effects = Effects().enqueue(run_id, b"anything", once=run_id).result(f"key {again}", b"%d" % again)
                    assert queue.storage.messages.write(effects) == [run_id]
                    assert queue.storage.results.get(f"key {again}") == b"%d" % again
            except Interrupted:
                struck += 1
                queue.storage.rollback_interrupted()  # as after an interrupted run
            finally:
                armed = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck > 500


def test_interrupted_connection_is_not_reused(redis_url: str) -> None:
    storage = RedisStorage("fresh", redis_url, 60)
    with pytest.raises(RunCancelled), storage.client.translate_errors() as redis:
        connection = redis.connection_pool.get_connection()
        redis.connection_pool.release(connection)
        raise RunCancelled("cancelled by vera")
    assert redis.connection_pool.get_connection() is not connection
    storage.close()
    connection.disconnect()


def test_write_of_a_cancelled_run_is_rolled_back_at_once(tmp_path: Path) -> None:
    queue = ServedQueue("fresh")
    queue.storage = SqliteStorage("fresh", tmp_path / "queue.db", 60, read_timeout=0.05)
    queue.set_worker_identity("here", "Worker-1", deferring=True)

    @queue.task(name="cut")
    def cut() -> None:
        queue.storage.database.connection.execute("BEGIN IMMEDIATE")
        raise RunCancelled("cancelled by vera")

    cut()
    task = queue.dequeue()
    queue.execute(task)
    with sqlite3.connect(tmp_path / "queue.db", timeout=0) as other:
        other.execute("BEGIN IMMEDIATE")
    other.close()
    queue.settle_previous()
    assert queue.pending_count() == 0


def test_immediate_mode_runs_a_map(queue: Queue) -> None:
    double = queue.task(name="double")(lambda number: number * 2)
    queue.immediate = True
    assert double.map([1, 2]).get() == [2, 4]
    queue.immediate = False
    assert queue.pending_count() == 0


def test_chord_fires_once_despite_redelivered_members(queue: Queue) -> None:
    seen: list[Any] = []
    double = queue.task(name="double")(lambda number: number * 2)
    gather = queue.task(name="gather")(seen.append)
    queue.enqueue(chord([double.s(1), double.s(2)], gather.s()))
    first = queue.dequeue()
    assert first is not None
    queue.state.deferring = True
    queue.execute(first)
    queue.state.last = None  # its worker dies before it settles
    queue.state.deferring = False
    queue.storage.deliveries.release("here", None, "died", 5)
    process_all(queue)
    process_all(queue)
    assert seen == [[2, 4]]


def test_lock_is_released_with_its_worker(queue: Queue) -> None:
    seen: list[str] = []

    @queue.task(name="locked")
    def locked() -> None:
        with queue.lock_task("door"):
            seen.append("in")
            assert queue.is_locked("door")
            if len(seen) == 1:
                raise KeyboardInterrupt  # as after a kill: nothing after this line runs

    locked()
    queue.storage.heartbeats.record("here", {})
    task = queue.dequeue()
    assert task is not None
    queue.storage.locks.acquire("door", "other", "here", "Worker-1", None, 30)
    queue.execute(task)
    assert seen == []
    queue.storage.deliveries.release("here", "Worker-1", "died", 5)
    assert not queue.is_locked("door")


def test_unique_task_returns_the_existing_run(queue: Queue) -> None:
    seen: list[int] = []
    once = queue.task(name="once", unique=True)(seen.append)
    first, second, other = once(1), once(1), once(2)
    assert (second.id, other.id != first.id, queue.pending_count()) == (first.id, True, 2)
    process_all(queue)
    assert (seen, second.is_ready()) == ([1, 2], True)
    assert once(1).id != first.id


def test_rate_limit_is_kept_across_workers(queue: Queue) -> None:
    seen: list[int] = []
    slow = queue.task(name="slow", rate_limit="3/h")(seen.append)
    slow.map(range(5))
    process_all(queue)
    assert (seen, queue.scheduled_count()) == ([0, 1, 2], 2)
    with pytest.raises(ValueError, match="10/m"):
        queue.task(name="bad", rate_limit="often")(print)


def test_immediate_mode_uses_no_broker(queue: Queue) -> None:
    double = queue.task(name="double", context=True)(lambda number, task=None: number * 2)
    storage = queue.storage
    queue.immediate = True
    assert double(21).get() == 42
    queue.immediate = False
    assert storage.events.read(0, 10) == []
