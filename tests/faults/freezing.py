"""SIGSTOP and SIGCONT: processes that are silent for a while and then go on as if nothing had happened."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from consumers import Consumer
from systems import Hit, System
from waiting import wait_until


@contextmanager
def frozen_at_work(
    system: System, consumer: Consumer, chosen: Callable[[psutil.Process], bool] = lambda process: True
) -> Iterator[list[Hit]]:
    """The chosen processes of a consumer, of which one at least is at work, stand still for the length of a block.

    Not while one of them is writing to a SQLite file, for then it would stop everybody.
    """
    family = [one for one in (psutil.Process(consumer.pid), *system.children(consumer)) if chosen(one)]
    hits = wait_until(lambda: stopped_at_work(system, family))
    yield hits
    for one in family:
        one.resume()


def stopped_at_work(system: System, family: list[psutil.Process]) -> list[Hit]:
    """Stop them; empty, and they go on, when the moment was wrong."""
    pids = {one.pid for one in family}
    if not system.ledger.busy().keys() & pids:
        return []
    for one in family:
        one.suspend()
    wait_until(lambda: all(one.status() == psutil.STATUS_STOPPED for one in family))
    hits = [Hit(run_id, pid, time.time()) for pid, run_id in system.ledger.busy().items() if pid in pids]
    if hits and not writing(pids):
        return hits
    for one in family:
        one.resume()
    return []


def writing(pids: set[int]) -> bool:
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line)
    return any(lock[3] == "WRITE" and int(lock[4]) in pids for lock in locks)
