"""A client of the web server, in the event loop."""

import asyncio
import time
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from collections.abc import Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import TypeVar

from gunicorn.http import Request
from gunicorn.http.errors import ParseException
from gunicorn.workers.base import Worker

from admin import BUFFERED_BODY
from admin.server import pace
from admin.server.body import Body, body_length, expects_continue
from admin.server.exchange import Addresses, Exchange
from admin.server.pace import Pace, SlowClient
from admin.server.refusals import problem, problem_of

#: Longest head in bytes. The event loop reads at most twice as many bytes ahead.
HEAD_BYTES = 64 << 10

#: Seconds between two measurements of how much a client has read.
MEASURE_SECONDS = 0.5

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Result = TypeVar("Result")


class Connection:
    """Reads requests, has a thread answer each and sends the responses."""

    def __init__(self, worker: Worker, threads: ThreadPoolExecutor, reader: StreamReader, writer: StreamWriter) -> None:
        self.worker, self.threads, self.reader, self.writer = worker, threads, reader, writer
        self.loop = asyncio.get_running_loop()
        self.addresses = Addresses(*map(writer.get_extra_info, ("peername", "sockname")))
        self.is_idle, self.is_running = True, False
        self.awaits_continue = False
        writer.transport.set_write_buffer_limits(high=0)  # `drain` then waits until everything is sent

    async def serve(self) -> None:
        """Answer requests until one side ends the connection."""
        with suppress(SlowClient, OSError, IncompleteReadError):
            patience = pace.HEAD_SECONDS
            while await self.serve_request(patience) and self.worker.alive:
                patience = self.worker.cfg.keepalive
            await self.linger()

    async def serve_request(self, patience: float) -> bool:
        """Answer a request that begins within `patience` seconds. Return true if another one may follow."""
        self.is_idle = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                first = await self.reader.read(1)
                self.is_idle = False
        if self.is_idle or not first:
            return False
        try:
            request, body = await self.read_request(first)
        except (ParseException, LimitOverrunError, SlowClient) as error:
            await self.send(self.refuse(error), Pace())
            return False
        return await self.answer(request, body)

    # --- the request -----------------------------------------------------------------------------------------

    async def read_request(self, first: bytes) -> tuple[Request, Body]:
        """Read the head, and the body if it is small. Raises ParseException, LimitOverrunError and SlowClient."""
        head = first + await self.read_head()
        pace = Pace()
        body = Body(head, lambda size: self.run_in_loop(self.receive(size, pace)))
        request = Request(self.worker.cfg, body, self.addresses.client)
        length = body_length(request)
        self.awaits_continue = expects_continue(request)
        if length is None or length > BUFFERED_BODY:
            body.is_complete = False
        elif length:
            body.unread(await self.receive_all(length, pace))
        return request, body

    async def read_head(self) -> bytes:
        try:
            async with asyncio.timeout(pace.HEAD_SECONDS):
                return await self.reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            raise SlowClient(f"no whole head in {pace.HEAD_SECONDS:.0f} s") from None

    async def receive_all(self, size: int, pace: Pace) -> bytes:
        """Read exactly `size` bytes. Raises IncompleteReadError at the end of the stream."""
        data = bytearray()
        while len(data) < size:
            part = await self.receive(size - len(data), pace)
            if not part:
                raise IncompleteReadError(bytes(data), size)
            data += part
        return bytes(data)

    async def receive(self, size: int, pace: Pace) -> bytes:
        """Read up to `size` bytes. A client that waits for permission to send gets it first."""
        if self.awaits_continue:
            self.awaits_continue = False
            self.writer.write(CONTINUE)
        return await pace.receive(self.reader.read(size))

    def refuse(self, error: Exception) -> bytes:
        """Log the malformed request and return the response to it."""
        match error:
            case ParseException():
                self.worker.log.warning("Invalid request from ip=%s: %s", self.addresses.client[0], error)
                return problem_of(error)
            case LimitOverrunError():
                detail = f"The head must be at most {HEAD_BYTES} bytes long."
                return problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        return problem(HTTPStatus.REQUEST_TIMEOUT, f"The request arrived too slowly: {error}.")

    # --- the response ----------------------------------------------------------------------------------------

    async def answer(self, request: Request, body: Body) -> bool:
        """Have a thread run the application. Return true if the connection stays open."""
        pace = Pace()
        exchange = Exchange(
            self.worker, request, body, self.addresses, lambda data: self.run_in_loop(self.send(data, pace))
        )
        self.is_running = True
        stays_open = await self.loop.run_in_executor(self.threads, exchange.run)
        self.is_running = False
        if exchange.is_cut:
            raise ConnectionAbortedError
        await self.send(exchange.take_pending(), pace)
        return stays_open

    async def send(self, data: bytes, pace: Pace) -> None:
        """Send everything. Raises SlowClient if the client does not read it, and ConnectionError if it is gone."""
        transport = self.writer.transport
        self.writer.write(data)
        while left := transport.get_write_buffer_size():
            began = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(MEASURE_SECONDS):
                    await self.writer.drain()
            pace.count(left - transport.get_write_buffer_size(), time.monotonic() - began)
        if transport.is_closing():
            raise ConnectionAbortedError

    async def linger(self) -> None:
        """End the response and discard what the client still sends. Otherwise the kernel would discard the response."""
        self.writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(pace.LINGER_SECONDS):
                while await self.reader.read(HEAD_BYTES):
                    pass

    def run_in_loop(self, coroutine: Coroutine[object, object, Result]) -> Result:
        """Run a coroutine from a thread. Raises ConnectionAbortedError if the server ends."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()
        except CancelledError:
            raise ConnectionAbortedError from None
