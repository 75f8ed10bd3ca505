"""A connection per thread for its scripts. The overhead of the client's pool would double their cost."""

import socket
import struct
from dataclasses import dataclass
from os import sched_yield
from time import monotonic
from typing import Any

from hiredis import pack_command
from redis.connection import Connection, HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

Word = bytes | str | float

TIMEOUT_SECONDS = 5

#: A connection that was idle for longer may have been closed by the server.
FRESH_SECONDS = 1.0

#: A local server answers within microseconds, which is less than sleeping and waking takes. Poll this many times, and
#: yield the core in between.
BUSY_POLLS = 30
#: If the core is returned only after BUSY_SECONDS, the machine is busy. Then skip polling for IDLE_SECONDS.
BUSY_SECONDS, IDLE_SECONDS = 0.001, 0.1


class Encoder(HiredisRespSerializer):
    def pack(self, *words: Any) -> Any:
        return super().pack(*without_numbers(words))


def without_numbers(words: tuple[Any, ...]) -> tuple[Any, ...]:
    """Convert numbers to text: hiredis 3.5 crashes the process if a signal arrives while it converts one."""
    return tuple([str(word) if type(word) in (int, float) else word for word in words])


@dataclass(slots=True)
class ThreadConnection:
    """A connection of one thread in one process.

    `is_local`: the server is on this machine, without TLS. `unread`: the number of outstanding replies.
    """

    connection: Connection
    pid: int
    is_local: bool
    used_at: float = 0.0
    no_polling_before: float = 0.0
    unread: int = 0

    def send(self, *words: Word) -> None:
        self.unread += 1
        self.connection.send_packed_command((pack_command(without_numbers(words)),))

    def receive(self) -> Any:
        if self.is_local and monotonic() > self.no_polling_before:
            self.busy_poll()
        try:
            answer = self.connection.read_response()
        except ResponseError:
            self.unread -= 1
            raise
        self.unread -= 1
        self.used_at = monotonic()
        return answer

    def busy_poll(self) -> None:
        sock: Any = self.connection._sock
        for _ in range(BUSY_POLLS):
            try:
                sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                return
            except BlockingIOError:
                left_at = monotonic()
                sched_yield()
                if monotonic() - left_at > BUSY_SECONDS:
                    self.no_polling_before = left_at + IDLE_SECONDS
                    return
            except OSError:  # read_response raises it
                return

    def drop_unusable(self) -> None:
        """Disconnect if an interrupted step has left a reply, or the server may have closed the connection."""
        if self.unread or (monotonic() - self.used_at > FRESH_SECONDS and self.is_stale()):
            self.connection.disconnect()
            self.unread = 0

    def is_stale(self) -> bool:
        try:
            return bool(self.connection.can_read())
        except (RedisConnectionError, RedisTimeoutError):
            return True


def connect_with_kernel_timeouts(connection: Any) -> None:
    """Connect as redis-py does, but with kernel timeouts. Python's own cost a poll per send and receive."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection._sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", TIMEOUT_SECONDS, 0))
    connection.on_connect()
