"""Storage for counts of failed sign-ins: Redis, and this process for writes that Redis rejects."""

from typing import Any, ClassVar

from limits.storage import MemoryStorage, RedisStorage
from redis.exceptions import RedisError

#: Prefix of the scheme of a Redis URL.
SCHEME = "tries+"


class WrongTries(RedisStorage):
    """Count locally while Redis is read-only. Flask-Limiter does so only while Redis is unavailable."""

    # limits reads it from the class but declares it for instances.
    STORAGE_SCHEME: ClassVar = [SCHEME + scheme for scheme in RedisStorage.STORAGE_SCHEME]  # type: ignore[misc]

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri.removeprefix(SCHEME), **options)
        self.own = MemoryStorage()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        try:
            return super().acquire_entry(key, limit, expiry, amount)
        except RedisError:
            return bool(self.own.acquire_entry(key, limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the start of the window and its number of attempts."""
        shared, own = super().get_moving_window(key, limit, expiry), self.own.get_moving_window(key, limit, expiry)
        return max(shared, own, key=lambda window: window[1])
