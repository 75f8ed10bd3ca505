"""The connection that each thread has for its scripts: the way through the client's pool costs as much as the rest."""

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

#: A connection that was idle for so long may have been closed by the server meanwhile.
FRESH_SECONDS = 1.0

#: A server on this machine answers within microseconds; to fall asleep and be woken takes longer. So often its answer
#: is looked for first, and the core left in between to another process.
BUSY_POLLS = 30
#: A process that gets the core back only after so long is on a busy machine, and sleeps as others do for a while.
BUSY_SECONDS, IDLE_SECONDS = 0.001, 0.1


class Encoder(HiredisRespSerializer):
    def pack(self, *words: Any) -> Any:
        return super().pack(*without_numbers(words))


def without_numbers(words: tuple[Any, ...]) -> tuple[Any, ...]:
    """Hiredis 3.5 crashes the process when a signal, such as a time limit's, comes while it makes text of a number."""
    return tuple([str(word) if type(word) in (int, float) else word for word in words])


@dataclass(slots=True)
class ThreadConnection:
    """A connection of one thread in one process.

    `is_local`: the server is on this machine, without TLS. `unread`: the answers that are still to come.
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
        """Return the first answer that was not read yet."""
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
        """Return when there is an answer, or when it is time to sleep until there is one."""
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
        """Disconnect where an interrupted step has left an answer, or the server may have closed it: it reconnects."""
        if self.unread or (monotonic() - self.used_at > FRESH_SECONDS and self.is_stale()):
            self.connection.disconnect()
            self.unread = 0

    def is_stale(self) -> bool:
        """True if the server has closed it, or has sent something without a request."""
        try:
            return bool(self.connection.can_read())
        except (RedisConnectionError, RedisTimeoutError):
            return True


def connect_with_kernel_timeouts(connection: Any) -> None:
    """Connect as redis-py does, with timeouts of the kernel: Python's own cost a poll per send and receive."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection._sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", TIMEOUT_SECONDS, 0))
    connection.on_connect()
