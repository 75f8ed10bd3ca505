"""Results on Redis, which expire on the server, revocations and counters."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from redis.exceptions import ResponseError

from engine.broker.effects import Effects
from engine.broker.redis.client import RedisClient
from engine.broker.redis.encoding import MAX_NEW_RUNS
from engine.broker.redis.messages import RedisMessages
from engine.broker.storage import REVOKED_SECONDS


class RedisResults:
    def __init__(self, client: RedisClient, messages: RedisMessages, result_ttl: int) -> None:
        self.client, self.messages, self.result_ttl = client, messages, result_ttl

    def put(self, key: str, value: bytes, expires: bool = False) -> None:
        if expires:
            self.messages.write(Effects().result(key, value))
        else:
            self.client.command("SET", f"kv:{key}", value)

    def put_new(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        expiry = ("PX", int(ttl * 1000)) if ttl else ()
        return bool(self.client.command("SET", f"kv:{key}", value, "NX", *expiry))

    def revoke(self, run_id: str, data: bytes) -> None:
        self.client.run_script("revoke", run_id, data, max(self.result_ttl, REVOKED_SECONDS))

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self.client.command("GET", f"kv:{key}")
        return value

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        with self.client.translate_errors() as redis:
            values: Sequence[Any] = redis.mget([f"{self.client.prefix}kv:{key}" for key in keys])
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def all(self) -> dict[str, bytes]:
        values = {key: self.get(key) for key in self.client.keys("kv:")}
        return {key: value for key, value in values.items() if value is not None}

    def count(self) -> int:
        return len(self.client.keys("kv:"))

    def has(self, key: str) -> bool:
        return bool(self.client.command("EXISTS", f"kv:{key}"))

    def wait(self, key: str, timeout: float | None = None) -> bool:
        """Wait for a result. The step that stores it wakes clients that have set the `waits` key."""
        deadline = None if timeout is None else monotonic() + timeout
        waits, bell = f"{self.client.prefix}waits:{key}", f"{self.client.prefix}done:{key}"
        while True:
            left = 1.0 if deadline is None else min(1.0, deadline - monotonic())
            with self.client.translate_errors() as redis:
                redis.set(waits, "1", ex=60)
                if self.has(key):
                    return True
                if left <= 0:
                    return False
                if redis.blpop([bell], timeout=max(left, 0.01)):
                    redis.lpush(bell, "1")  # for other clients that wait for it
                    redis.expire(bell, 60)

    def delete(self, key: str) -> bool:
        return bool(self.client.command("DEL", f"kv:{key}"))

    def delete_expired(self) -> int:
        """Delete revocations of ended runs, left by older versions. The server expires the rest itself."""
        ids = self.client.keys("kv:r:")
        parts = (ids[start : start + MAX_NEW_RUNS] for start in range(0, len(ids), MAX_NEW_RUNS))
        return sum(int(self.client.run_script("delete_revocations", *part)) for part in parts)

    def delete_all(self) -> None:
        for key in self.client.keys("kv:"):
            self.delete(key)

    def increment(self, counter: str, amount: int = 1) -> int:
        """A counter that is no number, or would become too large, begins at zero."""
        try:
            return int(self.client.command("INCRBY", f"counter:{counter}", amount))
        except ResponseError:
            self.delete_counter(counter)
            return int(self.client.command("INCRBY", f"counter:{counter}", amount))

    def delete_counter(self, counter: str) -> None:
        self.client.command("DEL", f"counter:{counter}")

    def delete_counters(self) -> None:
        for counter in self.client.keys("counter:"):
            self.delete_counter(counter)
