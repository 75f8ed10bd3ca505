"""Time the server needs for each page and for typical searches, on a database filled by `million.py`.

    .venv/bin/python benchmarks/pages.py sqlite:////tmp/million.db [--rounds 40] [--only /runs]
    .venv/bin/python benchmarks/pages.py postgresql:///million

Prints per page: p50 and p95 in milliseconds, the median CPU time of this process, statements, and size. Time in
PostgreSQL, browser and network is not part of the CPU time. There are no assertions. `tests/test_budgets.py` limits
statements and sizes.
"""

import argparse
import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple
from urllib.parse import quote

from flask.testing import FlaskClient
from werkzeug.routing import Rule

ROOT = Path(__file__).parent.parent

#: Typical searches among runs.
SEARCHES = (
    "state:failed",
    "state:failed,dead ended:24h",
    "state:succeeded ended:7d",
    "task:process_book",
    "task:process_book state:failed",
    "queue:heavy",
    "by:ann@example.org",
    "worker:Worker-3",
    "refused",
    '"not a zip file" state:failed',
    "args.size:1024x768",
    "args.hours:24 task:get_cleanup_statistics",
    "duration:>30s",
    "attempts:>2",
    "no-such-word-anywhere",
)


class Cost(NamedTuple):
    url: str
    status: int
    times: list[float]  # ms
    cpu: list[float]  # ms
    statements: int
    size: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="sqlite:///… or postgresql://…")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", default="", help="prefix of the pages to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # A separate file and key for the embedded broker. REDIS_URL may name another broker.
        os.environ |= {
            "DATABASE_URL": options.url,
            "DATA_DIR": folder,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "LOG_LEVEL": "ERROR",
        }
        sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
        from engine.migrations import migrate

        migrate()
        client = signed_in()
        print(f"{'p50':>7} {'p95':>7} {'cpu':>7} {'sql':>4} {'KB':>6}  page")
        for url in pages():
            if url.startswith(options.only):
                show(measure(client, url, options.rounds))


def signed_in() -> FlaskClient:
    """Return a browser with a signed-in admin, on a console with live consumers."""
    from browsers import PASSWORD, Browser, password_hash
    from factories import consumer_of

    from app import create_app
    from engine.models import Consumer, now
    from models import Operator, ReadingSession
    from reading import sample_data

    email = "benchmark@example.org"
    Operator.delete().where(Operator.email == email).execute()
    Operator.create(email=email, role="admin", password_hash=password_hash())
    Consumer.delete().execute()
    for queue in ("heavy", "normal", "light"):
        consumer_of(queue, beat_at=now() + timedelta(hours=1), scheduler_at=now() + timedelta(hours=1))
    if not ReadingSession.select().exists():
        sample_data.load(now())
    app = create_app()
    app.test_client_class = Browser
    client = app.test_client()
    answer = client.sign_in(email, PASSWORD)
    assert answer.status_code == 303, answer.status
    return client


def pages() -> Iterator[str]:
    """Yield every page without an argument, the searches, and one page of each kind with an argument."""
    from app import create_app

    rules = list(create_app().url_map.iter_rules())
    plain = {rule.rule for rule in rules if rule.endpoint.startswith("pages.") and not rule.arguments}
    # A path with a suffix is an export, not a page.
    yield from sorted(rule for rule in plain if "GET" in methods(rules, rule) and "." not in rule)
    yield from ("/?hours=1", "/?hours=168", "/sessions?state=closed", "/sessions?reader=reader")
    yield from (f"/runs?q={quote(search)}" for search in SEARCHES)
    yield from run_pages()
    yield from ("/queues/light", "/tasks/get_cleanup_statistics", "/bulk/new?verb=retry&q=state:failed+ended:24h")
    yield from ("/schedule/close_abandoned_sessions", "/metrics")


def run_pages() -> Iterator[str]:
    """Yield the newest failed and succeeded run, and the list from its middle on."""
    from engine.models import Run

    for state in ("failed", "succeeded"):
        run = Run.select(Run.id).where(Run.state == state).order_by(Run.enqueued_at.desc()).first()
        if run:
            yield from (f"/runs/{run.id}", f"/runs/{run.id}/again")
    middle = Run.select().order_by(Run.enqueued_at).offset(Run.select().count() // 2).first()
    if middle:
        yield f"/runs?before={quote(f'{middle.enqueued_at.isoformat()}_{middle.id}')}"


def methods(rules: list[Rule], path: str) -> set[str]:
    return {method for rule in rules if rule.rule == path for method in rule.methods}


def measure(client: FlaskClient, url: str, rounds: int) -> Cost:
    from budget import statements

    with statements() as sent:
        answer = client.get(url)
    times, cpu = [], []
    for _ in range(rounds if answer.status_code == 200 else 0):
        began, spent = time.perf_counter(), time.process_time()
        client.get(url)
        times.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - spent) * 1000)
    return Cost(url, answer.status_code, times, cpu, len(sent), len(answer.data))


def show(cost: Cost) -> None:
    address = re.sub(r"%20", " ", cost.url)
    if not cost.times:
        print(f"{'–':>7} {'–':>7} {'–':>7} {'–':>4} {'–':>6}  {address} ({cost.status})")
        return
    cuts = quantiles(cost.times, n=20, method="inclusive")
    print(
        f"{cuts[9]:7.1f} {cuts[18]:7.1f} {median(cost.cpu):7.1f}"
        f" {cost.statements:4} {cost.size / 1000:6.1f}  {address}",
        flush=True,
    )


if __name__ == "__main__":
    main()
