"""Memory and CPU of this process and its children."""

import multiprocessing
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psutil


class Usage:
    """CPU is percent of one core since the last time it was asked; of a process that began since, all it has used."""

    def __init__(self) -> None:
        self.spent = {os.getpid(): sum(psutil.Process().cpu_times()[:2])}
        self.at = time.monotonic()

    def now(self, slots: Mapping[str, int]) -> dict[str, Any]:
        """Of all processes, and of each in `slots` (name → pid): {"worker", "pid", "rss_bytes", "cpu_percent"}."""
        at, spent = time.monotonic(), dict[int, float]()
        rows: dict[int, dict[str, Any]] = {}
        # Not `children()` of psutil, which looks at every process of the machine.
        for pid in [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]:
            with suppress(psutil.Error), (process := psutil.Process(pid)).oneshot():
                spent[process.pid] = sum(process.cpu_times()[:2])
                used = max(spent[process.pid] - self.spent.get(process.pid, 0.0), 0.0)
                percent = round(used / max(at - self.at, 0.1) * 100, 1)
                rows[process.pid] = {"rss_bytes": process.memory_info().rss, "cpu_percent": percent}
        self.spent, self.at = spent, at
        return {
            "rss_bytes": sum(row["rss_bytes"] for row in rows.values()),
            "cpu_percent": round(sum(row["cpu_percent"] for row in rows.values()), 1),
            "slots": [{"worker": name, "pid": pid, **rows[pid]} for name, pid in slots.items() if pid in rows],
        }
