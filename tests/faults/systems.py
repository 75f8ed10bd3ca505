"""The base of a system under test: a queue on a broker, and its consumers. `storm_systems` has both systems."""

import os
import signal
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from consumers import ROOT, ConsumerProcess
from delivery_log import DeliveryLog, is_alive
from servers import RedisServer
from storm_tasks import StormTasks
from waiting import wait_until

HERE = Path(__file__).parent
#: Seconds without a waiting or running task after which a system is at rest.
REST_SECONDS = 2.0


class Hit(NamedTuple):
    """A process that was killed or frozen while it worked on a run, and the time (Unix seconds)."""

    run_id: str
    pid: int
    at: float


class System:
    """The queue of a storm. `accepted`: runs that the broker accepted. `poison`: runs that must end dead."""

    name: str
    address: str
    consumer_options: tuple[str, ...] = ()
    attendants: int  # children of a consumer beside its workers
    tasks: StormTasks
    queue: Any

    def __init__(self, folder: Path, broker: RedisServer | None, **settings: str) -> None:
        self.folder, self.broker, self.settings = folder, broker, settings
        self.delivery_log = DeliveryLog(folder / "ledger")
        self.accepted: list[str] = []
        self.poison: set[str] = set()
        self.refused: set[str] = set()  # runs whose rows the database refuses
        self.forged: set[str] = set()  # runs with a message that another key signed
        self.hits: list[Hit] = []
        self.kills = 0  # kills that hit a busy worker
        self.struck = 0  # worker processes that were killed or frozen
        self.downs: list[float] = []  # times at which a consumer was killed (Unix seconds)
        self.waited: list[float] = []  # from the return of a broker to the first start
        self.running: list[ConsumerProcess] = []
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
            if is_alive(process):
                process.kill()
        for consumer in self.running:
            consumer.process.wait()
        self.stack.close()

    def open(self) -> None:
        """Connect `queue` to the running broker."""
        raise NotImplementedError

    # --- enqueuing -------------------------------------------------------------------------------------------

    def put(self, count: int, seconds: float) -> None:
        self.enqueue([self.tasks.work.s(str(self.delivery_log.path), seconds) for _ in range(count)])

    def put_due(self, count: int, at: float) -> None:
        """Enqueue runs that all fall due at one instant (Unix seconds)."""
        eta = datetime.fromtimestamp(at, UTC)
        self.enqueue([self.tasks.work.s(str(self.delivery_log.path), eta=eta) for _ in range(count)])

    def put_poison(self, count: int) -> None:
        """Enqueue runs that kill their worker each time, and messages that cannot run."""
        before = len(self.accepted)
        self.enqueue([*(self.tasks.die.s() for _ in range(count)), self.tasks.vanish.s()])
        self.accepted += self.put_unreadable()
        self.poison |= set(self.accepted[before:])

    def enqueue(self, tasks: list[Any]) -> None:
        for task in tasks:
            self.queue.enqueue(task)
            self.accepted.append(task.id)

    def put_unreadable(self) -> list[str]:
        raise NotImplementedError

    # --- consumers -------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, (ROOT, HERE.parent, HERE)))
        return {"PYTHONPATH": path, "FAULTS_LEDGER": str(self.delivery_log.path), **self.settings}

    def start(self, *options: str, workers: int = 2) -> ConsumerProcess:
        """Start one more consumer and wait for it. Without `-n` it runs the periodic task too."""
        self.started += 1
        log = self.folder / f"consumer-{self.started}.log"
        words = ("-k", "process", "-w", str(workers), *self.consumer_options, *options)
        consumer = ConsumerProcess(self.address, *words, environment=self.environment(), log=log)
        self.running.append(consumer)
        consumer.logged("commands are available")
        wait_until(lambda: len(consumer.children()) == workers + self.attendants)
        return consumer

    def children(self, consumer: ConsumerProcess) -> list[psutil.Process]:
        """Return the children, oldest first: the scheduler, then the workers, unless one was replaced."""
        return sorted(consumer.children(), key=lambda process: (process.create_time(), process.pid))

    def remember(self) -> None:
        """Record the children of the consumers, so that survivors can be found later."""
        for consumer in self.running:
            if consumer.process.poll() is None:
                self.family |= {psutil.Process(consumer.pid), *consumer.children()}

    def kill(self, consumer: ConsumerProcess, whole: bool = True) -> None:
        """Send SIGKILL to a consumer, the whole tree or the parent alone."""
        self.remember()
        self.downs.append(time.time())
        if whole:
            os.killpg(consumer.pid, signal.SIGKILL)
        else:
            os.kill(consumer.pid, signal.SIGKILL)
        consumer.process.wait()
        self.running.remove(consumer)

    def stop(self, consumer: ConsumerProcess) -> int:
        """Send SIGTERM. Return the exit code."""
        self.remember()
        code = consumer.stop()
        self.running.remove(consumer)
        return code

    def survivors(self, within: float = 5.0) -> int:
        """Count the live processes whose parent has ended."""
        parents = {consumer.pid for consumer in self.running}

        def orphans() -> list[psutil.Process]:
            return [
                process for process in self.family if is_alive(process) and not {process.pid, process.ppid()} & parents
            ]

        with suppress(AssertionError):
            wait_until(lambda: not orphans(), within)
        return len(orphans())

    # --- remaining work --------------------------------------------------------------------------------------

    def unfinished(self) -> int:
        """Count the messages that wait, are scheduled or held."""
        raise NotImplementedError

    def scheduled(self) -> int:
        return int(self.queue.storage.messages.count_scheduled())

    def dead(self) -> set[str]:
        return set()

    def is_at_rest(self) -> bool:
        """Return true if every run has ended, or if nothing has changed for a while."""
        if self.delivery_log.busy() or self.unfinished():
            self.busy_at = time.monotonic()
            return False
        missing = set(self.accepted) - self.delivery_log.ends.keys() - self.poison
        return not missing or time.monotonic() - self.busy_at > REST_SECONDS

    def drain(self, within: float) -> None:
        """Wait until the system is at rest. A run that has not ended in time is missing from the ledger."""
        self.busy_at = time.monotonic()
        with suppress(AssertionError):
            wait_until(self.is_at_rest, within)
