"""The way to Redis: scripts, on a connection of each thread's own; everything else through the client's pool."""

import hashlib
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import getpid, sched_yield
from time import monotonic
from typing import Any

from hiredis import pack_command
from huey.storage import BaseStorage
from redis import DriverInfo, Redis, SSLConnection
from redis import __version__ as VERSION
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as Silent
from redis.retry import Retry

from engine.broker.redis_refusals import refusal
from engine.broker.redis_scripts import SOURCE

#: A connection that was idle for so long may have been closed by the server meanwhile.
FRESH_SECONDS = 1.0
SILENCE_SECONDS = 5

#: A server on this machine answers within microseconds; to fall asleep and be woken takes longer. So often its answer
#: is looked for first, and the core left in between to whoever has use for it.
LOOKS = 30
#: Who is given the core back only after so long is on a crowded machine, and sleeps as others do for a while.
CROWDED_SECONDS, CALM_SECONDS = 0.001, 0.1

#: So many scripts of a series are on their way while the next is written.
SENT_AHEAD = 2

Words = tuple[Any, ...]


class Packer(HiredisRespSerializer):
    def pack(self, *words: Any) -> Any:
        return super().pack(*without_numbers(words))


def without_numbers(words: Words) -> Words:
    """Hiredis 3.5 crashes the process when a signal, such as a time limit's, comes while it makes text of a number."""
    return tuple([str(word) if type(word) in (int, float) else word for word in words])


