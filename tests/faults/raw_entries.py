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
