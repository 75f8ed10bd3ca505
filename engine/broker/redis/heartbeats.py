"""Heartbeats of consumers on Redis."""

from engine.broker.heartbeats import Heartbeat, parse_heartbeats
from engine.broker.parsing import Info, decode
from engine.broker.redis.client import RedisClient
from engine.broker.signing import Purpose


class RedisHeartbeats:
    def __init__(self, client: RedisClient) -> None:
        self.client = client

    def record(self, consumer: str, info: Info) -> None:
        entry = self.client.entries.sign(Purpose.HEARTBEAT, consumer, info)
        self.client.run_script("record_heartbeat", consumer, entry)

    def remove(self, consumer: str) -> None:
        self.client.run_script("remove_heartbeat", consumer)

    def all(self) -> list[Heartbeat]:
        prefix = self.client.prefix
        with self.client.translate_errors() as redis:
            pipe = redis.pipeline(transaction=False)
            pipe.hgetall(prefix + "beats")
            pipe.zrange(prefix + "beat_at", 0, -1, withscores=True)
            infos, times = pipe.execute()
        rows = [(decode(consumer), at, infos[consumer]) for consumer, at in times if consumer in infos]
        return parse_heartbeats(self.client.entries, rows)