class RedisServer(BaseStorage):
    """The part of a storage that talks to the server."""

    def __init__(self, name: str, url: str, result_ttl: int, read_timeout: float = 1.0) -> None:
        super().__init__(name)
        self.result_ttl, self.read_timeout = result_ttl, read_timeout
        # No retries by the client: a step that was answered by silence may have been taken. Callers that can repeat do.
        self.redis = Redis.from_url(
            url,
            socket_timeout=SILENCE_SECONDS,
            socket_connect_timeout=SILENCE_SECONDS,
            health_check_interval=30,
            retry=Retry(NoBackoff(), 0),
            command_packer=Packer(),
            # Else each connection reads it from the package's description, which costs a process 1.5 MB.
            driver_info=DriverInfo(lib_version=VERSION),
        )
        self.prefix = f"dewey:{{{name}}}:"
        self.local = threading.local()

    @contextmanager
    def reaching(self) -> Iterator[Redis]:
        try:
            yield self.redis
        except RedisError as error:
            if away := refusal(error):
                raise away from error
            raise
        except Exception:
            raise
        except BaseException:  # somebody was interrupted, such as by a time limit
            self.drop_unfinished()
            raise

    def run(self, step: str, *args: Any) -> Any:
        """One script. On a connection of this thread's own: the way through the pool costs as much as all the rest."""
        try:
            connection = self.connection()
            try:
                self.send(connection, "EVALSHA", SHA[step], 1, self.prefix, *args)
                return self.received(connection)
            except NoScriptError:
                self.send(connection, "EVAL", SOURCE[step], 1, self.prefix, *args)
                return self.received(connection)
        except RedisError as error:
            if away := refusal(error):
                raise away from error
            raise

    def run_each(self, step: str, calls: Iterable[Words]) -> None:
        """One script with the words of each. The next are made, and sent, while the server works on those before."""
        with self.reaching():
            connection = self.connection()
            self.send(connection, "SCRIPT", "LOAD", SOURCE[step])
            for words in calls:
                self.send(connection, "EVALSHA", SHA[step], 1, self.prefix, *words)
                if self.local.unread == SENT_AHEAD:
                    self.received(connection)
            while self.local.unread:
                self.received(connection)

    def send(self, connection: Any, *words: Any) -> None:
        self.local.unread += 1
        connection.send_packed_command((pack_command(without_numbers(words)),))

    def received(self, connection: Any) -> Any:
        """The first answer that nobody has read yet."""
        if self.local.near and monotonic() > self.local.calm_until:
            self.look(connection._sock)
        try:
            answer = connection.read_response()
        except ResponseError:
            self.local.unread -= 1
            raise
        self.local.unread -= 1
        self.local.used = monotonic()
        return answer

    def look(self, sock: socket.socket) -> None:
        """Return when there is an answer, or when it is time to sleep until there is one."""
        for _ in range(LOOKS):
            try:
                sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                return
            except BlockingIOError:
                left_at = monotonic()
                sched_yield()
                if monotonic() - left_at > CROWDED_SECONDS:
                    self.local.calm_until = left_at + CALM_SECONDS
                    return
            except OSError:  # whoever reads the answer will know
                return

    def connection(self) -> Any:
        local = self.local
        if getattr(local, "pid", None) != getpid():
            local.open, local.used, local.calm_until, local.unread = self.new_connection(), 0.0, 0.0, 0
            local.near = self.is_near and not isinstance(local.open, SSLConnection)
            local.pid = getpid()
        # Who was interrupted while it waited has left an answer that is nobody's.
        elif local.unread or (monotonic() - local.used > FRESH_SECONDS and is_stale(local.open)):
            local.open.disconnect()
            local.unread = 0
        return local.open

    def drop_unfinished(self) -> None:
        """Let go of connections that somebody was interrupted on; that of this thread is looked after by itself."""
        self.redis.connection_pool.reset()

    def new_connection(self) -> Any:
        """One whose silence the kernel watches over: Python's own timeout costs a poll before each send and receive."""
        pool = self.redis.connection_pool
        options = {**pool.connection_kwargs, "health_check_interval": 0}
        if not issubclass(pool.connection_class, SSLConnection):
            options |= {"socket_timeout": None, "redis_connect_func": bear_no_silence}
        return pool.connection_class(**options)

    def ask(self, command: str, key: str, *args: Any) -> Any:
        with self.reaching() as redis:
            return redis.execute_command(command, self.prefix + key, *args)

    def probe_write(self, seconds: float) -> None:
        """Overwrite a key by a command and by a script, as a server may refuse only one of them. Raises BrokerAway."""
        with self.reaching() as redis:
            redis.set(f"{self.prefix}probe", "1", ex=60)
            redis.eval("return redis.call('set', KEYS[1], '1', 'ex', 60)", 1, f"{self.prefix}probe")

    def warnings(self) -> list[str]:
        """What endangers accepted work or invites strangers, a sentence each."""
        with self.reaching() as redis:
            persistence: dict[str, Any] = redis.info("persistence")
            memory: dict[str, Any] = redis.info("memory")
        found = []
        if not persistence.get("aof_enabled"):
            found.append("Redis keeps no append-only file: a restart loses accepted work")
        if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
            found.append(f"Redis may evict accepted work (maxmemory-policy {memory.get('maxmemory_policy')})")
        if not self.redis.connection_pool.connection_kwargs.get("password") and not self.is_near:
            found.append("Redis is reached over the network without a password")
        return found

    @property
    def is_near(self) -> bool:
        """The server is on this machine."""
        host = str(self.redis.connection_pool.connection_kwargs.get("host", "localhost"))
        return host in ("localhost", "::1") or host.startswith("127.")

    def close(self) -> bool:
        self.redis.connection_pool.disconnect()
        if getattr(self.local, "pid", None) == getpid():
            self.local.open.disconnect()
        return True


def bear_no_silence(connection: Any) -> None:
    """What redis-py does on connecting, and an error from the kernel when the server does not answer in time."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection._sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SILENCE_SECONDS, 0))
    connection.on_connect()


def is_stale(connection: Any) -> bool:
    """The server has closed it, or has said something that nobody asked for."""
    try:
        return bool(connection.can_read())
    except (Unreachable, Silent):
        return True


SHA = {step: hashlib.sha1(source.encode()).hexdigest() for step, source in SOURCE.items()}
