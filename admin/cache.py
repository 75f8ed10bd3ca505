"""A short-lived cache that computes each value once for concurrent callers."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar, cast

Value = TypeVar("Value")


@dataclass
class CacheEntry(Generic[Value]):
    lock: Lock = field(default_factory=Lock)
    asked_at: float = float("-inf")  # the start of the computation of `value`
    known_at: float = float("-inf")
    value: Value | None = None
    error: Exception | None = None


class SharedCache(Generic[Value]):
    """A cache of at most `room` entries with a lifetime of `life` seconds. Concurrent misses compute the value once.

    Errors are cached too, so an unavailable database is queried once per lifetime.
    """

    def __init__(self, life: float, room: int) -> None:
        self.life, self.room = life, room
        self.lock, self.entries = Lock(), OrderedDict[Hashable, CacheEntry[Value]]()

    def get(self, key: Hashable, find: Callable[[], Value]) -> Value:
        arrived, entry = monotonic(), self.entry(key)
        with entry.lock:
            waited = entry.known_at >= arrived
            if not waited and monotonic() - entry.asked_at > self.life:
                entry.asked_at = monotonic()
                try:
                    entry.value, entry.error = find(), None
                except Exception as error:
                    entry.value, entry.error = None, error
                entry.known_at = monotonic()
            if entry.error:
                raise entry.error
            return cast(Value, entry.value)

    def entry(self, key: Hashable) -> CacheEntry[Value]:
        with self.lock:
            entry = self.entries[key] = self.entries.pop(key, CacheEntry())
            while len(self.entries) > self.room:
                self.entries.popitem(last=False)
            return entry

    def forget(self) -> None:
        with self.lock:
            self.entries.clear()
