"""A message for a task that a consumer's code lacks waits for newer code and blocks nothing else."""

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
from engine.monitor.diagnosis import diagnose
from engine.queues import claim
from engine.queues.queue import Queue
from engine.version import host_name

GRACE = 120
VERA = Requester("operator", "vera")
REASON = f"light@{host_name()} runs 86ec2c3, which does not know this task; restart it"

Program = Callable[[str], Queue]


def known_task(value: Any = None) -> Any:
    return value


def unknown_task(value: Any = None) -> Any:
    return value


@pytest.fixture(params=["sqlite", "redis"])
def program(
    request: pytest.FixtureRequest, tmp_path: Path, each_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Program]:
    """Return a function that creates a program's queue. `new` code has the task `unknown_task`, `old` code does not."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    made: list[Queue] = []

    def of_code(code: str) -> Queue:
        queue = Queue("light")
        if url:
            queue.storage = RedisStorage("light", url, 60, read_timeout=0.05)
        else:
            queue.storage = SqliteStorage("light", tmp_path / "queue.db", 60, read_timeout=0.05)
        queue.set_worker_identity(f"{code}:1:abc", "Worker-1")
        queue.task()(known_task)
        if code == "new":
            queue.task()(unknown_task)
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


def create_task(queue: Queue, task: str = "unknown_task", *args: Any, **options: Any) -> Any:
    task_class = next(candidate for candidate in queue._registry._registry.values() if candidate.__name__ == task)
    return task_class(args, {}, **options)


def enqueue(queue: Queue, task: str = "unknown_task", *args: Any, **options: Any) -> str:
    return str(queue.enqueue(create_task(queue, task, *args, **options)).id)


def process_all(queue: Queue) -> list[str]:
    """Run waiting and due tasks. Return their ids."""
    queue.storage.messages.enqueue_due(time.time())
    ran = []
    while taken := queue.claimer.claim():
        if task := queue.claimer.decode_task(taken):
            ran.append(task.id)
            queue.execute(task)
    writer.flush_events(queue)
    return ran


def wait_until_dead(queue: Queue, run_id: str) -> None:
    """Let the consumer run until the grace is over."""
    wait_until(lambda: process_all(queue) == [] and load_run(run_id).state == State.DEAD)


def load_run(run_id: str) -> Run:
    return Run.get_by_id(run_id)


def attempt_states(run_id: str) -> list[str]:
    return [attempt.state for attempt in load_run(run_id).history]


def test_newer_code_runs_what_older_code_rescheduled(old: Queue, new: Queue) -> None:
    run_id = enqueue(new, "unknown_task", 7)
    assert process_all(old) == []
    met = load_run(run_id)
    assert (met.state, met.error, met.attempts, met.started_at, met.worker) == ("scheduled", REASON, 0, None, None)
    assert (old.storage.messages.locate(run_id).state, old.storage.messages.count_scheduled()) == ("scheduled", 1)
    assert process_all(old) == [], "the message is met once"
    assert process_all(new) == [run_id]
    run = load_run(run_id)
    assert (run.state, run.result, run.error, run.attempts, run.deliveries) == ("succeeded", 7, None, 1, 2)
    assert attempt_states(run_id) == ["put_off", "succeeded"]
    assert run.started_at == run.history[1].started_at
    assert run.wait_ms == pytest.approx((run.started_at - run.enqueued_at).total_seconds() * 1000, abs=1)
    assert (new.result(run_id), new.storage.messages.count_scheduled(), new.storage.messages.missing_task(run_id)) == (
        7,
        0,
        None,
    )


def test_unknown_task_is_dead_after_its_grace(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    set_grace(monkeypatch, 1)
    run_id, known_ids = enqueue(new), [enqueue(new, "known_task") for _ in range(3)]
    began = time.time()
    assert process_all(old) == known_ids, "an unknown task must not delay others"
    wait_until_dead(old, run_id)
    assert 1 <= time.time() - began < 60
    run = load_run(run_id)
    assert (run.error, attempt_states(run_id), run.deliveries) == (REASON, ["put_off", "dead"], 2)
    assert ErrorGroup.get(ErrorGroup.task == "unknown_task").exception == "UnknownTask"
    assert diagnose({"light": old}, run)[0].facts["error"] == REASON
    assert old.storage.messages.count_scheduled() == 0
    process_all(new)
    assert load_run(run_id).state == State.DEAD


def test_requeued_unknown_task_gets_a_new_grace(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    set_grace(monkeypatch, 1)
    run_id = enqueue(new)
    process_all(old)
    wait_until_dead(old, run_id)
    runs.requeue_dead_run({"light": old}, run_id)
    began = time.time()
    assert process_all(old) == []
    assert load_run(run_id).state == "scheduled"
    assert old.storage.messages.missing_task(run_id).until >= began + 1
    assert process_all(new) == [run_id]
    assert load_run(run_id).state == "succeeded"


def test_unknown_task_without_a_grace_is_dead_at_once(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    set_grace(monkeypatch, 0)
    run_id = enqueue(new)
    process_all(old)
    assert (load_run(run_id).state, load_run(run_id).error, attempt_states(run_id)) == ("dead", REASON, ["dead"])


def test_unparseable_message_is_dead_at_once(old: Queue, new: Queue) -> None:
    run_id = enqueue(new, "known_task")
    old.serializer = type(old.serializer)("another key" * 4)
    process_all(old)
    assert (load_run(run_id).state, load_run(run_id).error) == ("dead", "the signature does not match SECRET_KEY")


def test_why_names_the_consumer_with_older_code(old: Queue, new: Queue) -> None:
    run_id = enqueue(new)
    process_all(old)
    cause = diagnose({"light": new}, load_run(run_id))[0]
    put_off = old.storage.messages.missing_task(run_id)
    assert put_off[:4] == ("test_unknown_tasks.unknown_task", f"light@{host_name()}", "old:1:abc", "86ec2c3")
    assert (cause.kind, cause.facts["consumer"], cause.facts["version"], cause.facts["worker_id"]) == (
        "older_code", f"light@{host_name()}", "86ec2c3", "old:1:abc",
    )  # fmt: skip
    assert cause.facts["until"].timestamp() == pytest.approx(put_off.met_at + GRACE) == pytest.approx(put_off.until)
    assert not {"scheduled", "overdue"} & {cause.kind for cause in diagnose({"light": new}, load_run(run_id))}


def test_many_unknown_tasks_are_tried_and_logged_once(
    old: Queue, new: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [run.id for run in new.enqueue_many(create_task(new) for _ in range(1500))]
    turns, stock_turn = [], old.storage.deliveries.settle_and_claim
    monkeypatch.setattr(
        old.storage.deliveries, "settle_and_claim", lambda *words: turns.append(words) or stock_turn(*words)
    )
    with caplog.at_level(logging.WARNING, "engine.queues.claim"):
        for _ in range(20):
            assert process_all(old) == []
    assert len(turns) == 1500 + 20
    assert len([line for line in caplog.messages if REASON in line]) == 1500
    last = enqueue(new, "known_task")
    assert process_all(old) == [last]
    assert sorted(process_all(new)) == sorted(ids)
    while writer.flush_events(new):
        pass
    assert {run.state for run in Run.select()} == {"succeeded"}


def test_rescheduled_messages_keep_their_order_and_precede_later_ones(old: Queue, new: Queue) -> None:
    first, second = enqueue(new), enqueue(new)
    hurried = enqueue(new, priority=5)
    known_id = enqueue(new, "known_task", priority=1)
    assert process_all(old) == [known_id]
    later, urgent = enqueue(new, "known_task"), enqueue(new, "known_task", priority=9)
    assert process_all(new) == [urgent, hurried, first, second, later]


def test_message_returns_to_its_place_after_its_grace(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    set_grace(monkeypatch, 1)
    first, hurried = enqueue(new), enqueue(new, priority=5)
    process_all(old)
    later = enqueue(new, "known_task", priority=1)

    def are_back() -> bool:
        new.storage.messages.enqueue_due(time.time())
        return bool(new.storage.messages.count_waiting() == 3)

    wait_until(are_back)
    assert new.storage.messages.oldest_waiting() <= load_run(first).enqueued_at.timestamp() + 0.5
    assert process_all(new) == [hurried, later, first]


def test_unknown_follow_up_task_reschedules_the_message(old: Queue, new: Queue) -> None:
    """The consumer without the task does not get the message back, although it has the first task."""
    pipeline = create_task(new, "known_task", 1).then(create_task(new, "unknown_task"))
    new.enqueue(pipeline)
    another = create_task(new, "known_task", 2)
    new.enqueue(chord([another], create_task(new, "unknown_task")))
    assert process_all(old) == process_all(old) == []
    assert old.storage.messages.missing_task(pipeline.id).task == "test_unknown_tasks.unknown_task"
    assert process_all(new)[:2] == [pipeline.id, another.id]
    assert {run.state for run in Run.select()} == {"succeeded"}
    assert Run.select().count() == 4


@pytest.mark.parametrize("held_up", ["paused queue", "paused task", "rate limit"])
def test_newer_code_respects_pauses_and_rate_limits(program: Program, old: Queue, held_up: str) -> None:
    new = program("new")
    task = create_task(new)
    type(task).rate_limit = "1/h" if held_up == "rate limit" else ""
    expected = []
    if held_up == "rate limit":
        expected = [enqueue(new)]
        process_all(new)
    run_id = enqueue(new)
    process_all(old)
    target = {"paused queue": "", "paused task": "unknown_task"}.get(held_up)
    if target is not None:
        new.storage.pauses.put(target, {"by": "vera"})
    assert process_all(new) == []
    if target is not None:
        new.storage.pauses.remove(target)
        expected = [run_id]
        assert process_all(new) == expected


def test_rescheduled_message_can_be_cancelled(old: Queue, new: Queue) -> None:
    run_id = enqueue(new)
    process_all(old)
    assert runs.cancel_run({"light": old}, run_id, VERA) == "removed"
    assert (process_all(new), load_run(run_id).state, new.storage.messages.count_scheduled()) == ([], "cancelled", 0)


def test_unique_task_returns_the_existing_run_while_rescheduled(old: Queue, new: Queue) -> None:
    create_task(new).__class__.unique = True
    run_id = enqueue(new, "unknown_task", 1)
    process_all(old)
    assert enqueue(new, "unknown_task", 1) == run_id
    assert process_all(new) == [run_id]
    assert enqueue(new, "unknown_task", 1) != run_id


def test_each_attempt_has_its_own_grace(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that was rescheduled long ago, then run and retried, is not dead because of that."""
    run_id = enqueue(new, "unknown_task", retries=1)
    process_all(old)
    create_task(new).__class__.execute = lambda self: 1 / 0
    met_at = old.storage.messages.missing_task(run_id).met_at
    task = new.claimer.decode_task(new.claimer.claim())
    new.execute(task)
    process_all(old)
    put_off = old.storage.messages.missing_task(run_id)
    assert put_off is not None and put_off.met_at > met_at
    assert (load_run(run_id).state, attempt_states(run_id)) == ("scheduled", ["put_off", "failed", "put_off"])


