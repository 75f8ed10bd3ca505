"""The ledger that the tasks of a storm write. Every verdict is read from it."""

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import psutil


def append_line(path: str, word: str, run_id: str) -> None:
    """Append one line atomically: word, run, process, Unix seconds."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{word} {run_id} {os.getpid()} {time.time():.6f}\n".encode())
    finally:
        os.close(file)


class Entry(NamedTuple):
    pid: int
    at: float


class DeliveryLog:
    """The lines written so far. `read` adds new ones."""

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0
        self.entries: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        self.last: dict[int, tuple[str, str]] = {}

    def read(self) -> "DeliveryLog":
        if not self.path.exists():
            return self
        with open(self.path, "rb") as file:
            file.seek(self.position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.position += len(whole)
        for line in whole.decode().splitlines():
            word, run_id, pid, at = line.split()
            self.entries[word][run_id].append(Entry(int(pid), float(at)))
            self.last[int(pid)] = (word, run_id)
        return self

    @property
    def starts(self) -> dict[str, list[Entry]]:
        return self.entries["start"]

    @property
    def ends(self) -> dict[str, list[Entry]]:
        return self.entries["end"]

    def twice(self) -> set[str]:
        return {run_id for run_id, entries in self.ends.items() if len(entries) > 1}

    def busy(self) -> dict[int, str]:
        """Return process → run of live processes that have begun a run and not ended it."""
        self.read()
        return {pid: run_id for pid, (word, run_id) in self.last.items() if word == "start" and is_alive(pid)}

    def is_on(self, pid: int, run_id: str) -> bool:
        """Return true if this process has begun this run and not ended it."""
        return self.read().last[pid] == ("start", run_id)


def is_alive(process: int | psutil.Process) -> bool:
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
