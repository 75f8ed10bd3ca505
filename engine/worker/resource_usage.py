"""Memory and CPU of this process and its children."""

import multiprocessing
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple, TypedDict

import psutil


class ProcessUsage(NamedTuple):
    rss_bytes: int
    cpu_percent: float


class SlotUsage(TypedDict):
    worker: str
    pid: int
    rss_bytes: int
    cpu_percent: float


class TotalUsage(TypedDict):
    rss_bytes: int
    cpu_percent: float
    slots: list[SlotUsage]


class UsageMeter:
    """CPU is percent of one core since the last call. A process started since then counts with all its CPU time."""

    def __init__(self) -> None:
        self.spent = {os.getpid(): sum(psutil.Process().cpu_times()[:2])}
        self.at = time.monotonic()

    def sample(self, pids: Mapping[str, int]) -> TotalUsage:
        processes = self.measure()
        return {
            "rss_bytes": sum(process.rss_bytes for process in processes.values()),
            "cpu_percent": round(sum(process.cpu_percent for process in processes.values()), 1),
            "slots": [slot_usage(name, pid, processes[pid]) for name, pid in pids.items() if pid in processes],
        }

    def measure(self) -> dict[int, ProcessUsage]:
        at, spent, usage = time.monotonic(), dict[int, float](), dict[int, ProcessUsage]()
        # Not psutil's `children()`, which reads every process of the machine.
        for pid in [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]:
            with suppress(psutil.Error), (process := psutil.Process(pid)).oneshot():
                spent[pid] = sum(process.cpu_times()[:2])
                seconds = max(spent[pid] - self.spent.get(pid, 0.0), 0.0)
                percent = round(seconds / max(at - self.at, 0.1) * 100, 1)
                usage[pid] = ProcessUsage(process.memory_info().rss, percent)
        self.spent, self.at = spent, at
        return usage


def slot_usage(worker: str, pid: int, usage: ProcessUsage) -> SlotUsage:
    return {"worker": worker, "pid": pid, "rss_bytes": usage.rss_bytes, "cpu_percent": usage.cpu_percent}
