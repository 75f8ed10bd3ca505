"""Queues on a fresh broker that can be written to directly."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sample_tasks import probe

from engine.broker.messages import SignedJSON
from engine.broker.redis.storage import RedisStorage
from engine.broker.signing import Purpose
from engine.broker.sqlite.storage import SqliteStorage
from engine.queues.queue import Queue

#: Returns the storage of the queue with this name, on the test's broker.
CreateStorage = Callable[[str], Any]


def storage_factory(
    broker: str, request: pytest.FixtureRequest, folder: Path, serializer: SignedJSON | None = None
) -> CreateStorage:
    """Return a storage factory. `broker` is sqlite or redis."""
    if broker == "sqlite":
        return lambda name: SqliteStorage(name, folder / "queue.db", 60, 0.05, serializer)
    url = request.getfixturevalue("redis_url")
    return lambda name: RedisStorage(name, url, 60, 0.05, serializer)


@contextmanager
def use_probe_queue(storages: CreateStorage) -> Iterator[None]:
    """Use the probe queue for the length of a block, with this thread as its only worker."""
    before, probe.storage = probe.storage, storages("probe")
    probe.set_worker_identity("here", "Worker-1")
    yield
    probe.storage.close()
    probe.storage = before


def process_all() -> None:
    while (task := probe.dequeue()) is not None:
        probe.execute(task)


def put_event(event: bytes) -> None:
    """Append an event to the stream of the probe queue, signed by this program."""
    entries = probe.storage.entries
    put_line(entries.serializer.serialize_json(Purpose.EVENT, entries.events, event))


def put_line(line: bytes) -> None:
    """Append a line to the event stream of the probe queue."""
    storage = probe.storage
    if isinstance(storage, RedisStorage):
        storage.client.command("XADD", "events", "*", "e", line)
    else:
        storage.database.execute("INSERT INTO event (queue, data) VALUES (?, CAST(? AS TEXT))", "probe", line)


def put_heartbeat(queue: Queue, consumer: str, info: bytes) -> None:
    if isinstance(queue.storage, RedisStorage):
        queue.storage.client.run_script("record_heartbeat", consumer, info)
    else:
        insert = "INSERT OR REPLACE INTO consumer VALUES (?, ?, unixepoch(), CAST(? AS TEXT))"
        queue.storage.database.execute(insert, queue.name, consumer, info)


def put_pause(queue: Queue, target: str, info: bytes) -> None:
    if isinstance(queue.storage, RedisStorage):
        queue.storage.client.command(
            "HSET", "pause_schedule" if target.startswith("schedule:") else "pause", target, info
        )
    else:
        insert = "INSERT OR REPLACE INTO pause VALUES (?, ?, CAST(? AS TEXT))"
        queue.storage.database.execute(insert, queue.name, target, info)


def put_last_tick(queue: Queue, task: str, minute: bytes) -> None:
    if isinstance(queue.storage, RedisStorage):
        queue.storage.client.command("HSET", "ticks", task, minute)
    else:
        queue.storage.database.execute(
            "INSERT OR REPLACE INTO tick VALUES (?, ?, CAST(? AS TEXT))", queue.name, task, minute
        )


def put_back(queue: Queue, run_id: str, data: bytes) -> None:
    """Store a message with raw commands, as a writer without the key does."""
    storage = queue.storage
    if isinstance(storage, RedisStorage):
        storage.client.command("HSET", f"run:{run_id}", "message", data)
        storage.client.command("ZADD", "queue", 1, run_id)
    else:
        storage.database.execute(
            "INSERT OR REPLACE INTO message (queue, id, task, attempt, data, state, score, since) "
            "VALUES (?, ?, 'work', 1, ?, 'waiting', 1, 1)",
            queue.name, run_id, data,
        )  # fmt: skip


def delete_marks(queue: Queue, run_id: str) -> None:
    """Delete the result of a run and the mark of its end."""
    queue.storage.messages.clear_finished(run_id)


def put_cancel(queue: Queue, run_id: str, line: bytes) -> None:
    """Store a request to cancel a held run."""
    storage = queue.storage
    if isinstance(storage, RedisStorage):
        entry = storage.client.command("HGET", "held", run_id)
        storage.client.command("HSET", "held", run_id, entry.replace(b" - ", b" c ", 1))
        storage.client.command("HSET", f"run:{run_id}", "cancel", line)
    else:
        storage.database.execute("UPDATE message SET cancel = CAST(? AS TEXT) WHERE id = ?", line, run_id)
