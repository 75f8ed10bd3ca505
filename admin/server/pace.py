"""Time limits for clients of the web server."""

import asyncio
import time
from collections.abc import Awaitable

#: Seconds for the head of a request. A new connection may be silent for as long.
HEAD_SECONDS = 10.0

#: Longest pause in a body or in reading a response, in seconds.
STALL_SECONDS = 10.0

#: Bytes per second that a client must at least send or read, measured over `STALL_SECONDS`.
MINIMUM_RATE = 16 << 10

#: Seconds in which a client may read the end of the last response before its connection is closed.
LINGER_SECONDS = 2.0


class SlowClient(Exception):
    """The client sends or reads too slowly."""


class TooManyUploads(Exception):
    """No further thread may wait for a body."""


class Pace:
    """The time that remains for a transfer. Waiting uses it up, transferred bytes extend it up to `STALL_SECONDS`."""

    def __init__(self) -> None:
        self.seconds = STALL_SECONDS

    def count(self, size: int, waited: float) -> None:
        """Record `size` bytes after `waited` seconds. Raises SlowClient if no time remains."""
        self.seconds = min(self.seconds - waited + size / MINIMUM_RATE, STALL_SECONDS)
        if self.seconds <= 0:
            raise SlowClient(f"fewer than {MINIMUM_RATE} bytes per second")

    async def receive(self, read: Awaitable[bytes]) -> bytes:
        """Return what the client sends. Raises SlowClient if no time remains."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.seconds):
                data = await read
        except TimeoutError:
            raise SlowClient(f"no byte for {self.seconds:.0f} s") from None
        self.count(len(data), time.monotonic() - began)
        return data
