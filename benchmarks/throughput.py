"""The main figures beside stock Huey and Celery: one table.

    .venv/bin/python benchmarks/throughput.py [--tasks 5000] [--runs 5] [--workers 2] [--only PART]

Dewey: at-least-once delivery, signed JSON, results and history kept. Stock Huey: pickle, no history. Celery: prefork,
acks_late, events on. They take turns on one redis-server, so that noise of the machine affects them all. Figures are
medians, and ratios are medians of the ratios per turn. There are no assertions about time.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence

from drain import Drained, InBulk, drain, in_bulk
from footprint import Footprint, footprint
from latency import latencies
from machine import Machine
from machine import machine as scratch_machine
from peers import System, celery, ours_and_stock
from table import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tasks", 5000), ("runs", 5), ("workers", 2), ("idle", 20), ("samples", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS], help="one part of the table")
    options = parser.parse_args()
    with scratch_machine() as machine:
        systems = ours_and_stock()
        for broker in ("redis", "sqlite"):
            systems[0].ask(machine, broker, "prepare")
        if peer := celery():
            systems.append(peer)
        table = Table([system.name for system in systems])
        for part in PARTS:
            if options.only in (None, part.__name__):
                part(machine, systems, options, table)
        table.show()


def throughput(machine: Machine, systems: Sequence[System], options: argparse.Namespace, table: Table) -> None:
    results: dict[str, list[Drained]] = taking_turns(
        systems, options.runs, lambda system: drain(machine, system, options.tasks, options.workers)
    )
    column = lambda name: {system: [getattr(row, name) for row in rows] for system, rows in results.items()}  # noqa: E731
    table.add("empty tasks a second", column("drained"), goal="≥ 1.3 × stock, ≥ 5 × Celery")
    table.add("… until written to history", only(column("recorded"), "ours"))
    table.add("CPU µs a task: consumer", column("consumer_us"), lower=True)
    table.add("… its recorder", only(column("history_us"), "ours"), lower=True)
    table.add("CPU µs a task: redis-server", column("broker_us"), lower=True)
    table.add("enqueued one by one a second", column("enqueued"), goal="≥ 0.8 × stock")


def bulk(machine: Machine, systems: Sequence[System], options: argparse.Namespace, table: Table) -> None:
    with_bulk = [system for system in systems if system.name != "Celery 5.7"]
    results: dict[str, list[InBulk]] = taking_turns(
        with_bulk, options.runs, lambda system: in_bulk(machine, system, options.tasks)
    )
    table.add("enqueued in bulk a second", {name: [row.enqueued for row in rows] for name, rows in results.items()})
    times = {name: [row.times for row in rows] for name, rows in results.items()}
    table.add("… times one by one", times, goal="ours ≥ 10")


def delays(machine: Machine, systems: Sequence[System], options: argparse.Namespace, table: Table) -> None:
    for broker, goal in (("redis", "p50 ≤ 2 ms"), ("sqlite", "p50 ≤ 25 ms")):
        results = taking_turns(
            able(systems, broker),
            2,
            lambda system, b=broker: latencies(machine, system, b, options.samples, options.workers),
        )
        for percent in (50, 95):
            values = {name: [percentile(run, percent) for run in runs] for name, runs in results.items()}
            label = f"enqueue → start p{percent} ms, {broker}"
            table.add(label, values, goal=goal if percent == 50 else "", lower=True)


def footprints(machine: Machine, systems: Sequence[System], options: argparse.Namespace, table: Table) -> None:
    for broker in ("redis", "sqlite"):
        results: dict[str, list[Footprint]] = taking_turns(
            able(systems, broker),
            1,
            lambda system, b=broker: footprint(machine, system, b, options.idle, options.workers),
        )
        idle = {name: [row.idle_percent for row in rows] for name, rows in results.items()}
        memory = {name: [row.pss_mb for row in rows] for name, rows in results.items()}
        table.add(f"idle, % of a core, {broker}", idle, goal="≤ 1", lower=True)
        table.add(f"PSS MB, {broker}", memory, goal="≤ stock + 10", lower=True)


PARTS = (throughput, bulk, delays, footprints)


def taking_turns(systems: Sequence[System], runs: int, measure: Callable[[System], object]) -> dict[str, list]:
    results: dict[str, list] = {system.name: [] for system in systems}
    measured = measure.__qualname__.partition(".")[0]
    for turn in range(runs):
        for system in systems:
            print(f"\r{measured} {turn + 1}/{runs}: {system.name:12}", end="", file=sys.stderr)
            results[system.name].append(measure(system))
    print(f"\r{'':60}\r", end="", file=sys.stderr)
    return results


def able(systems: Sequence[System], broker: str) -> list[System]:
    """Leave out Celery for SQLite, which it does not support."""
    return [system for system in systems if broker == "redis" or system.name != "Celery 5.7"]


def only(column: dict[str, list], name: str) -> dict[str, list]:
    return {name: column[name]}


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


if __name__ == "__main__":
    main()
