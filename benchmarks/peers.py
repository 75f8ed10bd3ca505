"""The compared systems: Dewey, stock Huey, Celery. How each is started, fed and checked."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from venv import EnvBuilder

from machine import HERE, Machine
from redis import Redis

#: Installed once, apart from Dewey's requirements.
CELERY_PLACE = Path.home() / ".cache" / "dewey" / "celery-5.7"
CELERY_NEEDS = ["celery[redis]==5.7.*", "hiredis"]


@dataclass(frozen=True)
class System:
    name: str
    module: str
    folder: Path  # of its programs
    slowness: int = 1  # it gets fewer tasks by this factor, to take a similar time

    def consumer(self, workers: int) -> list[str]:
        flags = ["-k", "process", "-w", str(workers), "-n", "-q"]
        return [str(self.folder / "huey_consumer"), f"{self.module}.queue", *flags]

    def ask(self, machine: Machine, broker: str, *words: object) -> float:
        """Run `feed.py` with these arguments. Returns its figure, 0 if there is none."""
        command = [str(self.folder / "python"), str(HERE / "feed.py"), self.module, *map(str, words)]
        answer = subprocess.run(
            command, env=machine.environment(broker), check=True, stdout=subprocess.PIPE, text=True, cwd=machine.folder
        )
        return float(answer.stdout or 0)

    def left(self, redis: Redis) -> int:
        """Return the number of unfinished messages on Redis."""
        raise NotImplementedError

    def unwritten(self, redis: Redis) -> int:
        """Return the number of events that are not in the database yet."""
        return 0


class Ours(System):
    def left(self, redis: Redis) -> int:
        return count(redis, ("ZCARD", "dewey:{benchmark}:queue"), ("HLEN", "dewey:{benchmark}:held"))

    def unwritten(self, redis: Redis) -> int:
        return count(redis, ("XLEN", "dewey:{benchmark}:events"))


class Stock(System):
    def left(self, redis: Redis) -> int:
        """Stock Huey deletes a message before it runs, so the last two may still run."""
        return count(redis, ("LLEN", "huey.redis.stock"))


class Celery(System):
    def consumer(self, workers: int) -> list[str]:
        flags = ["--pool", "prefork", "--concurrency", str(workers), "-E", "--loglevel", "ERROR"]
        return [str(self.folder / "celery"), "-A", self.module, "worker", *flags]

    def left(self, redis: Redis) -> int:
        return count(redis, ("LLEN", "celery"), ("HLEN", "unacked"))


def count(redis: Redis, *commands: tuple[str, str]) -> int:
    with redis.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        return sum(map(int, pipe.execute()))


def ours_and_stock() -> list[System]:
    programs = Path(sys.executable).parent
    return [Ours("ours", "ours", programs), Stock("stock Huey", "stock", programs)]


def celery() -> System | None:
    """Return Celery in its own environment. None, with a message on stderr, if it cannot be installed."""
    if not (CELERY_PLACE / "installed").exists():
        print(f"Installing {CELERY_NEEDS[0]} into {CELERY_PLACE} (once) …", file=sys.stderr)
        EnvBuilder(with_pip=True, clear=True, symlinks=True).create(CELERY_PLACE)
        install = [str(CELERY_PLACE / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*install, *CELERY_NEEDS], capture_output=True, text=True)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["pip printed no reason"])[-1]
            print(f"Celery is left out: it could not be installed ({why})", file=sys.stderr)
            return None
        (CELERY_PLACE / "installed").touch()
    return Celery("Celery 5.7", "celery_app", CELERY_PLACE / "bin", slowness=5)
