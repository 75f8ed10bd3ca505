"""Three schedulers on one broker, one of them killed and restarted repeatedly: each tick starts one run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
from consumers import ROOT
from storm_systems import Dewey, create_dewey
from systems import HERE


@pytest.fixture(params=["sqlite", "redis"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dewey]:
    with create_dewey(request, tmp_path) as dewey:
        yield dewey


class Clock:
    """A scheduler in a separate process with a driven clock."""

    def __init__(self, system: Dewey) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "driven_scheduler.py")],
            cwd=ROOT,
            env={**os.environ, **system.environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "ready"

    def turn_to(self, minute: int) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{minute}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_tick_starts_one_run_whichever_scheduler_dies(system: Dewey) -> None:
    chance, first = Random(9), 34_000_000
    assert system.unfinished() == 0
    with ExitStack() as stack:
        clocks = [Clock(system) for _ in range(3)]
        stack.callback(lambda: [clock.kill() for clock in clocks])
        for number in range(60):
            for clock in clocks:
                clock.turn_to(first + number)
            if number % 10 == 9:
                victim = chance.randrange(3)
                clocks[victim].kill()
                clocks[victim] = Clock(system)
                clocks[victim].turn_to(first + number)
            assert [clock.answer() for clock in clocks] == [str(first + number)] * 3
            assert system.queue.storage.messages.count_waiting() == number + 1
