"""A message for a task that the code of a consumer does not know waits for newer code, and holds up nothing."""

import dataclasses
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huey import chord
from waiting import wait_until

from engine.broker.deliveries import MissingTask
from engine.broker.messages import Requester
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.control import runs
from engine.history import writer
from engine.models import ErrorGroup, Run, State
from engine.monitor import dead_letters
from engine.monitor.diagnosis import why
from engine.queues import claim
from engine.queues.queue import Queue
from engine.version import host

GRACE = 120
VERA = Requester("operator", "vera")
REASON = f"light@{host()} runs 86ec2c3, which does not know this task; restart it"

Program = Callable[[str], Queue]


def familiar(value: Any = None) -> Any:
    return value


def unheard(value: Any = None) -> Any:
    return value


@pytest.fixture(params=["sqlite", "redis"])
def program(
    request: pytest.FixtureRequest, tmp_path: Path, each_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Program]:
    """Makes the queue of one program: `new` code has the task `unheard`, `old` code has not."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    made: list[Queue] = []

    def of_code(code: str) -> Queue:
        queue = Queue("light")
        if url:
            queue.storage = RedisStorage("light", url, 60, read_timeout=0.05)
        else:
            queue.storage = SqliteStorage("light", tmp_path / "queue.db", 60, read_timeout=0.05)
        queue.set_worker_identity(f"{code}:1:abc", "Worker-1")
        queue.task()(familiar)
        if code == "new":
            queue.task()(unheard)
        made.append(queue)
        return queue

    monkeypatch.setattr(claim, "code_version", lambda: "86ec2c3")
    yield of_code
    for queue in made:
        queue.storage.close()


@pytest.fixture
def old(program: Program) -> Queue:
    return program("old")


@pytest.fixture
def new(program: Program) -> Queue:
    return program("new")


def set_grace(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    monkeypatch.setattr(claim, "settings", dataclasses.replace(claim.settings, unknown_task_grace=seconds))


def make(queue: Queue, task: str = "unheard", *args: Any, **options: Any) -> Any:
    task_class = next(one for one in queue._registry._registry.values() if one.__name__ == task)
    return task_class(args, {}, **options)


def enqueue(queue: Queue, task: str = "unheard", *args: Any, **options: Any) -> str:
    return str(queue.enqueue(make(queue, task, *args, **options)).id)


def work_off(queue: Queue) -> list[str]:
    """Run what waits and what is due. Gives the ids of what was run."""
    queue.storage.messages.enqueue_due(time.time())
    ran = []
    while taken := queue.claimer.claim():
        if task := queue.claimer.decode_task(taken):
            ran.append(task.id)
            queue.execute(task)
    writer.write_down(queue)
    return ran


def bury(queue: Queue, run_id: str) -> None:
    """Let the consumer go on until the grace is over."""
    wait_until(lambda: work_off(queue) == [] and record(run_id).state == State.DEAD)


def record(run_id: str) -> Run:
    return Run.get_by_id(run_id)


def states(run_id: str) -> list[str]:
    return [one.state for one in record(run_id).history]


def test_newer_code_takes_what_older_code_has_met_and_runs_it_as_usual(old: Queue, new: Queue) -> None:
    run_id = enqueue(new, "unheard", 7)
    assert work_off(old) == []
    met = record(run_id)
    assert (met.state, met.error, met.attempts, met.started_at, met.worker) == ("scheduled", REASON, 0, None, None)
    assert (old.storage.messages.locate(run_id).state, old.storage.messages.count_scheduled()) == ("scheduled", 1)
    assert work_off(old) == [], "it is met once"
    assert work_off(new) == [run_id]
    run = record(run_id)
    assert (run.state, run.result, run.error, run.attempts, run.deliveries) == ("succeeded", 7, None, 1, 2)
    assert states(run_id) == ["put_off", "succeeded"]
    assert run.started_at == run.history[1].started_at
    assert run.wait_ms == pytest.approx((run.started_at - run.enqueued_at).total_seconds() * 1000, abs=1)
    assert (new.result(run_id), new.storage.messages.count_scheduled(), new.storage.messages.missing_task(run_id)) == (
        7,
        0,
        None,
    )


def test_it_is_dead_when_no_newer_code_has_come_in_time(
    old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_grace(monkeypatch, 1)
    run_id, others = enqueue(new), [enqueue(new, "familiar") for _ in range(3)]
    began = time.time()
    assert work_off(old) == others, "it holds up nothing"
    bury(old, run_id)
    assert 1 <= time.time() - began < 60
    run = record(run_id)
    assert (run.error, states(run_id), run.deliveries) == (REASON, ["put_off", "dead"], 2)
    assert ErrorGroup.get(ErrorGroup.task == "unheard").exception == "UnknownTask"
    assert why({"light": old}, run)[0].facts["error"] == REASON
    assert old.storage.messages.count_scheduled() == 0
    work_off(new)
    assert record(run_id).state == State.DEAD


def test_requeued_it_has_a_fresh_grace(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    set_grace(monkeypatch, 1)
    run_id = enqueue(new)
    work_off(old)
    bury(old, run_id)
    runs.requeue({"light": old}, run_id)
    began = time.time()
    assert work_off(old) == []
    assert record(run_id).state == "scheduled"
    assert old.storage.messages.missing_task(run_id).until >= began + 1
    assert work_off(new) == [run_id]
    assert record(run_id).state == "succeeded"


def test_without_a_grace_it_is_dead_at_once(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    set_grace(monkeypatch, 0)
    run_id = enqueue(new)
    work_off(old)
    assert (record(run_id).state, record(run_id).error, states(run_id)) == ("dead", REASON, ["dead"])


def test_a_message_that_cannot_be_read_is_dead_at_once(old: Queue, new: Queue) -> None:
    run_id = enqueue(new, "familiar")
    old.serializer = type(old.serializer)("another key" * 4)
    work_off(old)
    assert (record(run_id).state, record(run_id).error) == ("dead", "the signature is not ours")


def test_why_says_which_consumer_runs_older_code(old: Queue, new: Queue) -> None:
    run_id = enqueue(new)
    work_off(old)
    cause = why({"light": new}, record(run_id))[0]
    found = old.storage.messages.missing_task(run_id)
    assert found[:4] == ("test_put_off.unheard", f"light@{host()}", "old:1:abc", "86ec2c3")
    assert (cause.kind, cause.facts["consumer"], cause.facts["version"], cause.facts["worker_id"]) == (
        "older_code", f"light@{host()}", "86ec2c3", "old:1:abc",
    )  # fmt: skip
    assert cause.facts["until"].timestamp() == pytest.approx(found.met_at + GRACE) == pytest.approx(found.until)
    assert not {"scheduled", "overdue"} & {one.kind for one in why({"light": new}, record(run_id))}


def test_very_many_are_met_once_each_and_said_once_each(
    old: Queue, new: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [run.id for run in new.enqueue_many(make(new) for _ in range(1500))]
    turns, stock_turn = [], old.storage.deliveries.settle_and_claim
    monkeypatch.setattr(
        old.storage.deliveries, "settle_and_claim", lambda *words: turns.append(words) or stock_turn(*words)
    )
    with caplog.at_level(logging.WARNING, "engine.queues.claim"):
        for _ in range(20):
            assert work_off(old) == []
    assert len(turns) == 1500 + 20
    assert len([line for line in caplog.messages if REASON in line]) == 1500
    last = enqueue(new, "familiar")
    assert work_off(old) == [last]
    assert sorted(work_off(new)) == sorted(ids)
    while writer.write_down(new):
        pass
    assert {one.state for one in Run.select()} == {"succeeded"}


def test_they_keep_their_order_among_themselves_and_before_what_came_later(old: Queue, new: Queue) -> None:
    first, second = enqueue(new), enqueue(new)
    hurried = enqueue(new, priority=5)
    known = enqueue(new, "familiar", priority=1)
    assert work_off(old) == [known]
    later, urgent = enqueue(new, "familiar"), enqueue(new, "familiar", priority=9)
    assert work_off(new) == [urgent, hurried, first, second, later]


def test_after_its_grace_it_stands_where_it_stood(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    set_grace(monkeypatch, 1)
    first, hurried = enqueue(new), enqueue(new, priority=5)
    work_off(old)
    later = enqueue(new, "familiar", priority=1)

    def are_back() -> bool:
        new.storage.messages.enqueue_due(time.time())
        return bool(new.storage.messages.count_waiting() == 3)

    wait_until(are_back)
    assert new.storage.messages.oldest_waiting() <= record(first).enqueued_at.timestamp() + 0.5
    assert work_off(new) == [hurried, later, first]


def test_what_is_to_follow_is_looked_for_too(old: Queue, new: Queue) -> None:
    """The consumer that misses it does not get the message back, although it knows the first task."""
    one = make(new, "familiar", 1).then(make(new, "unheard"))
    new.enqueue(one)
    another = make(new, "familiar", 2)
    new.enqueue(chord([another], make(new, "unheard")))
    assert work_off(old) == work_off(old) == []
    assert old.storage.messages.missing_task(one.id).task == "test_put_off.unheard"
    assert work_off(new)[:2] == [one.id, another.id]
    assert {run.state for run in Run.select()} == {"succeeded"}
    assert Run.select().count() == 4


@pytest.mark.parametrize("held_up", ["paused queue", "paused task", "rate limit"])
def test_newer_code_keeps_to_pauses_and_rates(program: Program, old: Queue, held_up: str) -> None:
    new = program("new")
    task = make(new)
    type(task).rate_limit = "1/h" if held_up == "rate limit" else ""
    expected = []
    if held_up == "rate limit":
        expected = [enqueue(new)]
        work_off(new)
    run_id = enqueue(new)
    work_off(old)
    target = {"paused queue": "", "paused task": "unheard"}.get(held_up)
    if target is not None:
        new.storage.pauses.put(target, {"by": "vera"})
    assert work_off(new) == []
    if target is not None:
        new.storage.pauses.remove(target)
        expected = [run_id]
        assert work_off(new) == expected


def test_it_can_be_cancelled_meanwhile(old: Queue, new: Queue) -> None:
    run_id = enqueue(new)
    work_off(old)
    assert runs.cancel({"light": old}, run_id, VERA) == "removed"
    assert (work_off(new), record(run_id).state, new.storage.messages.count_scheduled()) == ([], "cancelled", 0)


def test_a_second_call_of_a_unique_task_is_the_first_also_while_it_is_put_off(old: Queue, new: Queue) -> None:
    make(new).__class__.unique = True
    run_id = enqueue(new, "unheard", 1)
    work_off(old)
    assert enqueue(new, "unheard", 1) == run_id
    assert work_off(new) == [run_id]
    assert enqueue(new, "unheard", 1) != run_id


def test_each_attempt_has_a_grace_of_its_own(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that was met long ago, then run and tried again, is not dead for that."""
    run_id = enqueue(new, "unheard", retries=1)
    work_off(old)
    make(new).__class__.execute = lambda self: 1 / 0
    met_at = old.storage.messages.missing_task(run_id).met_at
    task = new.claimer.decode_task(new.claimer.claim())
    new.execute(task)
    work_off(old)
    found = old.storage.messages.missing_task(run_id)
    assert found is not None and found.met_at > met_at
    assert (record(run_id).state, states(run_id)) == ("scheduled", ["put_off", "failed", "put_off"])


