"""The write probe of `/readyz` takes at most two seconds, runs at most every five, and never blocks web threads."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psycopg2
import pytest
from databases import bound_to_library
from servers import RedisServer
from waiting import wait_until

from engine.broker.redis.storage import RedisStorage
from engine.monitor import write_probe
from engine.monitor.write_probe import WriteProbe
from engine.outages import error_reason


class ProbedQueue(NamedTuple):
    """The part of a queue that the probe uses."""

    storage: RedisStorage


def measure(ask: Callable[[], Exception | None]) -> tuple[Exception | None, float]:
    began = time.monotonic()
    return ask(), time.monotonic() - began


@pytest.mark.alone
def test_frozen_broker_is_reported_within_two_seconds_and_probed_once(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    queue = ProbedQueue(RedisStorage("any", server.url, 60))
    server.process.send_signal(signal.SIGSTOP)
    error, took = measure(lambda: write_probe.broker_error(queue))
    assert (type(error), took < 2.5) == (TimeoutError, True)
    error, took = measure(lambda: write_probe.broker_error(queue))
    assert (type(error), took < 0.5) == (TimeoutError, True)
    assert sum(thread.name == "write probe" for thread in threading.enumerate()) == 1
    server.process.send_signal(signal.SIGCONT)
    wait_until(lambda: write_probe.broker_error(queue) is None)
    server.kill()


@pytest.mark.alone
def test_locked_database_is_reported_within_two_seconds(fresh_postgresql: str) -> None:
    with bound_to_library(fresh_postgresql):
        assert write_probe.database_error() is None
        write_probe.rows.last = None  # equals five seconds later
        with psycopg2.connect(fresh_postgresql) as other:
            other.cursor().execute("SELECT 1 FROM dewey_write_probe FOR UPDATE")
            error, took = measure(write_probe.database_error)
            other.rollback()
        other.close()
        assert (error_reason(error), took < 2.0) == ("canceling statement due to statement timeout", True)


@pytest.mark.usefixtures("sqlite_database")
def test_probe_result_is_cached_for_five_seconds_per_server(monkeypatch: pytest.MonkeyPatch) -> None:
    tries, probe, server = list[float](), WriteProbe(), object()

    def write() -> None:
        tries.append(time.monotonic())
        raise ValueError("no")

    errors = [probe.error(server, write) for _ in range(3)]
    assert (len(tries), [str(error) for error in errors]) == (1, ["no"] * 3)
    probe.error(object(), write)
    assert len(tries) == 2
    monkeypatch.setattr(write_probe, "EVERY_SECONDS", 0.1)
    wait_until(lambda: probe.error(probe.last.target, write) and len(tries) > 2)
    assert tries[2] - tries[1] >= 0.1
