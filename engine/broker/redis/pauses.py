"""Pauses on Redis."""

import json

from engine.broker.parsing import Info, parse_pauses
from engine.broker.redis.client import RedisClient


class RedisPauses:
    def __init__(self, client: RedisClient) -> None:
        self.client = client

    def put(self, target: str, info: Info) -> None:
        self.client.command("HSET", pause_key(target), target, json.dumps(info))

    def remove(self, target: str) -> bool:
        removed = bool(self.client.command("HDEL", pause_key(target), target))
        self.client.command("LPUSH", "bell", "1")
        return removed

    def all(self) -> dict[str, Info]:
        pauses = (*self.client.read_hash("pause"), *self.client.read_hash("pause_schedule"))
        return parse_pauses(self.client.queue, pauses)


def pause_key(target: str) -> str:
    """Return the key of a pause. Those of schedules are separate, as the claim script does not need them."""
    return "pause_schedule" if target.startswith("schedule:") else "pause"
