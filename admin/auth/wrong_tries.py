"""Where wrong tries to sign in are counted: in Redis, and in this process what Redis does not accept."""

from typing import Any, ClassVar

from limits.storage import MemoryStorage, RedisStorage
from redis.exceptions import RedisError

#: In front of the URL of a Redis.
SCHEME = "tries+"


class WrongTries(RedisStorage):
    """Flask-Limiter counts by itself while Redis cannot be reached, but not while it can only be read."""

    # limits reads it from the class, and declares it as an attribute of instances.
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
        """The start of the window, and how many tries it holds."""
        shared, own = super().get_moving_window(key, limit, expiry), self.own.get_moving_window(key, limit, expiry)
        return max(shared, own, key=lambda window: window[1])