@pytest.mark.parametrize("counts", [True, False])
def test_what_newer_code_has_begun_has_a_fresh_grace(old: Queue, new: Queue, counts: bool) -> None:
    run_id = enqueue(new)
    work_off(old)
    met_at = old.storage.messages.missing_task(run_id).met_at
    assert new.claimer.claim().run_id == run_id
    new.storage.deliveries.release("new:1:abc", "Worker-1", "it died", 5, counts=counts)
    work_off(old)
    assert old.storage.messages.missing_task(run_id).met_at > met_at


def test_who_comes_too_late_changes_nothing(old: Queue, new: Queue) -> None:
    """The worker was frozen between taking and putting off; what it held was given to another."""
    run_id = enqueue(new)
    late = old.claimer.claim()
    old.storage.deliveries.release("old:1:abc", None, "the consumer died", 5)
    current = new.claimer.claim()
    assert (current.run_id, current.delivery) == (run_id, 2)
    old.claimer.decode_task(late)
    assert [one.consumer for one in new.storage.deliveries.held()] == ["new:1:abc"]
    new.execute(new.claimer.decode_task(current))
    writer.write_down(new)
    assert (record(run_id).state, states(run_id)) == ("succeeded", ["died", "succeeded"])


def test_an_answer_that_was_lost_is_not_acted_on_twice(old: Queue, new: Queue) -> None:
    run_id = enqueue(new)
    taken = old.claimer.claim()
    why_put_off = MissingTask("test_put_off.unheard", "light@here", "old:1:abc", "1")
    assert old.storage.deliveries.defer("old:1:abc", taken, why_put_off, GRACE) == "scheduled"
    other = new.claimer.claim()
    assert other.run_id == run_id
    assert old.storage.deliveries.defer("old:1:abc", taken, why_put_off, GRACE) == ""
    new.execute(new.claimer.decode_task(other))
    assert new.storage.results.get(run_id)


