"""The Redis client: scripts use a connection per thread, other commands use redis-py's pool."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import getpid
from typing import Any

from redis import DriverInfo, Redis, SSLConnection
from redis import __version__ as VERSION
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from engine.broker.parsing import decode
from engine.broker.redis.errors import is_wrong_type, outage_error
from engine.broker.redis.scripts import SCRIPTS
from engine.broker.redis.thread_connection import (
    TIMEOUT_SECONDS,
    Encoder,
    ThreadConnection,
    Word,
    connect_with_kernel_timeouts,
)
from engine.broker.redis.wrong_types import set_aside_wrong_types
from engine.broker.signed_entries import SignedEntries
from engine.broker.storage import BrokerAddress
from engine.exceptions import BrokerUnavailable

#: Scripts of a series in flight while the next is written.
PIPELINE_WINDOW = 2


class RedisClient:
    """The keys of a queue on a server. `prefix` begins each of them. `entries` signs what the parts store."""

    def __init__(self, queue: str, url: str, entries: SignedEntries) -> None:
        self.queue, self.prefix, self.entries = queue, f"dewey:{{{queue}}}:", entries
        # No retries: a step that timed out may have been executed. Callers with idempotent steps retry.
        self.redis = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            health_check_interval=30,
            retry=Retry(NoBackoff(), 0),
            command_packer=Encoder(),
            # Otherwise each connection reads it from the package metadata, which costs a process 1.5 MB.
            driver_info=DriverInfo(lib_version=VERSION),
        )
        self.threads = threading.local()

    @contextmanager
    def translate_errors(self) -> Iterator[Redis]:
        try:
            yield self.redis
        except RedisError as error:
            if away := self.outage(error):
                raise away from error
            raise
        except Exception:
            raise
        except BaseException:  # an interruption, such as a time limit
            self.drop_interrupted()
            raise

    def run_script(self, name: str, *args: Word) -> Any:
        script = SCRIPTS[name]
        try:
            thread = self.thread_connection()
            try:
                thread.send("EVALSHA", script.sha, 1, self.prefix, *args)
                return thread.receive()
            except NoScriptError:
                thread.send("EVAL", script.source, 1, self.prefix, *args)
                return thread.receive()
        except RedisError as error:
            if away := self.outage(error):
                raise away from error
            raise

    def outage(self, error: RedisError) -> BrokerUnavailable | None:
        """Return the outage that an error means. A key of the wrong type is an outage until it is set aside."""
        if is_wrong_type(error):
            set_aside_wrong_types(self.redis, self.prefix, self.entries)
        return outage_error(error)

    def run_script_for_each(self, name: str, calls: Iterable[Sequence[Word]]) -> None:
        """Run a script once per argument list. The next call is written while the server executes the last one."""
        script = SCRIPTS[name]
        with self.translate_errors():
            thread = self.thread_connection()
            thread.send("SCRIPT", "LOAD", script.source)
            for args in calls:
                thread.send("EVALSHA", script.sha, 1, self.prefix, *args)
                if thread.unread == PIPELINE_WINDOW:
                    thread.receive()
            while thread.unread:
                thread.receive()

    def thread_connection(self) -> ThreadConnection:
        current: ThreadConnection | None = getattr(self.threads, "current", None)
        if current is None or current.pid != getpid():
            connection = self.new_connection()
            is_local = self.is_local and not isinstance(connection, SSLConnection)
            current = self.threads.current = ThreadConnection(connection, getpid(), is_local)
        else:
            current.drop_unusable()
        return current

    def new_connection(self) -> Any:
        pool = self.redis.connection_pool
        options = {**pool.connection_kwargs, "health_check_interval": 0}
        if not issubclass(pool.connection_class, SSLConnection):
            options |= {"socket_timeout": None, "redis_connect_func": connect_with_kernel_timeouts}
        return pool.connection_class(**options)

    def drop_interrupted(self) -> None:
        """Drop the pool's connections after an interruption. A thread's own one is dropped before its next use."""
        self.redis.connection_pool.reset()

    # --- commands --------------------------------------------------------------------------------------------

    def command(self, command: str, key: str, *args: Word) -> Any:
        with self.translate_errors() as redis:
            return redis.execute_command(command, self.prefix + key, *args)

    def read_hash(self, key: str) -> list[tuple[str, bytes]]:
        fields: dict[bytes, bytes] = self.command("HGETALL", key)
        return [(decode(name), value) for name, value in fields.items()]

    def read_runs(self, ids: Sequence[str], field: str) -> list[bytes | None]:
        with self.translate_errors() as redis:
            pipe = redis.pipeline(transaction=False)
            for run_id in ids:
                pipe.hget(f"{self.prefix}run:{run_id}", field)
            return list(pipe.execute()) if ids else []

    def keys(self, kind: str) -> list[str]:
        with self.translate_errors() as redis:
            prefix = self.prefix + kind
            return [key.decode().removeprefix(prefix) for key in redis.scan_iter(match=f"{prefix}*", count=1000)]

    def probe_write(self) -> None:
        """Overwrite a key by a command and by a script, as a server may reject only one. Raises BrokerUnavailable."""
        with self.translate_errors() as redis:
            redis.set(f"{self.prefix}probe", "1", ex=60)
            redis.eval("return redis.call('set', KEYS[1], '1', 'ex', 60)", 1, f"{self.prefix}probe")

    def clock(self) -> float:
        with self.translate_errors() as redis:
            seconds, micros = redis.time()
            return float(seconds) + float(micros) / 1e6

    def warnings(self) -> list[str]:
        with self.translate_errors() as redis:
            persistence: dict[str, Any] = redis.info("persistence")
            memory: dict[str, Any] = redis.info("memory")
        warnings = []
        if not persistence.get("aof_enabled"):
            warnings.append("Redis keeps no append-only file: a restart loses accepted work")
        if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
            warnings.append(f"Redis may evict accepted work (maxmemory-policy {memory.get('maxmemory_policy')})")
        if not self.redis.connection_pool.connection_kwargs.get("password") and not self.is_local:
            warnings.append("Redis is reached over the network without a password")
        return warnings

    def address(self) -> BrokerAddress:
        pool = self.redis.connection_pool
        options = pool.connection_kwargs
        host, port, database = options.get("path") or options.get("host") or "", options.get("port"), options.get("db")
        tls = issubclass(pool.connection_class, SSLConnection)
        return BrokerAddress("redis", host, port or 0, int(database or 0), options.get("username"), tls)

    @property
    def is_local(self) -> bool:
        host = str(self.redis.connection_pool.connection_kwargs.get("host", "localhost"))
        return host in ("localhost", "::1") or host.startswith("127.")

    def close(self) -> None:
        self.redis.connection_pool.disconnect()
        current: ThreadConnection | None = getattr(self.threads, "current", None)
        if current is not None and current.pid == getpid():
            current.connection.disconnect()
