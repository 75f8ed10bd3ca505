"""Run the long form of every storm, on Dewey and on stock Huey: `make faults`.

`python tests/faults [word…]` runs the storms whose name, side or broker contains one of the words. The result is one
table. The exit code is 1 if Dewey broke a guarantee.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

import conftest  # noqa: E402  imported first: it hides the developer's settings
import storms  # noqa: E402
from databases import create_postgresql  # noqa: E402
from refusing_redis import RefusingRedis  # noqa: E402
from reports import Report  # noqa: E402
from servers import RedisServer, postgresql  # noqa: E402
from storm_systems import Dewey, StockHuey  # noqa: E402
from systems import System  # noqa: E402

LONG = 900.0
KILLS = {"tasks": 1500, "seconds": 0.03, "kills": 25, "seed": 1, "workers": 4, "within": LONG}
STORMS: dict[str, Callable[[System], Report]] = {
    "kills of a worker": partial(storms.workers_killed, how="worker", **KILLS),
    "kills of a tree": partial(storms.workers_killed, how="tree", **KILLS),
    "kills of a parent": partial(storms.workers_killed, how="parent", **KILLS),
    "due": partial(storms.due_at_once, tasks=3000, lead=30, within=LONG),
    "broker killed, always": partial(storms.broker_killed, tasks=3000, seconds=0.005, kills=10, within=LONG),
    "broker killed, everysec": partial(storms.broker_killed, tasks=3000, seconds=0.005, kills=10, within=LONG),
    "broker killed, due": partial(storms.broker_killed_when_due, tasks=1500, lead=30, within=LONG),
    "broker refuses": partial(storms.broker_refuses, tasks=2000, seconds=0.01, chance=0.2, seed=1, within=LONG),
    "rows refused": partial(storms.rows_refused, tasks=3000, seconds=0.005, within=LONG),
    "restarts": partial(storms.rolling_restarts, tasks=600, seconds=0.05, rounds=12, long=5, within=LONG),
    "frozen": partial(storms.frozen, tasks=600, seconds=0.1, rounds=6, within=LONG),
    "poison": partial(storms.poisoned, tasks=600, seconds=0.02, poison=10, within=LONG),
    "minutes": partial(storms.ticking, minutes=5, seed=1),
}
HEAD = ("storm", "side", "accepted", "kills", "lost", "finished twice", "dead", "recovery s", "left running")


def main(words: list[str]) -> int:
    broken, rows = [], []
    with postgresql() as server_url:
        for name, storm in STORMS.items():
            for broker in ("Redis", "SQLite") if not name.startswith("broker") else ("Redis",):
                for side in (Dewey, StockHuey):
                    if words and not any(word in f"{name} {side.name} {broker}" for word in words):
                        continue
                    with create_system(side, broker, name, server_url) as system:
                        seen = storm(system)
                    rows.append(format_row(seen))
                    broken += [f"{seen.storm}, {seen.system}: {promise}" for promise in seen.broken]
                    print(" | ".join(rows[-1]), flush=True)
    if not rows:
        sys.exit(f"no storm has a name, side or broker with one of: {' '.join(words)}")
    print()
    for row in (HEAD, tuple("---" for _ in HEAD), *rows):
        print(f"| {' | '.join(row)} |")
    print("\n".join(["", *broken] if broken else ["", "Dewey kept every guarantee."]))
    return bool(broken)


@contextmanager
def create_system(side: type[Dewey] | type[StockHuey], broker: str, storm: str, server_url: str) -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="dewey-faults-") as name, create_postgresql(server_url) as postgresql_url:
        folder = Path(name)
        kind = RefusingRedis if storm == "broker refuses" else RedisServer
        server = kind(folder, "everysec" if "everysec" in storm else "always") if broker == "Redis" else None
        url = postgresql_url if server else f"sqlite:///{folder}/dewey.db"
        # A run that is hit repeatedly may lose more than five workers. The storm `poison` tests the limit.
        ours = {"database_url": url, **({} if storm == "poison" else {"MAX_DELIVERIES": "100"})}
        with side(folder, server, **(ours if side is Dewey else {})) as system:
            yield system


def format_row(seen: Report) -> tuple[str, ...]:
    numbers = (seen.accepted, seen.kills, seen.lost, seen.twice, seen.dead)
    recovery = "–" if seen.recovery is None else f"{seen.recovery:.1f}"
    return (seen.storm, seen.system, *map(str, numbers), recovery, str(seen.left))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    finally:
        conftest.pytest_unconfigure()