@pytest.mark.parametrize("counts", [True, False])
def test_run_claimed_by_newer_code_gets_a_new_grace(old: Queue, new: Queue, counts: bool) -> None:
    run_id = enqueue(new)
    process_all(old)
    met_at = old.storage.messages.missing_task(run_id).met_at
    assert new.claimer.claim().run_id == run_id
    new.storage.deliveries.release("new:1:abc", "Worker-1", "it died", 5, counts=counts)
    process_all(old)
    assert old.storage.messages.missing_task(run_id).met_at > met_at


def test_late_reschedule_changes_nothing(old: Queue, new: Queue) -> None:
    """The worker was frozen between claim and reschedule. Another one has claimed the message since."""
    run_id = enqueue(new)
    late = old.claimer.claim()
    old.storage.deliveries.release("old:1:abc", None, "the consumer died", 5)
    current = new.claimer.claim()
    assert (current.run_id, current.delivery) == (run_id, 2)
    old.claimer.decode_task(late)
    assert [message.consumer for message in new.storage.deliveries.held()] == ["new:1:abc"]
    new.execute(new.claimer.decode_task(current))
    writer.flush_events(new)
    assert (load_run(run_id).state, attempt_states(run_id)) == ("succeeded", ["died", "succeeded"])


def test_lost_reply_does_not_reschedule_twice(old: Queue, new: Queue) -> None:
    run_id = enqueue(new)
    taken = old.claimer.claim()
    why_put_off = MissingTask("test_unknown_tasks.unknown_task", "light@here", "old:1:abc", "1")
    assert old.storage.deliveries.defer("old:1:abc", taken, why_put_off, GRACE) == "scheduled"
    other = new.claimer.claim()
    assert other.run_id == run_id
    assert old.storage.deliveries.defer("old:1:abc", taken, why_put_off, GRACE) == ""
    new.execute(new.claimer.decode_task(other))
    assert new.storage.results.get(run_id)


