"""Latency of an idle consumer, from enqueue to the task's first line of code, in milliseconds."""

from pathlib import Path

from machine import Machine, running, wait_until
from peers import System

WARM = 5


def latencies(machine: Machine, system: System, broker: str, samples: int, workers: int) -> list[float]:
    path = machine.path("stamps")
    path.write_text("")
    with running(system.consumer(workers), machine.environment(broker), machine.folder):
        system.ask(machine, broker, "stamps", WARM, path)
        wait_until(lambda: lines(path) == WARM)
        system.ask(machine, broker, "stamps", samples, path)
        wait_until(lambda: lines(path) == WARM + samples)
    return [int(line) / 1e6 for line in path.read_text().split()[WARM:]]


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")
