"""Locks on Redis."""

from engine.broker.parsing import parse_locks
from engine.broker.redis.client import RedisClient


class RedisLocks:
    def __init__(self, client: RedisClient) -> None:
        self.client = client

    def acquire(self, name: str, owner: str, consumer: str, worker: str, seconds: float | None, lease: float) -> bool:
        return bool(self.client.run_script("acquire_lock", name, owner, consumer, worker, seconds or "", lease))

    def release(self, name: str, owner: str = "") -> bool:
        return bool(self.client.run_script("release_lock", name, owner))

    def all(self) -> dict[str, tuple[str, str, str]]:
        return parse_locks(self.client.queue, self.client.read_hash("locks"))
