"""The storage of one queue on Redis."""

from engine.broker.huey_storage import HueyStorage
from engine.broker.messages import SignedJSON
from engine.broker.redis.client import RedisClient
from engine.broker.redis.dead_letters import RedisDeadLetters
from engine.broker.redis.deliveries import RedisDeliveries
from engine.broker.redis.events import RedisEvents
from engine.broker.redis.heartbeats import RedisHeartbeats
from engine.broker.redis.locks import RedisLocks
from engine.broker.redis.messages import RedisMessages
from engine.broker.redis.pauses import RedisPauses
from engine.broker.redis.results import RedisResults
from engine.broker.redis.ticks import RedisTicks
from engine.broker.signed_entries import SignedEntries
from engine.broker.storage import BrokerAddress


class RedisStorage(HueyStorage):
    def __init__(
        self,
        name: str,
        url: str,
        result_ttl: int,
        read_timeout: float = 1.0,
        serializer: SignedJSON | None = None,
    ) -> None:
        super().__init__(name)
        self.entries = SignedEntries(name, serializer)
        self.client = client = RedisClient(name, url, self.entries)
        self.messages = RedisMessages(client, result_ttl)
        self.deliveries = RedisDeliveries(client, result_ttl, read_timeout)
        self.dead_letters = RedisDeadLetters(client, result_ttl)
        self.results = RedisResults(client, self.messages, result_ttl)
        self.locks = RedisLocks(client)
        self.heartbeats = RedisHeartbeats(client)
        self.events = RedisEvents(client, self.results)
        self.pauses = RedisPauses(client)
        self.ticks = RedisTicks(client, result_ttl)

    def address(self) -> BrokerAddress:
        return self.client.address()

    def close(self) -> bool:
        self.client.close()
        return True

    def probe_write(self, seconds: float) -> None:
        self.client.probe_write()

    def rollback_interrupted(self) -> None:
        self.client.drop_interrupted()

    def clock(self) -> float:
        return self.client.clock()

    def warnings(self) -> list[str]:
        return self.client.warnings()
