"""Real consumers as child processes, and their environment."""

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fork_server
import psutil
from databases import bound_to_library
from waiting import wait_until

from engine.broker.messages import SignedJSON
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.queues.queue import Queue

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


KEY = secrets.token_urlsafe(48)


@contextmanager
def share_with_consumers(
    queue: Queue, folder: Path, redis_url: str = "", database_url: str = ""
) -> Iterator[dict[str, str]]:
    """Bind the queues and the database of this process to those of consumers, in `folder` if there is no URL. Yield the
    environment of the consumers.
    """
    url = database_url or f"sqlite:///{folder}/dewey.db"
    wire, queue.serializer = queue.serializer, SignedJSON(KEY)
    before, queue.storage = (
        queue.storage,
        (
            RedisStorage(queue.name, redis_url, 60, serializer=queue.serializer)
            if redis_url
            else SqliteStorage(queue.name, folder / "queue.db", 60, serializer=queue.serializer)
        ),
    )
    with bound_to_library(url):
        yield {"DATA_DIR": str(folder), "DATABASE_URL": url, "REDIS_URL": redis_url, "SECRET_KEY": KEY}
    queue.storage.close()
    queue.storage, queue.serializer = before, wire


class ConsumerProcess:
    """`huey_consumer <queue>` with `options`. `log` is its output so far."""

    def __init__(self, queue: str, *options: str, environment: dict[str, str], log: Path) -> None:
        self.log_file, self.log_begins = log, log.stat().st_size if log.exists() else 0
        path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
        with open(log, "ab") as file:
            self.process = fork_server.start(
                [str(BIN / "huey_consumer"), queue, *options],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_bytes()[self.log_begins :].decode()

    def logged(self, text: str, within: float = 20.0) -> str:
        """Wait until the log contains `text`. Return the whole log."""
        try:
            return wait_until(lambda: self.log if text in self.log else "", within)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in the log:\n{self.log}") from None

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    def stop(self, how: int = signal.SIGTERM, within: float = 30.0) -> int:
        """Send the signal and wait for the end. Return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(within)


@contextmanager
def consumer(queue: str, *options: str, environment: dict[str, str], log: Path) -> Iterator[ConsumerProcess]:
    """Run a consumer for the length of a block and end all its processes afterwards.

    Its scheduler is off by default, so that a test does not depend on the current minute.
    """
    running = ConsumerProcess(queue, *(options or ("-k", "process", "-w", "2", "-n")), environment=environment, log=log)
    try:
        running.logged("Periodic tasks are")
        yield running
    finally:
        if running.process.poll() is None:
            family = [psutil.Process(running.pid), *running.children()]
            for process in family:
                process.kill()
            psutil.wait_procs(family, 5)
            running.process.wait(5)
