"""Empty tasks per second, from the first finished one to the last, and their CPU cost."""

import time
from typing import NamedTuple

from machine import Machine, cpu_seconds, running, wait_until
from peers import System

#: Enqueuing in bulk is faster, so it gets more tasks for a similar duration.
BULKIER = 10

#: Counting the remaining messages costs CPU too.
LOOK_SECONDS = 0.02


class Drained(NamedTuple):
    enqueued: float  # one by one, per second
    drained: float  # per second
    recorded: float | None  # per second, until history had them all; None if nothing is recorded
    consumer_us: float  # CPU of the consumer per task, microseconds
    history_us: float  # CPU of its recorder per task, until it had them all
    broker_us: float  # CPU of redis-server per task


class InBulk(NamedTuple):
    enqueued: float  # per second, many at once
    times: float  # ratio to one by one


def drain(machine: Machine, system: System, tasks: int, workers: int) -> Drained:
    tasks //= system.slowness
    enqueued = system.ask(machine, "redis", "singly", tasks)
    left = lambda: system.left(machine.redis)  # noqa: E731
    with running(system.consumer(workers), machine.environment("redis"), machine.folder) as consumer:
        wait_until(lambda: left() < tasks, every=0.005)  # startup time does not count
        first, began, spent, served = left(), time.perf_counter(), cpu_seconds(consumer), broker_cpu(machine)
        wait_until(lambda: left() == 0, every=LOOK_SECONDS)
        took, cost, service = time.perf_counter() - began, cpu_seconds(consumer) - spent, broker_cpu(machine) - served
        wait_until(lambda: system.unwritten(machine.redis) == 0, every=LOOK_SECONDS)
        lasted, in_all = time.perf_counter() - began, cpu_seconds(consumer) - spent
    recorded = first / lasted if system.name == "ours" else None
    return Drained(
        enqueued, first / took, recorded, *(seconds / first * 1e6 for seconds in (cost.work, in_all.aside, service))
    )


def broker_cpu(machine: Machine) -> float:
    used = machine.redis.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def in_bulk(machine: Machine, system: System, tasks: int) -> InBulk:
    """Measure enqueuing in bulk against one by one. The tasks are deleted without being run."""
    rates = []
    for part, count in (("singly", tasks), ("bulk", BULKIER * tasks)):
        rates.append(system.ask(machine, "redis", part, count))
        machine.redis.flushall()
    return InBulk(rates[1], rates[1] / rates[0])
