"""Enqueue tasks of one system, in a process of its own: python feed.py MODULE PART …, a line of figures on stdout.

prepare               bring up what the system needs
singly COUNT          empty tasks, one by one → a second
bulk COUNT            empty tasks, a thousand at once where the system has a way for it → a second
stamps COUNT FILE     stamping tasks, one every 20 to 80 ms, so that no rhythm of a poller is met
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
    enqueue()  # the first opens the connection
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