def test_the_record_does_not_take_the_moment_for_a_start(old: Queue, new: Queue) -> None:
    """A recorder that looks while the consumer has it in hand writes it down as running."""
    run_id = enqueue(new)
    writer.write_down(new)
    taken = old.claimer.claim()
    writer.write_consumers(new)
    assert record(run_id).state == "running"
    old.claimer.decode_task(taken)
    writer.write_down(old)
    run = record(run_id)
    assert (run.state, run.attempts, run.started_at, run.wait_ms, run.worker) == ("scheduled", 0, None, None, None)
    writer.write_consumers(new)
    assert (record(run_id).state, states(run_id)) == ("scheduled", ["put_off"])
    work_off(new)
    assert record(run_id).wait_ms > 0


def test_the_dead_message_can_be_opened(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    set_grace(monkeypatch, 0)
    run_id = enqueue(new, "unheard", [{"$error": 1}])
    work_off(old)
    (_, data) = dead_letters.find({"light": old}, run_id)
    assert dead_letters.opened(old, data).trouble == "test_put_off.unheard not found in TaskRegistry"
    opened = dead_letters.opened(new, data)
    assert (opened.trouble, opened.args) == (None, [[{"$error": 1}]])


# --- files of the version before -----------------------------------------------------------------------------

OLD_MESSAGE = """
CREATE TABLE message (
  queue TEXT NOT NULL, id TEXT NOT NULL, task TEXT NOT NULL, attempt INTEGER NOT NULL, data BLOB NOT NULL,
  state TEXT NOT NULL, score REAL NOT NULL, since REAL NOT NULL, due REAL, uniq TEXT, cancel TEXT,
  deliveries INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,
  consumer TEXT, worker TEXT, held_at REAL, PRIMARY KEY (queue, id)) WITHOUT ROWID;
PRAGMA user_version = 1234;
"""


@pytest.mark.usefixtures("library")
def test_a_file_of_the_version_before_is_brought_up_to_date_while_that_still_uses_it(tmp_path: Path) -> None:
    queue = Queue("light")
    queue.task()(familiar)
    task = make(queue, "familiar", 7)
    before = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    before.executescript(OLD_MESSAGE)
    row = ("light", task.id, "familiar", 1, queue.serialize_task(task), "waiting", 1.0, 1.0)
    insert = "INSERT INTO message (queue, id, task, attempt, data, state, score, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    before.execute(insert, row)
    for _ in range(2):
        queue.storage = SqliteStorage("light", tmp_path / "queue.db", 60, read_timeout=0.05)
        columns = [name for _, name, *_ in queue.storage.database.query("PRAGMA table_info(message)")]
        assert columns[-3:] == ["missing", "met", "met_at"]
        queue.storage.close()
        before.execute("PRAGMA user_version = 1234")  # a program of the version before opens the file
    queue.set_worker_identity("here", "Worker-1")
    assert work_off(queue) == [task.id]
    assert (queue.result(task.id), before.execute(insert, ("light", "b", *row[2:])).rowcount) == (7, 1)
    before.close()
