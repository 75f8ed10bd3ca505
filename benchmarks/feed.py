"""Ask for tasks of one system, in a process of its own: python feed.py MODULE DEED …, a line of figures on stdout.

prepare               bring up what the system needs
one COUNT             empty tasks, one by one → a second
bulk COUNT            empty tasks, a thousand at once where the system has a way for it → a second
stamps COUNT FILE     stamping tasks, one every 20 to 80 ms, so that no rhythm of a poller is met
burst COUNT FILE      stamping tasks, at once
"""

import importlib
import random
import sys
import time
from typing import Any

BULK = 1000


def one(module: Any, count: str) -> None:
    ask = getattr(module.nothing, "delay", module.nothing)
    ask()  # the first opens the connection
    began = time.perf_counter()
    for _ in range(int(count) - 1):
        ask()
    print((int(count) - 1) / (time.perf_counter() - began))


def bulk(module: Any, count: str) -> None:
    module.enqueue_in_bulk(1)
    began = time.perf_counter()
    for _ in range(int(count) // BULK):
        module.enqueue_in_bulk(BULK)
    print(int(count) / (time.perf_counter() - began))


def stamps(module: Any, count: str, path: str) -> None:
    for _ in range(int(count)):
        time.sleep(random.uniform(0.02, 0.08))
        burst(module, "1", path)


def burst(module: Any, count: str, path: str) -> None:
    ask = getattr(module.stamp, "delay", module.stamp)
    for _ in range(int(count)):
        ask(path, time.time_ns())


def prepare(module: Any) -> None:
    getattr(module, "prepare", lambda: None)()


if __name__ == "__main__":
    name, deed, *words = sys.argv[1:]
    globals()[deed](importlib.import_module(name), *words)