def test_rescheduling_is_not_recorded_as_a_start(old: Queue, new: Queue) -> None:
    """A recorder that runs while the consumer holds the message stores it as running."""
    run_id = enqueue(new)
    writer.flush_events(new)
    taken = old.claimer.claim()
    writer.sync_consumers(new)
    assert load_run(run_id).state == "running"
    old.claimer.decode_task(taken)
    writer.flush_events(old)
    run = load_run(run_id)
    assert (run.state, run.attempts, run.started_at, run.wait_ms, run.worker) == ("scheduled", 0, None, None, None)
    writer.sync_consumers(new)
    assert (load_run(run_id).state, attempt_states(run_id)) == ("scheduled", ["put_off"])
    process_all(new)
    assert load_run(run_id).wait_ms > 0


def test_dead_unknown_task_can_be_decoded(old: Queue, new: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    set_grace(monkeypatch, 0)
    run_id = enqueue(new, "unknown_task", [{"$error": 1}])
    process_all(old)
    (_, data) = dead_letters.find_dead({"light": old}, run_id)
    assert dead_letters.decode_message(old, data).trouble == "test_unknown_tasks.unknown_task not found in TaskRegistry"
    opened = dead_letters.decode_message(new, data)
    assert (opened.trouble, opened.args) == (None, [[{"$error": 1}]])


# --- files of the previous version ---------------------------------------------------------------------------

OLD_MESSAGE = """
CREATE TABLE message (
  queue TEXT NOT NULL, id TEXT NOT NULL, task TEXT NOT NULL, attempt INTEGER NOT NULL, data BLOB NOT NULL,
  state TEXT NOT NULL, score REAL NOT NULL, since REAL NOT NULL, due REAL, uniq TEXT, cancel TEXT,
  deliveries INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,
  consumer TEXT, worker TEXT, held_at REAL, PRIMARY KEY (queue, id)) WITHOUT ROWID;
PRAGMA user_version = 1234;
"""


@pytest.mark.usefixtures("sqlite_database")
def test_database_of_the_previous_version_is_upgraded_in_use(tmp_path: Path) -> None:
    queue = Queue("light")
    queue.task()(known_task)
    task = create_task(queue, "known_task", 7)
    before = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    before.executescript(OLD_MESSAGE)
    row = ("light", task.id, "known_task", 1, queue.serialize_task(task), "waiting", 1.0, 1.0)
    insert = "INSERT INTO message (queue, id, task, attempt, data, state, score, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    before.execute(insert, row)
    for _ in range(2):
        queue.storage = SqliteStorage("light", tmp_path / "queue.db", 60, read_timeout=0.05)
        columns = [name for _, name, *_ in queue.storage.database.query("PRAGMA table_info(message)")]
        assert columns[-3:] == ["missing", "met", "met_at"]
        queue.storage.close()
        before.execute("PRAGMA user_version = 1234")  # a program of the previous version opens the file
    queue.set_worker_identity("here", "Worker-1")
    assert process_all(queue) == [task.id]
    assert (queue.result(task.id), before.execute(insert, ("light", "b", *row[2:])).rowcount) == (7, 1)
    before.close()
