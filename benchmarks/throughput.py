"""The figures that matter, beside stock Huey and Celery: one table.

    .venv/bin/python benchmarks/throughput.py [--tasks 5000] [--runs 5] [--workers 2] [--only PART]

Ours: at-least-once delivery, signed JSON, results and history kept. Stock Huey: pickle, nothing recorded. Celery:
prefork, acks_late, events on. They take turns on one redis-server, so that a slow minute of the machine hits them all;
medians are shown, and the ratios are medians of the ratios turn by turn. Nothing is asserted about seconds.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence

from drain import Drained, InBulk, drain, in_bulk
from footprint import Footprint, footprint
from latency import latencies
from machine import Machine, machine
from peers import System, celery, ours_and_stock
from table import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tasks", 5000), ("runs", 5), ("workers", 2), ("idle", 20), ("samples", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS], help="one part of the table")
    options = parser.parse_args()
    with machine() as here:
        systems = ours_and_stock()
        for broker in ("redis", "sqlite"):
            systems[0].ask(here, broker, "prepare")
        if peer := celery():
            systems.append(peer)
        table = Table([one.name for one in systems])
        for part in PARTS:
            if options.only in (None, part.__name__):
                part(here, systems, options, table)
        table.show()


def throughput(here: Machine, systems: Sequence[System], options: argparse.Namespace, table: Table) -> None:
    seen: dict[str, list[Drained]] = taking_turns(
        systems, options.runs, lambda one: drain(here, one, options.tasks, options.workers)
    )
    column = lambda name: {one: [getattr(row, name) for row in rows] for one, rows in seen.items()}  # noqa: E731
    table.add("empty tasks a second", column("drained"), goal="≥ 1.3 × stock, ≥ 5 × Celery")
    table.add("… until written to history", only(column("recorded"), "ours"))
    table.add("CPU µs a task: consumer", column("consumer_us"), lower=True)
    table.add("… its recorder", only(column("history_us"), "ours"), lower=True)
    table.add("CPU µs a task: redis-server", column("broker_us"), lower=True)
    table.add("enqueued one by one a second", column("enqueued"), goal="≥ 0.8 × stock")


def bulk(here: Machine, systems: Sequence[System], options: argparse.Namespace, table: Table) -> None:
    many = [one for one in systems if one.name != "Celery 5.7"]
    seen: dict[str, list[InBulk]] = taking_turns(many, options.runs, lambda one: in_bulk(here, one, options.tasks))
    table.add("enqueued in bulk a second", {one: [row.enqueued for row in rows] for one, rows in seen.items()})
    times = {one: [row.times for row in rows] for one, rows in seen.items()}
    table.add("… times one by one", times, goal="ours ≥ 10")


def delays(here: Machine, systems: Sequence[System], options: argparse.Namespace, table: Table) -> None:
    for broker, goal in (("redis", "p50 ≤ 2 ms"), ("sqlite", "p50 ≤ 25 ms")):
        seen = taking_turns(
            able(systems, broker), 2, lambda one, b=broker: latencies(here, one, b, options.samples, options.workers)
        )
        for percent in (50, 95):
            values = {name: [percentile(run, percent) for run in runs] for name, runs in seen.items()}
            label = f"enqueue → start p{percent} ms, {broker}"
            table.add(label, values, goal=goal if percent == 50 else "", lower=True)


def footprints(here: Machine, systems: Sequence[System], options: argparse.Namespace, table: Table) -> None:
    for broker in ("redis", "sqlite"):
        seen: dict[str, list[Footprint]] = taking_turns(
            able(systems, broker), 1, lambda one, b=broker: footprint(here, one, b, options.idle, options.workers)
        )
        idle = {name: [one.idle_percent for one in rows] for name, rows in seen.items()}
        memory = {name: [one.pss_mb for one in rows] for name, rows in seen.items()}
        table.add(f"idle, % of a core, {broker}", idle, goal="≤ 1", lower=True)
        table.add(f"PSS MB, {broker}", memory, goal="≤ stock + 10", lower=True)


PARTS = (throughput, bulk, delays, footprints)


def taking_turns(systems: Sequence[System], runs: int, measure: Callable[[System], object]) -> dict[str, list]:
    seen: dict[str, list] = {one.name: [] for one in systems}
    for turn in range(runs):
        for one in systems:
            print(
                f"\r{measure.__qualname__.partition('.')[0]} {turn + 1}/{runs}: {one.name:12}", end="", file=sys.stderr
            )
            seen[one.name].append(measure(one))
    print(f"\r{'':60}\r", end="", file=sys.stderr)
    return seen


def able(systems: Sequence[System], broker: str) -> list[System]:
    """Celery has no broker in a file."""
    return [one for one in systems if broker == "redis" or one.name != "Celery 5.7"]


def only(column: dict[str, list], name: str) -> dict[str, list]:
    return {name: column[name]}


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


if __name__ == "__main__":
    main()
