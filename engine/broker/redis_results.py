"""Values on Redis: messages on their way in, results that expire, revocations, counters."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from time import monotonic
from typing import Any, TypeVar

from huey.constants import EmptyData

from engine.broker.effects import Effects, NewMessage
from engine.broker.redis_client import RedisServer, Words
from engine.broker.storage import REVOKED_SECONDS

#: New runs that are stored in one step.
MOST_POSTED = 1000
#: The same of a series, of which more is written while the server works: few at first, so that it begins soon.
FIRST_OF_SERIES, MOST_OF_SERIES = 25, 200

T = TypeVar("T")


class RedisValues(RedisServer):
    """The part of a storage that keeps values under keys."""

    def apply(self, effects: Effects) -> list[str]:
        """Store these in one step; very many new runs in several, for others wait for the server meanwhile.

        Returns the ids under which the runs of its messages go on.
        """
        if is_plain(effects) and all(self.run("quick_post", 0, *words) for words in posts(effects.messages)):
            return [one.run_id for one in effects.messages]
        # What was stored of them already is nothing new.
        return [run_id.decode() for run_id in self.run("apply", *self.flat(effects))]

    def post_series(self, messages: Iterable[tuple[str, bytes]], priority: float) -> None:
        """Store messages of runs that nobody has seen before, a part at a time: for so long others wait."""
        self.run_each("quick_post", ((1, priority, 1, *chain(*part)) for part in growing_parts(messages)))

    def flat(self, effects: Effects) -> list[Any]:
        messages = [(*one[:3], one.due or "", *one[4:-1], int(one.told)) for one in effects.messages]
        results = [(key, data, self.result_ttl) for key, data in effects.results]
        events = [(event,) for event in effects.events]
        return [
            one for part in (messages, results, events) for one in (len(part), *(word for row in part for word in row))
        ]

    def put_data(self, key: str, value: bytes, is_result: bool = False) -> None:
        if is_result:
            self.apply(Effects().result(key, value))
        else:
            self.ask("SET", f"kv:{key}", value)

    def peek_data(self, key: str) -> Any:
        value = self.ask("GET", f"kv:{key}")
        return EmptyData if value is None else value

    #: A result stays for its whole life, however often it is read.
    pop_data = peek_data

    def peek_many(self, keys: list[str]) -> dict[str, bytes]:
        with self.reaching() as redis:
            values: list[Any] = redis.mget([f"{self.prefix}kv:{key}" for key in keys])
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def has_data_for_key(self, key: str) -> bool:
        return bool(self.ask("EXISTS", f"kv:{key}"))

    def delete_data(self, key: str) -> bool:
        return bool(self.ask("DEL", f"kv:{key}"))

    def put_if_empty(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        life = ("PX", int(ttl * 1000)) if ttl else ()
        return bool(self.ask("SET", f"kv:{key}", value, "NX", *life))

    def revoke(self, run_id: str, data: bytes) -> None:
        self.run("revoke", run_id, data, max(self.result_ttl, REVOKED_SECONDS))

    def remove_expired(self) -> int:
        """Remove revocations that older versions left of runs that have ended. The rest the server removes itself."""
        ids = self.stored("kv:r:")
        parts = (ids[start : start + MOST_POSTED] for start in range(0, len(ids), MOST_POSTED))
        return sum(int(self.run("forget_revocations", *part)) for part in parts)

    def wait_result(
        self, key: str, timeout: float | None = None, backoff: float = 1.15, max_delay: float = 1.0
    ) -> bool:
        """Whoever stores the result rings for those who have said that they wait."""
        deadline = None if timeout is None else monotonic() + timeout
        waits, bell = f"{self.prefix}waits:{key}", f"{self.prefix}done:{key}"
        while True:
            left = 1.0 if deadline is None else min(1.0, deadline - monotonic())
            with self.reaching() as redis:
                redis.set(waits, "1", ex=60)
                if self.has_data_for_key(key):
                    return True
                if left <= 0:
                    return False
                if redis.blpop([bell], timeout=max(left, 0.01)):
                    redis.lpush(bell, "1")  # for whoever waits beside us
                    redis.expire(bell, 60)

    def incr(self, key: str, amount: int = 1) -> int:
        return int(self.ask("INCRBY", f"counter:{key}", amount))

    def delete_counter(self, key: str) -> None:
        self.ask("DEL", f"counter:{key}")

    def result_items(self) -> dict[str, bytes]:
        items = {key: self.peek_data(key) for key in self.stored("kv:")}
        return {key: value for key, value in items.items() if value is not EmptyData}

    def result_store_size(self) -> int:
        return len(self.stored("kv:"))

    def stored(self, kind: str) -> list[str]:
        with self.reaching() as redis:
            prefix = self.prefix + kind
            return [key.decode().removeprefix(prefix) for key in redis.scan_iter(match=f"{prefix}*", count=1000)]

    def flush_results(self) -> None:
        for key in self.stored("kv:"):
            self.delete_data(key)

    def flush_counters(self) -> None:
        for key in self.stored("counter:"):
            self.delete_counter(key)


def is_plain(effects: Effects) -> bool:
    """Nothing but runs of one priority that are to begin at once."""
    others = any(one.due or one.unique or one.once or one.delivered for one in effects.messages)
    alike = len({(one.priority, one.told) for one in effects.messages}) == 1
    return alike and not (others or effects.results or effects.events)


def posts(messages: list[NewMessage]) -> Iterator[Words]:
    """The words of `quick_post`, for as many at a time as it takes."""
    for start in range(0, len(messages), MOST_POSTED):
        part = messages[start : start + MOST_POSTED]
        yield part[0].priority, int(part[0].told), *chain(*((one.run_id, one.data) for one in part))


def growing_parts(rows: Iterable[T]) -> Iterator[list[T]]:
    """A small part comes first, so that the server has work soon."""
    rest, size = iter(rows), FIRST_OF_SERIES
    while part := list(islice(rest, size)):
        yield part
        size = min(2 * size, MOST_OF_SERIES)
