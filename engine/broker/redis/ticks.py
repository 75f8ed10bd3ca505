"""Ticks of scheduled tasks on Redis."""

from engine.broker.effects import Effects
from engine.broker.parsing import parse_ticks
from engine.broker.redis.client import RedisClient
from engine.broker.redis.encoding import encode_effects


class RedisTicks:
    def __init__(self, client: RedisClient, result_ttl: int) -> None:
        self.client, self.result_ttl = client, result_ttl

    def record(self, task: str, minute: int, effects: Effects) -> bool:
        args = encode_effects(effects, self.result_ttl, self.client.entries)
        return bool(self.client.run_script("record_tick", task, minute, *args))

    def last(self) -> dict[str, int]:
        return parse_ticks(self.client.queue, self.client.read_hash("ticks"))
