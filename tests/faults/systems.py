"""What a storm breaks upon: Dewey's queue or stock Huey's, on Redis or SQLite, with its consumers."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import stock
from consumers import ROOT, Consumer
from databases import bound_to
from ledger import Ledger, lives
from peewee import fn
from redis.exceptions import ConnectionError as Unreachable
from served import die, faults, work
from servers import RedisServer
from waiting import wait_until

from engine.delivery import Effects
from engine.messages import SignedJSON
from engine.migrations import migrate
from engine.queues import BrokerAway
from engine.records import Attempt, Run, State
from engine.redis_delivery import RedisDelivery
from engine.sqlite_delivery import SqliteDelivery

KEY = "k" * 40
HERE = Path(__file__).parent
LEASE_SECONDS = 2
#: For how long nothing must wait or run before a system counts as being at rest.
REST_SECONDS = 2.0


class Hit(NamedTuple):
    """A process that was killed or frozen while it worked on a run, and when (Unix seconds)."""

    run_id: str
    pid: int
    at: float


class System:
    """The queue as a storm sees it. `accepted`: the runs that the broker took; `poison`: those that must end as dead."""

    name: str
    served: str
    work: Any
    die: Any
    storage: Any
    consumer_options: tuple[str, ...] = ()

    def __init__(self, folder: Path, broker: RedisServer | None, database_url: str, **settings: str) -> None:
        self.folder, self.broker, self.database_url, self.settings = folder, broker, database_url, settings
        self.ledger = Ledger(folder / "ledger")
        self.accepted: list[str] = []
        self.poison: set[str] = set()
        self.hits: list[Hit] = []
        self.kills = 0  # those that hit
        self.struck = 0  # worker processes that were killed or frozen
        self.waited: list[float] = []  # from the return of a broker to the first start
        self.running: list[Consumer] = []
        self.family: set[psutil.Process] = set()
        self.started = 0
        self.busy_at = 0.0
        self.stack = ExitStack()

    @property
    def title(self) -> str:
        return f"{self.name} on {'Redis' if self.broker else 'SQLite'}"

    def __enter__(self) -> "System":
        if self.broker:
            self.broker.start()
            self.stack.callback(self.broker.kill)
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.remember()
        for process in self.family:
            if lives(process):
                process.kill()
        for consumer in self.running:
            consumer.process.wait()
        self.stack.close()

    def open(self) -> None:
        raise NotImplementedError

    # --- enqueuing -------------------------------------------------------------------------------------------

    def put(self, count: int, seconds: float) -> None:
        self.accepted += [self.work(str(self.ledger.path), seconds).id for _ in range(count)]

    def put_due(self, count: int, at: float) -> None:
        """Runs that all fall due at one instant (Unix seconds)."""
        eta = datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
        words = (str(self.ledger.path), 0.0)
        self.accepted += [self.work.schedule(args=words, eta=eta).id for _ in range(count)]

    def put_poison(self, count: int) -> None:
        """Runs that kill their worker each time, and messages that nobody can run."""
        bad = [*(self.die().id for _ in range(count)), *self.put_unreadable()]
        self.poison |= set(bad)
        self.accepted += bad

    def put_unreadable(self) -> list[str]:
        raise NotImplementedError

    # --- consumers -------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, (ROOT, HERE.parent, HERE)))
        return {"PYTHONPATH": path, "FAULTS_LEDGER": str(self.ledger.path), **self.settings}

    def start(self, *options: str, workers: int = 2) -> Consumer:
        """One more consumer, up. Without `-n` it runs the periodic task too."""
        self.started += 1
        log = self.folder / f"consumer-{self.started}.log"
        words = ("-k", "process", "-w", str(workers), *self.consumer_options, *options)
        consumer = Consumer(self.served, *words, environment=self.environment(), log=log)
        self.running.append(consumer)
        consumer.logged("commands are available")
        return consumer

    def children(self, consumer: Consumer) -> list[psutil.Process]:
        """Oldest first: the scheduler, then the workers, unless one was replaced."""
        return sorted(consumer.children(), key=lambda one: (one.create_time(), one.pid))

    def remember(self) -> None:
        """Who belongs to the consumers, so that it can be told later who outlived them."""
        for consumer in self.running:
            if consumer.process.poll() is None:
                self.family |= {psutil.Process(consumer.pid), *consumer.children()}

    def kill(self, consumer: Consumer, whole: bool = True) -> None:
        """`kill -9` a consumer, the whole tree or the parent alone."""
        self.remember()
        if whole:
            os.killpg(consumer.pid, signal.SIGKILL)
        else:
            os.kill(consumer.pid, signal.SIGKILL)
        consumer.process.wait()
        self.running.remove(consumer)

    def stop(self, consumer: Consumer) -> int:
        """SIGTERM; gives the exit code."""
        self.remember()
        code = consumer.stop()
        self.running.remove(consumer)
        return code

    def survivors(self, within: float = 5.0) -> int:
        """How many processes live on whose parent is gone."""
        parents = {consumer.pid for consumer in self.running}
        orphans = lambda: [one for one in self.family if lives(one) and not {one.pid, one.ppid()} & parents]  # noqa: E731
        with suppress(AssertionError):
            wait_until(lambda: not orphans(), within)
        return len(orphans())

    # --- what is left ----------------------------------------------------------------------------------------

    def unfinished(self) -> int:
        """Messages that wait, are scheduled or held."""
        raise NotImplementedError

    def scheduled(self) -> int:
        return int(self.storage.schedule_size())

    def dead(self) -> set[str]:
        return set()

    def is_done(self) -> bool:
        """Whether all is at rest: every run has ended, or nothing has happened for a while and nothing will."""
        busy = self.ledger.busy()
        missing = set(self.accepted) - self.ledger.ends.keys() - self.poison
        if busy or self.unfinished():
            self.busy_at = time.monotonic()
            return False
        return not missing or time.monotonic() - self.busy_at > REST_SECONDS

    def drain(self, within: float) -> None:
        """Wait until it is done; what has not ended in time will be missing from the ledger."""
        self.busy_at = time.monotonic()
        with suppress(AssertionError):
            wait_until(self.is_done, within)


class Ours(System):
    """Dewey. Database and broker are shared with this process."""

    name, served, work, die = "Dewey", "served.faults", staticmethod(work), staticmethod(die)

    def open(self) -> None:
        redis_url, result_ttl = self.broker.url if self.broker else "", 600
        self.storage = (
            RedisDelivery("faults", redis_url, result_ttl)
            if self.broker
            else SqliteDelivery("faults", self.folder / "queue.db", result_ttl)
        )
        before = faults.storage, faults.serializer
        faults.storage, faults.serializer = self.storage, SignedJSON(KEY)
        self.stack.callback(self.put_back, *before)
        self.stack.enter_context(bound_to(self.database_url))
        migrate()
        self.settings = {
            "DATA_DIR": str(self.folder),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": redis_url,
            "SECRET_KEY": KEY,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            **self.settings,
        }

    def put_back(self, storage: Any, serializer: Any) -> None:
        self.storage.close()
        faults.storage, faults.serializer = storage, serializer

    def put_unreadable(self) -> list[str]:
        """Garbage, a message under another key, and one for a task that the consumers do not know."""
        self.storage.apply(Effects().enqueue("garbage", b"garbage", None))
        key, faults.serializer = faults.serializer, SignedJSON("x" * 40)
        forged = work(str(self.ledger.path)).id
        faults.serializer = key
        return ["garbage", forged, faults.task(name="renamed")(lambda: None)().id]

    def unfinished(self) -> int:
        try:
            return int(self.storage.queue_size()) + self.scheduled() + len(self.storage.held())
        except BrokerAway:
            return 1

    def held(self) -> int:
        return len(self.storage.held())

    def dead(self) -> set[str]:
        return {run.id for run in Run.select(Run.id).where(Run.state == State.DEAD)}

    def recorded(self, states: Iterable[str]) -> int:
        """How many runs have one of these states on record."""
        return int(Run.select(fn.COUNT(Run.id)).where(Run.state.in_(list(states))).scalar())

    def runs(self, ids: Iterable[str]) -> dict[str, Run]:
        return {run.id: run for run in Run.select().where(Run.id.in_(list(ids)))}

    def attempts(self, run_id: str) -> list[str]:
        """The states of a run's deliveries, first to last."""
        return [one.state for one in Attempt.select().where(Attempt.run_id == run_id).order_by(Attempt.number)]


class Stock(System):
    """Stock Huey with its own consumer, at its kindest: it looks after dead workers, and into the file, each second."""

    name, served = "Huey", "stock.huey"
    consumer_options = ("-c", "1", "-m", "1")

    def open(self) -> None:
        broker = self.broker.url if self.broker else str(self.folder / "stock.db")
        self.huey, deeds = stock.build(broker)
        self.work, self.die, self.storage = deeds.work, deeds.die, self.huey.storage
        self.settings = {"FAULTS_STOCK_BROKER": broker, **self.settings}

    def put_unreadable(self) -> list[str]:
        self.storage.enqueue(b"garbage")
        return ["garbage", self.huey.task(name="renamed")(lambda: None)().id]

    def unfinished(self) -> int:
        try:
            return int(self.storage.queue_size()) + self.scheduled()
        except Unreachable:
            return 1
