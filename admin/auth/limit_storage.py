"""Storage for counts of requests and failed sign-ins: Redis, and this process while Redis does not count."""

import re
import time
from typing import Any

from limits.storage import MemoryStorage, RedisStorage
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

#: Short timeouts for Redis, because a user is waiting.
TIMEOUTS: dict[str, Any] = {"socket_connect_timeout": 1, "socket_timeout": 1, "retry": Retry(NoBackoff(), 0)}

#: Seconds without Redis after an error, so that a request does not wait for one timeout after the other.
PAUSE_SECONDS = 5


def open_storage(redis_url: str) -> "MemoryStorage | SharedCounts":
    return SharedCounts(redis_url) if redis_url else MemoryStorage()


class SharedCounts(RedisStorage):
    """Counts in Redis. While Redis is unavailable or rejects writes, this process counts."""

    def __init__(self, url: str) -> None:
        super().__init__(re.sub("^unix:", "redis+unix:", url), key_prefix="dewey:limits", **TIMEOUTS)
        self.own = MemoryStorage()
        self.resume_at = 0.0

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        if time.monotonic() >= self.resume_at:
            try:
                return super().acquire_entry(key, limit, expiry, amount)
            except RedisError:
                self.resume_at = time.monotonic() + PAUSE_SECONDS
        return bool(self.own.acquire_entry(key, limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the start of the window and its number of entries."""
        own = self.own.get_moving_window(key, limit, expiry)
        if time.monotonic() >= self.resume_at:
            try:
                return max(super().get_moving_window(key, limit, expiry), own, key=lambda window: window[1])
            except RedisError:
                self.resume_at = time.monotonic() + PAUSE_SECONDS
        return own
