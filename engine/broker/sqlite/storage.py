"""The storage of one queue in a SQLite file."""

import time
from pathlib import Path

from engine.broker.huey_storage import HueyStorage
from engine.broker.messages import SignedJSON
from engine.broker.signed_entries import SignedEntries
from engine.broker.sqlite import claims, events, heartbeats, locks, messages, pauses, results, ticks
from engine.broker.sqlite.database import SqliteFile, rollback_interrupted
from engine.broker.sqlite.dead_letters import SqliteDeadLetters
from engine.broker.sqlite.deliveries import SqliteDeliveries
from engine.broker.sqlite.events import SqliteEvents
from engine.broker.sqlite.heartbeats import SqliteHeartbeats
from engine.broker.sqlite.locks import SqliteLocks
from engine.broker.sqlite.messages import SqliteMessages
from engine.broker.sqlite.pauses import SqlitePauses
from engine.broker.sqlite.results import SqliteResults
from engine.broker.sqlite.ticks import SqliteTicks
from engine.broker.storage import BrokerAddress

SCHEMA = "".join(part.SCHEMA for part in (results, ticks, pauses, locks, heartbeats, events, messages, claims))


class SqliteStorage(HueyStorage):
    results: SqliteResults

    def __init__(
        self,
        name: str,
        path: Path,
        result_ttl: int,
        read_timeout: float = 1.0,
        serializer: SignedJSON | None = None,
    ) -> None:
        super().__init__(name)
        self.entries = SignedEntries(name, serializer)
        self.database = database = SqliteFile(name, path, SCHEMA, {"message": claims.ADDED_COLUMNS}, self.entries)
        self.results = SqliteResults(database, result_ttl)
        self.events = SqliteEvents(database, self.results)
        self.messages = SqliteMessages(database, self.results, self.events)
        self.deliveries = SqliteDeliveries(database, self.messages, read_timeout)
        self.dead_letters = SqliteDeadLetters(database, self.messages)
        self.locks = SqliteLocks(database)
        self.heartbeats = SqliteHeartbeats(database)
        self.pauses = SqlitePauses(database)
        self.ticks = SqliteTicks(database, self.messages)

    def address(self) -> BrokerAddress:
        return BrokerAddress("sqlite", str(self.database.path))

    def close(self) -> bool:
        return self.database.close()

    def probe_write(self, seconds: float) -> None:
        with self.database.single_connection(seconds) as connection:
            self.results.write(connection, "probe", b"1", time.time() + 60)

    def rollback_interrupted(self) -> None:
        rollback_interrupted(self.database.connection)

    def clock(self) -> float:
        return time.time()

    def warnings(self) -> list[str]:
        """Return none: an embedded file has no such risks."""
        return []
