"""A revocation of one run lasts until the run can no longer start, and leaves nothing behind."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from waiting import wait_until

from engine.broker.redis.storage import RedisStorage
from engine.broker.storage import REVOKED_SECONDS, Storage
from engine.control import retention
from engine.models import now
from engine.queues.queue import Queue


@pytest.fixture
def queue(fresh_storage: Storage) -> Queue:
    made = Queue("fresh")
    made.storage = fresh_storage
    made.set_worker_identity("here", "Worker-1")
    return made


@pytest.fixture
def note(queue: Queue) -> Any:
    seen: list[Any] = []
    task = queue.task(name="note", retries=1)(seen.append)
    task.seen = seen
    return task


def process_all(queue: Queue, until: datetime | None = None) -> None:
    queue.storage.messages.enqueue_due((until or datetime.now(UTC)).timestamp())
    while (task := queue.dequeue()) is not None:
        queue.execute(task, until and until.replace(tzinfo=None))


def remaining_seconds(queue: Queue, key: str) -> float | None:
    """Return the remaining seconds of a value. 0 means absent, None means unlimited."""
    if isinstance(queue.storage, RedisStorage):
        left = queue.storage.client.command("TTL", f"kv:{key}")
        return {-1: None, -2: 0}.get(left, left)
    rows = queue.storage.database.query("SELECT expires FROM kv WHERE queue = 'fresh' AND key = ?", key)
    return (rows[0][0] and rows[0][0] - time.time()) if rows else 0


#: Huey's interface: each call revokes one run.
REVOKE: dict[str, Callable[[Any], Any]] = {
    "result": lambda run: run.revoke(),
    "by id": lambda run: run.huey.revoke_by_id(run.id),
    "once": lambda run: run.revoke(revoke_once=True),
    "until": lambda run: run.huey.revoke_by_id(run.id, revoke_until=datetime.now() + timedelta(days=400)),
    "task": lambda run: run.huey.revoke(run.task),
}
each_way = pytest.mark.parametrize("revoke", REVOKE.values(), ids=list(REVOKE))


@each_way
def test_revocation_of_an_ended_run_expires(queue: Queue, note: Any, revoke: Callable[[Any], Any]) -> None:
    run = note(1)
    process_all(queue)
    revoke(run)
    assert REVOKED_SECONDS - 5 < remaining_seconds(queue, f"r:{run.id}") <= REVOKED_SECONDS


@each_way
def test_revocation_of_a_run_due_much_later_holds(queue: Queue, note: Any, revoke: Callable[[Any], Any]) -> None:
    run = note.schedule((1,), delay=90 * 86400)
    revoke(run)
    assert remaining_seconds(queue, f"r:{run.id}") is None
    queue.storage.results.delete_expired()
    process_all(queue, datetime.now(UTC) + timedelta(days=91))
    assert (note.seen, remaining_seconds(queue, f"r:{run.id}")) == ([], 0)


@pytest.mark.parametrize("many", [False, True])
def test_run_enqueued_after_its_revocation_keeps_it(queue: Queue, note: Any, many: bool) -> None:
    waits, later = note.s(1, id="waits"), note.s(2, id="later", delay=30 * 86400)
    for task in (waits, later):
        queue.revoke(task)
        assert remaining_seconds(queue, task.revoke_id)
    if many:
        queue.enqueue_many([waits, later])
    else:
        queue.enqueue(waits)
        queue.enqueue(later)
    assert [remaining_seconds(queue, task.revoke_id) for task in (waits, later)] == [None, None]
    process_all(queue, datetime.now(UTC) + timedelta(days=31))
    assert (note.seen, [remaining_seconds(queue, task.revoke_id) for task in (waits, later)]) == ([], [0, 0])


@pytest.mark.parametrize("how", ["run", "cancel", "purge", "discard"])
def test_revocation_is_deleted_with_its_run(queue: Queue, note: Any, how: str) -> None:
    run = note(1)
    if how == "discard":
        queue.storage.deliveries.dead_letter(
            "here", queue.storage.deliveries.settle_and_claim("here", "Worker-1", False, "{}").claimed, "for a test"
        )
    run.revoke()
    ends = {
        "run": lambda: process_all(queue),
        "cancel": lambda: queue.storage.messages.cancel(run.id, "vera"),
        "purge": lambda: queue.storage.messages.purge("vera"),
        "discard": lambda: queue.storage.dead_letters.discard(run.id),
    }
    ends[how]()
    assert (note.seen, remaining_seconds(queue, f"r:{run.id}")) == ([], 0)


@pytest.mark.usefixtures("each_database")
def test_cleanup_deletes_revocations_left_by_older_versions(queue: Queue, note: Any) -> None:
    ended, waits, later = note(1), note(2), note.schedule((3,), delay=60)
    queue.execute(queue.dequeue())
    gone = [f"gone-{number}" for number in range(1500)]
    for run_id in (ended.id, waits.id, later.id, *gone):
        # as stored by earlier versions
        queue.storage.results.put(f"r:{run_id}", queue.sign_value(f"r:{run_id}", (None, False)))
    queue.revoke_by_id("to come")
    note.revoke()
    assert retention.prune([queue], now(), 30, 90)["results"] == 1501
    assert {remaining_seconds(queue, f"r:{run_id}") for run_id in (ended.id, *gone)} == {0}
    assert [remaining_seconds(queue, f"r:{run.id}") for run in (waits, later)] == [None, None]
    assert remaining_seconds(queue, "r:to come")
    assert note.is_revoked(), "a revocation of a task must stay until it is restored"
    assert retention.prune([queue], now(), 30, 90)["results"] == 0
    process_all(queue, datetime.now(UTC) + timedelta(seconds=61))
    assert note.seen == [1]


def test_expired_revocation_is_not_restored(queue: Queue, note: Any) -> None:
    queue.revoke_by_id("an-id")
    if isinstance(queue.storage, RedisStorage):
        queue.storage.client.command("PEXPIRE", "kv:r:an-id", 1)
        wait_until(lambda: not queue.storage.results.has("r:an-id"))
    else:
        queue.storage.database.execute("UPDATE kv SET expires = ? WHERE key = 'r:an-id'", time.time() - 1)
    note(1, id="an-id")
    process_all(queue)
    assert note.seen == [1]
