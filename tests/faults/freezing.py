"""SIGSTOP and SIGCONT: processes that stop for a while and then continue unaware."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from consumers import ConsumerProcess
from systems import Hit, System
from waiting import wait_until


@contextmanager
def frozen_at_work(
    system: System, consumer: ConsumerProcess, chosen: Callable[[psutil.Process], bool] = lambda process: True
) -> Iterator[list[Hit]]:
    """Stop the chosen processes of a consumer, at least one of them busy, for the length of a block.

    A process that is writing to a SQLite file is not stopped, because its lock would block all others.
    """
    family = [process for process in (psutil.Process(consumer.pid), *system.children(consumer)) if chosen(process)]
    hits = wait_until(lambda: stop_at_work(system, family))
    yield hits
    for process in family:
        process.resume()


def stop_at_work(system: System, family: list[psutil.Process]) -> list[Hit]:
    """Stop the processes. Return an empty list, with all continued, if the moment was wrong."""
    pids = {process.pid for process in family}
    if not system.delivery_log.busy().keys() & pids:
        return []
    for process in family:
        process.suspend()
    wait_until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in family))
    hits = [Hit(run_id, pid, time.time()) for pid, run_id in system.delivery_log.busy().items() if pid in pids]
    if hits and not is_writing(pids):
        return hits
    for process in family:
        process.resume()
    return []


def is_writing(pids: set[int]) -> bool:
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line)
    return any(lock[3] == "WRITE" and int(lock[4]) in pids for lock in locks)
