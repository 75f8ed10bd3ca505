"""Empty tasks a second: ours (delivery, signed JSON, history on) beside stock RedisHuey (pickle, nothing recorded).

    .venv/bin/python benchmarks/throughput.py [--tasks 5000] [--runs 5] [--workers 2]

The two take turns on the same redis-server, so that a slow minute of the machine hits both; the medians and the ratio
pair by pair are printed. Nothing is asserted about seconds.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Rates(NamedTuple):
    enqueued: float  # one by one, a second
    drained: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("tasks", 5000), ("runs", 5), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dewey-benchmark-"))
    socket = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    os.environ |= {
        "REDIS_URL": f"unix://{socket}",
        "DATABASE_URL": f"sqlite:///{folder}/dewey.db",
        "SECRET_KEY": "k" * 40,
        "DATA_DIR": str(folder),
        "LOG_LEVEL": "WARNING",
    }
    try:
        wait_until(socket.exists)
        compare(options.tasks, options.runs, options.workers)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def compare(tasks: int, runs: int, workers: int) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    import queues

    from engine.migrations import migrate

    migrate()
    ours, stock = queues.ours, queues.stock
    systems = {
        "ours": ("queues.ours", queues.nothing, lambda: ours.pending_count() + len(ours.storage.held())),
        "stock": ("queues.stock", queues.nothing_either, stock.pending_count),
    }
    seen: dict[str, list[Rates]] = {name: [] for name in systems}
    for _ in range(runs):
        for name, (path, task, left) in systems.items():
            seen[name].append(measure(path, task, left, tasks, workers))
    for what in Rates._fields:
        rates = {name: [getattr(one, what) for one in seen[name]] for name in systems}
        ratios = [mine / theirs for mine, theirs in zip(rates["ours"], rates["stock"], strict=True)]
        medians = "  ".join(f"{name} {statistics.median(values):7,.0f}/s" for name, values in rates.items())
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(f"{what:9} {medians}  ratio {statistics.median(ratios):.2f} ({spread})")


def measure(path: str, task: Callable[[], object], left: Callable[[], int], tasks: int, workers: int) -> Rates:
    began = time.perf_counter()
    for _ in range(tasks):
        task()
    enqueued = tasks / (time.perf_counter() - began)
    command = [
        str(Path(sys.executable).parent / "huey_consumer"),
        path,
        "-k",
        "process",
        "-w",
        str(workers),
        "-n",
        "-q",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"}
    with open(os.devnull, "w") as silence:
        consumer = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=silence)
    try:
        wait_until(lambda: left() < tasks)  # what it takes to start does not count
        first, began = left(), time.perf_counter()
        wait_until(lambda: left() <= tasks // 50)
        return Rates(enqueued, (first - left()) / (time.perf_counter() - began))
    finally:
        consumer.terminate()
        consumer.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 300
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError("the benchmark stands still")
        time.sleep(0.005)


if __name__ == "__main__":
    main()
