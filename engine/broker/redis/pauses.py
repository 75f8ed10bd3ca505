"""Pauses on Redis."""

from engine.broker.parsing import Info
from engine.broker.pauses import parse_pauses
from engine.broker.redis.client import RedisClient
from engine.broker.signing import Purpose


class RedisPauses:
    def __init__(self, client: RedisClient) -> None:
        self.client = client

    def put(self, target: str, info: Info) -> None:
        entry = self.client.entries.sign(Purpose.PAUSE, target, info)
        self.client.command("HSET", pause_key(target), target, entry)

    def remove(self, target: str) -> bool:
        removed = bool(self.client.command("HDEL", pause_key(target), target))
        self.client.command("LPUSH", "bell", "1")
        return removed

    def all(self) -> dict[str, Info]:
        return parse_pauses(self.client.entries, self.rows())

    def rows(self) -> list[tuple[str, bytes]]:
        return [*self.client.read_hash("pause"), *self.client.read_hash("pause_schedule")]


def pause_key(target: str) -> str:
    """Return the key of a pause. Those of schedules are separate, as the claim script does not need them."""
    return "pause_schedule" if target.startswith("schedule:") else "pause"
