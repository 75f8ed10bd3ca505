"""The environment of the measurements: a redis-server, processes, and their cost."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
from redis import Redis

HERE = Path(__file__).parent


class Machine:
    """A scratch folder, a private redis-server, and the environment of the programs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "redis.sock"
        self.server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder), "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.socket.exists)
        self.redis = Redis(unix_socket_path=str(self.socket))

    def environment(self, broker: str) -> dict[str, str]:
        return {
            **os.environ,
            "REDIS_URL": f"unix://{self.socket}" if broker == "redis" else "",
            "DATABASE_URL": f"sqlite:///{self.folder}/{broker}.db",
            "DATA_DIR": str(self.folder / broker),
            "SECRET_KEY": secrets.token_urlsafe(48),
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}",
        }

    def path(self, name: str) -> Path:
        return self.folder / name


@contextmanager
def machine() -> Iterator[Machine]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    folder = Path(tempfile.mkdtemp(prefix="dewey-benchmark-"))
    scratch = Machine(folder)
    try:
        yield scratch
    finally:
        scratch.server.terminate()
        scratch.server.wait()
        shutil.rmtree(folder)


@contextmanager
def running(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[psutil.Process]:
    """Run a program until the block ends."""
    with open(folder / "consumers.log", "a") as log:
        program = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        yield psutil.Process(program.pid)
    finally:
        program.terminate()
        try:
            program.wait(20)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


class Spent(NamedTuple):
    """User and system time of a process and its descendants, in seconds."""

    work: float
    aside: float  # of threads with a lower priority, such as Dewey's recorder

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(self.work - before.work, self.aside - before.aside)


def cpu_seconds(process: psutil.Process) -> Spent:
    spent = [0.0, 0.0]
    for member in tree(process):
        with suppress(psutil.Error):
            for thread in member.threads():
                spent[os.getpriority(os.PRIO_PROCESS, thread.id) > 0] += thread.user_time + thread.system_time
    return Spent(*spent)


def pss_mb(process: psutil.Process) -> float:
    """Return proportional memory in MB: a page shared by several processes counts once."""
    total = 0
    for member in tree(process):
        with suppress(OSError):
            rollup = Path(f"/proc/{member.pid}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def wait_until(condition: Callable[[], bool], every: float = 0.01, seconds: float = 300) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError("the benchmark makes no progress")
        time.sleep(every)
