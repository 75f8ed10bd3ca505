"""Memory and CPU of a consumer that has worked and is now idle."""

import time
from typing import NamedTuple

from latency import lines
from machine import Machine, cpu_seconds, pss_mb, running, wait_until
from peers import System

WORK = 500
SETTLE_SECONDS = 3


class Footprint(NamedTuple):
    pss_mb: float
    idle_percent: float  # of one core


def footprint(machine: Machine, system: System, broker: str, seconds: float, workers: int) -> Footprint:
    path = machine.path("stamps")
    path.write_text("")
    with running(system.consumer(workers), machine.environment(broker), machine.folder) as consumer:
        system.ask(machine, broker, "burst", WORK, path)
        wait_until(lambda: lines(path) == WORK)
        time.sleep(SETTLE_SECONDS)
        memory, began, spent = pss_mb(consumer), time.perf_counter(), cpu_seconds(consumer)
        time.sleep(seconds)
        return Footprint(memory, sum(cpu_seconds(consumer) - spent) / (time.perf_counter() - began) * 100)
