"""The probe queue on a fresh broker, into which anything may be written past the program."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from probes import probe

from engine.redis_delivery import RedisDelivery
from engine.sqlite_delivery import SqliteDelivery


@contextmanager
def probe_on(broker: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[None]:
    """For a while, with this thread as its only worker. `broker`: sqlite or redis."""
    before = probe.storage
    if broker == "redis":
        probe.storage = RedisDelivery("probe", request.getfixturevalue("redis_url"), 60, read_timeout=0.05)
    else:
        probe.storage = SqliteDelivery("probe", folder / "queue.db", 60, read_timeout=0.05)
    probe.identify("here", "Worker-1")
    yield
    probe.storage.close()
    probe.storage = before


def work_off() -> None:
    while (task := probe.dequeue()) is not None:
        probe.execute(task)


def put_line(line: bytes) -> None:
    """At the end of the stream of events."""
    storage = probe.storage
    if isinstance(storage, RedisDelivery):
        storage.ask("XADD", "events", "*", "e", line)
    else:
        storage.tell("INSERT INTO event (queue, data) VALUES (?, CAST(? AS TEXT))", "probe", line)


def put_entry(kind: str, name: str, value: bytes) -> None:
    """A heartbeat, a pause, a lock or the last tick of this name, whatever its value."""
    storage = probe.storage
    if isinstance(storage, RedisDelivery):
        storage.ask("HSET", {"beat": "beats"}.get(kind, kind), name, value)
        if kind == "beat":
            storage.ask("ZADD", "beat_at", storage.redis.time()[0], name)
        return
    sql = {
        "beat": "INSERT OR REPLACE INTO consumer SELECT ?, ?, unixepoch(), CAST(? AS TEXT)",
        "pause": "INSERT OR REPLACE INTO pause SELECT ?, ?, CAST(? AS TEXT)",
        "ticks": "INSERT OR REPLACE INTO tick SELECT ?, ?, CAST(? AS TEXT)",
    }[kind]
    storage.tell(sql, "probe", name, value)
