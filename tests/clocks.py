"""Run tests at awkward times, in other time zones and in random order: `make clocks`.

Arguments are those of pytest. The default is the tests that store or show times. Requires a C compiler.
"""

import ctypes
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: Start times in UTC, each with the time zone of the process.
HOURS = (
    ("2026-06-10 00:01", "UTC"),
    ("2026-06-11 04:30", "Asia/Kolkata"),
    ("2026-06-12 11:59", "America/New_York"),
    ("2026-06-13 18:45", "UTC"),
    ("2026-06-14 19:59", "Pacific/Auckland"),
    ("2026-06-15 23:58", "Pacific/Honolulu"),
)
#: Each test begins within half a second before one of these: ends of February and of a year, clock changes.
EDGES = (
    ("2026-03-01 00:00", "UTC"),
    ("2027-01-01 00:00", "Asia/Kathmandu"),
    ("2026-03-29 01:00", "Europe/Berlin"),
    ("2026-10-25 01:00", "Europe/Berlin"),
    ("2026-03-08 07:00", "America/New_York"),
    ("2026-11-01 06:00", "America/New_York"),
)
#: Tests that store or show times, in the process of the tests.
FILES = """
    test_alerts test_audit_page test_bulk test_charts test_session_cleanup test_commands test_counts test_dashboards
    test_errors test_errors_page test_flower test_history test_json_api test_live test_metrics test_overview
    test_preferences test_queues_page test_run_page test_runs_pages test_sample test_schedule test_schedule_page
    test_schedules test_search test_session_charts test_sessions_page test_statistics test_tasks_page test_terminal
    test_why test_formatting test_workers_page
"""


def main(arguments: list[str]) -> int:
    """Run pytest at each time. Return the number of failures."""
    arguments = arguments or [str(HERE / f"{name}.py") for name in FILES.split()]
    seed = os.environ.get("CLOCKS_SEED") or str(random.randrange(10_000))
    with tempfile.TemporaryDirectory() as folder:
        library = compile_library(Path(folder))
        failed = [not run_tests(library, seed, at, zone, arguments) for at, zone in HOURS]
        # A Redis server keeps its start time, while these tests set their clock back.
        failed += [
            not run_tests(library, seed, at, zone, [*arguments, "-k", "not redis"], edge=True) for at, zone in EDGES
        ]
    return sum(failed)


def compile_library(folder: Path) -> Path:
    library = folder / "clock_shift.so"
    try:
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "clock_shift.c"], check=True)
    except FileNotFoundError:
        sys.exit("clocks: cc was not found; install a C compiler")
    return library


def run_tests(library: Path, seed: str, at: str, zone: str, arguments: list[str], edge: bool = False) -> bool:
    print(f"clocks: {at} UTC, TZ={zone}, CLOCKS_SEED={seed}", flush=True)
    second = datetime.fromisoformat(f"{at}+00:00").timestamp()
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "LD_PRELOAD": str(library),
        "CLOCK_SHIFT": str(second - time.time()),
        "CLOCKS_EDGE": str(second) if edge else "",
        "CLOCKS_SEED": seed,
        "TZ": zone,
    }
    command = [sys.executable, "-m", "pytest", "-q", "-n", "4", "-p", "clocks", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, env=environment).returncode == 0


# --- pytest plugin -------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle the files, and the tests of each. The same seed gives the same order."""
    chance = random.Random(os.environ["CLOCKS_SEED"])
    chance.shuffle(items)
    places = {path: chance.random() for path in sorted({item.path for item in items})}
    items.sort(key=lambda item: places[item.path])


def pytest_runtest_setup() -> None:
    """Set the clock to less than half a second before CLOCKS_EDGE, in this process and in its children."""
    if edge := float(os.environ["CLOCKS_EDGE"] or 0):
        shift = ctypes.c_double.in_dll(ctypes.CDLL(None), "clock_shift")
        shift.value += edge - random.uniform(0, 0.5) - time.time()
        os.environ["CLOCK_SHIFT"] = str(shift.value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
