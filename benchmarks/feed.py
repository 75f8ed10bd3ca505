"""Enqueue tasks of one system in a separate process: python feed.py MODULE PART …, a line of figures on stdout.

prepare               set up the system's tables
singly COUNT          empty tasks, one by one → per second
bulk COUNT            empty tasks, a thousand at once if the system supports it → per second
stamps COUNT FILE     stamping tasks, one every 20 to 80 ms, so as not to match the rhythm of a poller
burst COUNT FILE      stamping tasks, at once
"""

import importlib
import random
import sys
import time
from types import ModuleType

BULK = 1000


def singly(module: ModuleType, count: str) -> None:
    enqueue = getattr(module.nothing, "delay", module.nothing)
    enqueue()  # the first one opens the connection
    began = time.perf_counter()
    for _ in range(int(count) - 1):
        enqueue()
    print((int(count) - 1) / (time.perf_counter() - began))


def bulk(module: ModuleType, count: str) -> None:
    module.enqueue_in_bulk(1)
    began = time.perf_counter()
    for _ in range(int(count) // BULK):
        module.enqueue_in_bulk(BULK)
    print(int(count) / (time.perf_counter() - began))


def stamps(module: ModuleType, count: str, path: str) -> None:
    for _ in range(int(count)):
        time.sleep(random.uniform(0.02, 0.08))
        burst(module, "1", path)


def burst(module: ModuleType, count: str, path: str) -> None:
    enqueue = getattr(module.stamp, "delay", module.stamp)
    for _ in range(int(count)):
        enqueue(path, time.time_ns())


def prepare(module: ModuleType) -> None:
    getattr(module, "prepare", lambda: None)()


if __name__ == "__main__":
    name, part, *words = sys.argv[1:]
    globals()[part](importlib.import_module(name), *words)
