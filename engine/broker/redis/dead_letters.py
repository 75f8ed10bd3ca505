"""Dead letters on Redis."""

from typing import Any

from engine.broker.parsing import clamp_timestamp, decode
from engine.broker.redis.client import RedisClient


class RedisDeadLetters:
    def __init__(self, client: RedisClient, result_ttl: int) -> None:
        self.client, self.result_ttl = client, result_ttl

    def all(self, limit: int = 1000) -> list[tuple[str, bytes]]:
        ids = [decode(run_id) for run_id in self.client.command("ZREVRANGE", "dead", 0, limit - 1)]
        return [(run_id, self.client.command("HGET", f"run:{run_id}", "message") or b"") for run_id in ids]

    def ids(self, limit: int, before: tuple[float, str] | None = None) -> list[tuple[str, float]]:
        key, top = self.client.prefix + "dead", "+inf" if before is None else repr(before[0])
        with self.client.translate_errors() as redis:
            ties = 0 if before is None else redis.zcount(key, top, top)
            rows: Any = redis.zrevrangebyscore(key, top, "-inf", 0, limit + ties, withscores=True)
        letters = [(decode(run_id), clamp_timestamp(at)) for run_id, at in rows]
        return [(run_id, at) for run_id, at in letters if before is None or (at, run_id) < before][:limit]

    def count(self) -> int:
        return int(self.client.command("ZCARD", "dead"))

    def requeue(self, run_id: str) -> bool:
        return bool(self.client.run_script("requeue_dead", *self.client.entries.sign_events("requeued", [run_id])))

    def discard(self, run_id: str) -> bool:
        return bool(self.client.run_script("discard_dead", run_id, self.result_ttl))
