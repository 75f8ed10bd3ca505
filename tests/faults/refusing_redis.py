"""A proxy to a real Redis that answers chosen commands with an error. Refused commands never reach the server."""

import socket
import socketserver
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

from servers import RedisServer

#: Errors of Redis 6.2, 7 and 8 for commands that are refused for now.
REFUSALS = (
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN The cluster is down",
    "ERR Error running script (call to f_0123): @user_script:73: @user_script: 73: -OOM command not allowed when used"
    " memory > 'maxmemory'.",
    "ERR The user executing the script can't run this command or subcommand script: "
    + "0" * 40
    + ", on @user_script:9.",
    "EXECABORT Transaction discarded because of previous errors.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "NOPERM User default has no permissions to run the 'evalsha' command",
    "NOREPLICAS Not enough good replicas to write.",
    "OOM command not allowed when used memory > 'maxmemory'. script: " + "0" * 40 + ", on @user_script:73.",
    "READONLY You can't write against a read only replica.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
)
#: Commands that open a connection.
GREETINGS = (b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"PING")


class RefusingRedis(RedisServer):
    """The proxy, reached by `url`. `refuse` returns the error for a command, or None for the server's reply."""

    def __init__(self, folder: Path, fsync: str = "always") -> None:
        super().__init__(folder, fsync)
        self.door = folder / "door.sock"
        self.url = f"unix://{self.door}"
        self.refuse: Callable[[bytes], str | None] = lambda command: None
        self.refused = 0
        self.proxy: socketserver.ThreadingUnixStreamServer | None = None

    def start(self) -> None:
        if self.proxy is None:
            self.proxy = Proxy(str(self.door), Conversation)
            self.proxy.redis = self
            threading.Thread(target=self.proxy.serve_forever, args=(0.02,), daemon=True).start()
        super().start()

    def kill(self) -> None:
        super().kill()
        if self.proxy:
            self.proxy.shutdown()
            self.proxy.server_close()
            self.proxy = None
            self.door.unlink()

    def refuse_all(self, reply: str) -> None:
        self.refuse = lambda command: reply

    def refuse_some(self, chance: float, seed: int, replies: Sequence[str] = REFUSALS) -> None:
        """Refuse each command with this chance. The seed makes the choice reproducible."""
        random, lock = Random(seed), threading.Lock()

        def refuse(command: bytes) -> str | None:
            with lock:
                return random.choice(replies) if random.random() < chance else None

        self.refuse = refuse

    def accept_all(self) -> None:
        self.refuse = lambda command: None


class Proxy(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    redis: RefusingRedis

    def handle_error(self, request: Any, address: Any) -> None:
        """Ignore the error: the client or the server has disconnected."""


class Conversation(socketserver.StreamRequestHandler):
    """A connection of one client. Each command is read whole, and its reply is written before the next one is read."""

    server: Proxy

    def handle(self) -> None:
        redis = self.server.redis
        with socket.socket(socket.AF_UNIX) as server_socket:
            server_socket.connect(str(redis.socket))
            replies = server_socket.makefile("rb")
            while command := read_element(self.rfile):
                name = command.split(b"\r\n", 3)[2].upper()
                refusal = None if name in GREETINGS else redis.refuse(name)
                if refusal:
                    redis.refused += 1
                    self.request.sendall(f"-{refusal}\r\n".encode())
                else:
                    server_socket.sendall(command)
                    if not (reply := read_element(replies)):
                        return
                    self.request.sendall(reply)


#: Elements per item of each aggregate type.
AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
STRINGS = (b"$", b"=", b"!")


def read_element(stream: BinaryIO) -> bytes:
    """Return one raw command or reply (RESP 2 and 3). Empty at the end of the stream."""
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind in STRINGS and rest != b"-1":
        return line + stream.read(int(rest) + 2)
    if kind in AGGREGATES and rest != b"-1":
        line += b"".join(read_element(stream) for _ in range(int(rest) * AGGREGATES[kind]))
    return line + read_element(stream) if kind in (b"|", b">") else line
