"""Empty tasks a second, from the first that is done with to the last, and what they cost in CPU."""

import time
from typing import NamedTuple

from machine import Machine, cpu_seconds, running, wait_until
from peers import System

#: What is enqueued in bulk takes as long as one by one when there is so much more of it.
BULKIER = 10

#: A look at what is left costs the machine too.
LOOK_SECONDS = 0.02


class Drained(NamedTuple):
    enqueued: float  # one by one, a second
    drained: float  # a second
    recorded: float | None  # a second, until history had them all too; None where nothing is recorded
    consumer_us: float  # CPU of the consumer for a task, microseconds
    history_us: float  # CPU of its recorder for a task, until it had them all
    broker_us: float  # CPU of redis-server for a task


class InBulk(NamedTuple):
    enqueued: float  # a second, many at once
    times: float  # as many as one by one


def drain(machine: Machine, system: System, tasks: int, workers: int) -> Drained:
    tasks //= system.slowness
    enqueued = system.ask(machine, "redis", "singly", tasks)
    left = lambda: system.left(machine.redis)  # noqa: E731
    with running(system.consumer(workers), machine.environment("redis"), machine.folder) as consumer:
        wait_until(lambda: left() < tasks, every=0.005)  # what it takes to start does not count
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
    """Nobody takes these tasks; they are thrown away."""
    rates = []
    for part, count in (("singly", tasks), ("bulk", BULKIER * tasks)):
        rates.append(system.ask(machine, "redis", part, count))
        machine.redis.flushall()
    return InBulk(rates[1], rates[1] / rates[0])
