"""Health of the broker, from two or three cheap queries."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.queues.queue import Queue


class RedisHealth(NamedTuple):
    """`product` is redis or valkey. Bytes and times are None if the server does not report them."""

    product: str
    version: str
    ping_ms: float
    address: str
    up_seconds: int
    clients: int
    memory_bytes: int
    memory_limit: int | None
    evicts: str | None  # the policy by which it may drop accepted work
    keeps_log: bool  # an append-only file
    log_failed: bool
    saved_at: datetime | None  # the last snapshot
    replicas: int
    exposed: bool  # reached over the network without a password


class SqliteHealth(NamedTuple):
    """The embedded broker's file. `wal_bytes`: not yet checkpointed."""

    product: str
    version: str
    ping_ms: float
    path: str
    file_bytes: int
    wal_bytes: int
    free_bytes: int  # inside the file, reused before it grows
    journal_mode: str
    synchronous: str


Health = RedisHealth | SqliteHealth

SYNCHRONOUS = ("off", "normal", "full", "extra")


def check_health(queue: Queue) -> Health:
    """Return the health of this queue's broker. Raises BrokerUnavailable."""
    storage = queue.storage
    return redis_health(storage) if isinstance(storage, RedisStorage) else sqlite_health(storage)


def redis_health(storage: RedisStorage) -> RedisHealth:
    with storage.client.translate_errors() as redis:
        info: dict[str, Any] = redis.info()
        ping_ms = time_call(redis.ping)
    limit, policy = info.get("maxmemory") or None, info.get("maxmemory_policy", "noeviction")
    connection = storage.client.redis.connection_pool.connection_kwargs
    return RedisHealth(
        product=info.get("server_name", "redis"),
        version=info.get("valkey_version") or info["redis_version"],
        ping_ms=ping_ms,
        address=client_address(connection),
        up_seconds=info["uptime_in_seconds"],
        clients=info["connected_clients"],
        memory_bytes=info["used_memory"],
        memory_limit=limit,
        evicts=policy if limit and policy != "noeviction" else None,
        keeps_log=bool(info.get("aof_enabled")),
        log_failed="err" in (info.get("aof_last_write_status"), info.get("aof_last_bgrewrite_status")),
        saved_at=datetime.fromtimestamp(saved, UTC) if (saved := info.get("rdb_last_save_time")) else None,
        replicas=info.get("connected_slaves", 0),
        exposed=is_exposed(connection),
    )


def client_address(connection: Mapping[str, object]) -> str:
    if path := connection.get("path"):
        return str(path)
    return f"{connection.get('host', 'localhost')}:{connection.get('port', 6379)}/{connection.get('db') or 0}"


def is_exposed(connection: Mapping[str, object]) -> bool:
    host = str(connection.get("host", "localhost"))
    loopback = "path" in connection or host in ("localhost", "::1") or host.startswith("127.")
    return not (loopback or connection.get("password"))


def sqlite_health(storage: SqliteStorage) -> SqliteHealth:
    def pragma(name: str) -> Any:
        return storage.database.query(f"PRAGMA {name}")[0][0]

    return SqliteHealth(
        product="sqlite",
        version=storage.database.query("SELECT sqlite_version()")[0][0],
        ping_ms=time_call(lambda: storage.database.query("SELECT 1 FROM consumer LIMIT 1")),
        path=str(storage.database.path),
        file_bytes=file_size(storage.database.path),
        wal_bytes=file_size(storage.database.path.with_name(storage.database.path.name + "-wal")),
        free_bytes=pragma("freelist_count") * pragma("page_size"),
        journal_mode=pragma("journal_mode"),
        synchronous=SYNCHRONOUS[pragma("synchronous")],
    )


def file_size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def time_call(query: Callable[[], object]) -> float:
    began = time.perf_counter()
    query()
    return (time.perf_counter() - began) * 1000
