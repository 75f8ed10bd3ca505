"""Counts and durations of requests, summed in the database across web processes and restarts.

A process adds its counts every few seconds, when `/metrics` is read, and at its end. One statement stores them all, so
a refreshing page costs no write. SIGKILL loses the last few seconds.
"""

import atexit
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import NamedTuple, cast

from flask import Flask, Response, current_app, g, request

from admin.auth import refusals
from engine.back_off import BackOff
from engine.database import database, release_connection
from engine.history.run_counts import BUCKETS_PER_DOUBLING, bucket_bounds, duration_bucket
from models import HttpCount

FLUSH_SECONDS = 5
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ROWS_PER_INSERT = 200


class RequestKind(NamedTuple):
    """The key of a count. `bucket` is a whole doubling of the duration."""

    endpoint: str
    method: str
    status: int
    bucket: int


class RequestCounter:
    """Requests of this process that are not yet in the database. The number of kinds is bounded."""

    def __init__(self) -> None:
        self.lock, self.pending = Lock(), Counter[RequestKind]()
        self.writing = Lock()
        self.back_off = BackOff("The request counter")

    def record(self, endpoint: str | None, method: str, status: int, seconds: float) -> None:
        kind = RequestKind(
            endpoint or "", method if method in METHODS else "other", status, latency_bucket(seconds * 1000)
        )
        with self.lock:
            self.pending[kind] += 1

    def write(self) -> None:
        """Add the counts to the database, or keep them for the next call if that fails."""
        with self.writing:
            with self.lock:
                unwritten, self.pending = self.pending, Counter()
            try:
                with database.atomic():
                    add_counts(sorted(unwritten.items()))
                self.back_off.succeeded()
            except Exception as error:
                with self.lock:
                    self.pending.update(unwritten)
                self.back_off.failed(error)

    def flush_loop(self, ended: Event) -> None:
        while not ended.wait(FLUSH_SECONDS):
            self.write()
            refusals.write_counts()
            with suppress(Exception):  # a broken connection is discarded
                release_connection()


def latency_bucket(ms: float) -> int:
    """Return the first bucket of the doubling, numbered as in `engine.history.run_counts`."""
    return duration_bucket(ms) // BUCKETS_PER_DOUBLING * BUCKETS_PER_DOUBLING


def bucket_middle_ms(doubling: int) -> float:
    return (bucket_bounds(doubling)[0] + bucket_bounds(doubling + BUCKETS_PER_DOUBLING - 1)[1]) / 2


def add_counts(rows: Iterable[tuple[RequestKind, int]]) -> None:
    """Add sorted rows. The order keeps two processes from a deadlock."""
    values = [[*kind, count] for kind, count in rows]
    row = f"({', '.join([database.param] * 5)})"
    for start in range(0, len(values), ROWS_PER_INSERT):
        part = values[start : start + ROWS_PER_INSERT]
        database.execute_sql(
            "INSERT INTO dewey_http_counts (endpoint, method, status, bucket, count)"
            f" VALUES {', '.join([row] * len(part))}"
            " ON CONFLICT (endpoint, method, status, bucket)"
            " DO UPDATE SET count = dewey_http_counts.count + excluded.count",
            [value for row_values in part for value in row_values],
        )


def load_totals() -> list[tuple[RequestKind, int]]:
    columns = (HttpCount.endpoint, HttpCount.method, HttpCount.status, HttpCount.bucket, HttpCount.count)
    rows = cast(Iterable[tuple[str, str, int, int, int]], HttpCount.select(*columns).tuples())
    return [(RequestKind(*row[:4]), int(row[4])) for row in rows]


def register(app: Flask) -> None:
    app.extensions["traffic"] = RequestCounter()
    app.before_request(start_timer)
    app.after_request(count_request)


def request_counter(app: Flask) -> RequestCounter:
    return app.extensions["traffic"]


def start_timer() -> None:
    g.began = time.perf_counter()


def count_request(response: Response) -> Response:
    took = time.perf_counter() - g.began
    request_counter(current_app).record(request.endpoint, request.method, response.status_code, took)
    return response


def start_flushing(app: Flask) -> None:
    """Write counts of requests and refusals every few seconds and at exit.

    Call it in the serving process, after the fork.
    """
    traffic, ended = request_counter(app), Event()
    thread = Thread(target=traffic.flush_loop, args=[ended], name="traffic", daemon=True)
    thread.start()

    def write_the_last() -> None:
        ended.set()
        thread.join(1)
        traffic.write()
        refusals.write_counts(of_all=True)
        release_connection()

    atexit.register(write_the_last)
