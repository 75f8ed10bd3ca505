"""The worker process of gunicorn."""

import asyncio
import os
import socket
import time
from asyncio import StreamReader, StreamWriter, Task
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from gunicorn.workers.base import Worker

from admin.server.connection import HEAD_BYTES, Connection

#: Bytes of a response that the kernel holds before the client's window opens.
UNSENT_BYTES = 16 << 10


class WebWorker(Worker):
    """An event loop reads requests and sends responses. `threads` threads run the application."""

    alive: bool

    def init_process(self) -> None:
        self.threads = ThreadPoolExecutor(self.cfg.threads, "web")
        #: In the order of their beginning.
        self.connections: dict[Task[None] | None, Connection] = {}
        self.loop, self.stopping = asyncio.new_event_loop(), asyncio.Event()
        super().init_process()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop at SIGTERM."""
        super().handle_exit(sig, frame)
        self.loop.call_soon_threadsafe(self.stopping.set)

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.serve())
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def serve(self) -> None:
        """Accept connections until the end, then give those with a request `graceful_timeout` seconds."""
        options = {"limit": HEAD_BYTES, "backlog": self.cfg.backlog}
        for listener in self.sockets:
            # Otherwise the kernel takes megabytes of a response that the client does not read.
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        servers = [await asyncio.start_server(self.accept, sock=listener.sock, **options) for listener in self.sockets]
        stopping = asyncio.create_task(self.stopping.wait())
        while self.alive and os.getppid() == self.ppid:
            self.notify()
            await asyncio.wait([stopping], timeout=1)
        self.alive = False
        for server in servers:
            server.close()
        await self.finish_requests()

    async def finish_requests(self) -> None:
        for task, connection in self.connections.items():
            if task and connection.is_idle:
                task.cancel()
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while (tasks := list(filter(None, self.connections))) and time.monotonic() < deadline:
            self.notify()
            await asyncio.wait(tasks, timeout=1)

    async def accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a new client. If there are too many, the oldest without a running request is closed."""
        if len(self.connections) >= self.cfg.worker_connections:
            self.close_oldest()
        task = asyncio.current_task()
        try:
            self.connections[task] = Connection(self, self.threads, reader, writer)
            with suppress(asyncio.CancelledError):  # asyncio would log it
                await self.connections[task].serve()
        except Exception:
            self.log.exception("Error on a connection")
        finally:
            self.connections.pop(task, None)
            writer.transport.abort()

    def close_oldest(self) -> None:
        waiting = (task for task, connection in self.connections.items() if not connection.is_running)
        if task := next(waiting, None):
            del self.connections[task]
            task.cancel()
