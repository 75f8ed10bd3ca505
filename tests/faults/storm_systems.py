"""The two systems that the storms compare: Dewey, and stock Huey with its consumer on the same broker."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import stock_huey
import storm_queue
from consumers import KEY
from databases import bound_to_library
from peewee import fn
from redis.exceptions import RedisError
from refusing_redis import RefusingRedis
from rejecting_rows import refuse_rows
from servers import RedisServer
from systems import System

from engine.broker.effects import Effects
from engine.broker.messages import SignedJSON
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.exceptions import BrokerUnavailable
from engine.models import Attempt, RejectedEvent, Run, State

LEASE_SECONDS = 2
RESULT_TTL = 600


class Dewey(System):
    """Dewey, with the broker and database of this process."""

    name, address = "Dewey", "storm_queue.faults"
    attendants = 1
    queue, tasks = storm_queue.faults, storm_queue.tasks

    def __init__(self, folder: Path, broker: RedisServer | None, database_url: str, **settings: str) -> None:
        super().__init__(folder, broker, **settings)
        self.settings = {
            "DATA_DIR": str(folder),
            "DATABASE_URL": database_url,
            "REDIS_URL": broker.url if broker else "",
            "SECRET_KEY": KEY,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "UNKNOWN_TASK_GRACE": "2",
            **settings,
        }

    def open(self) -> None:
        self.stack.callback(self.put_back, self.queue.storage, self.queue.serializer)
        self.queue.serializer = SignedJSON(KEY)
        self.queue.storage = (
            RedisStorage("faults", self.broker.url, RESULT_TTL, serializer=self.queue.serializer)
            if self.broker
            else SqliteStorage("faults", self.folder / "queue.db", RESULT_TTL, serializer=self.queue.serializer)
        )
        self.stack.enter_context(bound_to_library(self.settings["DATABASE_URL"]))

    def put_back(self, storage: Any, serializer: Any) -> None:
        self.queue.storage.close()
        self.queue.storage, self.queue.serializer = storage, serializer

    def enqueue(self, tasks: list[Any]) -> None:
        self.queue.enqueue_many(tasks)
        self.accepted += [task.id for task in tasks]

    def put_unreadable(self) -> list[str]:
        """Enqueue garbage, a message with another key's signature, and one for a task unknown to the consumers."""
        self.queue.storage.messages.write(Effects().enqueue("garbage", b"garbage"))
        self.queue.serializer = SignedJSON("x" * 40)
        forged = self.tasks.die()
        self.queue.serializer = SignedJSON(KEY)
        renamed = self.queue.task(name="renamed")(lambda: None)
        unknown = renamed()
        renamed.unregister()
        self.forged.add(forged.id)
        return ["garbage", forged.id, unknown.id]

    def refuse_rows(self, one_in: int) -> None:
        """Make the database refuse the rows of this many accepted runs."""
        self.refused = set(self.accepted[one_in // 2 :: one_in])
        refuse_rows(self.refused)

    def unfinished(self) -> int:
        try:
            return (
                int(self.queue.storage.messages.count_waiting())
                + self.scheduled()
                + len(self.queue.storage.deliveries.held())
            )
        except BrokerUnavailable:
            return 1

    # --- stored rows -----------------------------------------------------------------------------------------

    def dead(self) -> set[str]:
        return {run.id for run in Run.select(Run.id).where(Run.state == State.DEAD)}

    def recorded(self, states: Iterable[str]) -> int:
        """Count the runs with one of these states."""
        return int(Run.select(fn.COUNT(Run.id)).where(Run.state.in_(list(states))).scalar())

    def rejected(self) -> dict[str | None, set[str | None]]:
        """Return the kinds of rejected events, by run."""
        kinds: dict[str | None, set[str | None]] = {}
        for event in RejectedEvent.select():
            kinds.setdefault(event.run_id, set()).add(event.kind)
        return kinds

    def runs(self) -> dict[str, Run]:
        """Return the rows of the accepted runs."""
        return {run.id: run for run in Run.select().where(Run.id.in_(self.accepted))}

    def story(self, run_id: str) -> str:
        """Return the outcome of each delivery of a run, for diagnosis."""
        deliveries = Attempt.select().where(Attempt.run_id == run_id).order_by(Attempt.number)
        return "; ".join(
            f"{attempt.started_at:%T.%f}–{attempt.ended_at:%T.%f} {attempt.worker}: {attempt.error}"
            for attempt in deliveries
        )

    def attempts(self, run_id: str) -> list[str]:
        """Return the states of a run's deliveries, first to last."""
        return [attempt.state for attempt in Attempt.select().where(Attempt.run_id == run_id).order_by(Attempt.number)]


def create_dewey(request: Any, folder: Path, **settings: str) -> Dewey:
    """Create Dewey on a broker.

    `sqlite` uses SQLite alone. `redis` uses PostgreSQL and a Redis that syncs every write. `refusing` adds a proxy that
    refuses commands.
    """
    if request.param == "sqlite":
        return Dewey(folder, None, f"sqlite:///{folder}/dewey.db", **settings)
    server = RefusingRedis(folder) if request.param == "refusing" else RedisServer(folder)
    return Dewey(folder, server, request.getfixturevalue("postgresql_library"), **settings)


class StockHuey(System):
    """Stock Huey at its best settings: it checks for dead workers, and polls an empty SQLite queue, each second."""

    name, address = "Huey", "stock_huey.huey"
    consumer_options = ("-c", "1", "-m", "1")
    attendants = 1

    def open(self) -> None:
        broker = self.broker.url if self.broker else str(self.folder / "stock.db")
        self.queue, self.tasks = stock_huey.build(broker)
        self.settings = {"FAULTS_STOCK_BROKER": broker, **self.settings}

    def put_unreadable(self) -> list[str]:
        self.queue.storage.enqueue(b"garbage")
        return ["garbage", self.queue.task(name="renamed")(lambda: None)().id]

    def unfinished(self) -> int:
        try:
            return int(self.queue.storage.messages.count_waiting()) + self.scheduled()
        except RedisError:
            return 1
