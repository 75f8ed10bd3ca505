"""Huey's storage interface, implemented by the parts of either broker."""

from datetime import datetime

from huey.constants import EmptyData
from huey.storage import BaseStorage, MemoryStorage

from engine.broker.effects import Effects
from engine.broker.message_header import message_id
from engine.broker.messages import StoredValue
from engine.broker.signing import Place
from engine.broker.storage import (
    DeadLetters,
    Deliveries,
    Events,
    Heartbeats,
    Locks,
    Messages,
    Pauses,
    Results,
    Ticks,
)


class HueyStorage(BaseStorage):
    messages: Messages
    deliveries: Deliveries
    dead_letters: DeadLetters
    results: Results
    locks: Locks
    heartbeats: Heartbeats
    events: Events
    pauses: Pauses
    ticks: Ticks

    blocking = True

    # --- messages --------------------------------------------------------------------------------------------

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        self.messages.write(Effects().enqueue(message_id(data), data, priority))

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        self.messages.write(Effects().enqueue(message_id(data), data, None, ts))

    def queue_size(self) -> int:
        return self.messages.count_waiting()

    def schedule_size(self) -> int:
        return self.messages.count_scheduled()

    def enqueued_items(self, limit: int | None = None) -> list[bytes]:
        return self.messages.waiting(limit)

    def scheduled_items(self, limit: int | None = None) -> list[bytes]:
        return self.messages.scheduled(limit)

    def flush_queue(self) -> None:
        self.messages.delete_waiting()

    def flush_schedule(self) -> None:
        self.messages.delete_scheduled()

    # --- results ---------------------------------------------------------------------------------------------

    # Huey passes what it reads here to the serializer, which needs the key.

    def put_data(self, key: str, value: bytes, is_result: bool = False) -> None:
        self.results.put(key, value, expires=is_result)

    def put_if_empty(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        return self.results.put_new(key, value, ttl)

    def peek_data(self, key: str) -> object:
        value = self.results.get(key)
        return EmptyData if value is None else StoredValue(Place(self.name, key), value)

    #: Reading a result does not delete it. It is kept for its TTL.
    pop_data = peek_data

    def peek_many(self, keys: list[str]) -> dict[str, StoredValue]:
        values = self.results.get_many(keys)
        return {key: StoredValue(Place(self.name, key), value) for key, value in values.items()}

    def has_data_for_key(self, key: str) -> bool:
        return self.results.has(key)

    def wait_result(
        self, key: str, timeout: float | None = None, backoff: float = 1.15, max_delay: float = 1.0
    ) -> bool:
        return self.results.wait(key, timeout)

    def delete_data(self, key: str) -> bool:
        return self.results.delete(key)

    def result_items(self) -> dict[str, bytes]:
        return self.results.all()

    def result_store_size(self) -> int:
        return self.results.count()

    def flush_results(self) -> None:
        self.results.delete_all()

    # --- counters --------------------------------------------------------------------------------------------

    def incr(self, key: str, amount: int = 1) -> int:
        return self.results.increment(key, amount)

    def delete_counter(self, key: str) -> None:
        self.results.delete_counter(key)

    def flush_counters(self) -> None:
        self.results.delete_counters()


class ImmediateStorage(MemoryStorage):
    """Huey's storage of a queue that runs its tasks at once, with the key of each value."""

    def peek_data(self, key: str) -> object:
        return self.with_key(key, super().peek_data(key))

    def pop_data(self, key: str) -> object:
        return self.with_key(key, super().pop_data(key))

    def peek_many(self, keys: list[str]) -> dict[str, object]:
        return {key: value for key in keys if (value := self.peek_data(key)) is not EmptyData}

    def with_key(self, key: str, value: object) -> object:
        return StoredValue(Place(self.name, key), value) if isinstance(value, bytes) else value
