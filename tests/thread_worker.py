"""A worker in a thread of the test process, and a cleanup that fails permanently at its first attempt."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from waiting import wait_until

import tasks
from engine.database import database
from engine.models import now
from models import Book, ReadingSession, User


@contextmanager
def process_one_run() -> Iterator[None]:
    """Take and execute the next run on `light` in parallel with the block."""

    def work() -> None:
        tasks.light.execute(wait_until(tasks.light.dequeue))
        tasks.light.storage.close()

    with ThreadPoolExecutor(1) as worker:
        worked = worker.submit(work)
        yield
        worked.result()


def make_cleanup_fail(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the cleanup fail on SQLite. Return the error. There is one abandoned session."""
    monkeypatch.setattr(tasks.close_abandoned_sessions.task_class, "default_retries", 0)
    user, book = User.create(email="reader@example.org"), Book.create(title="A", author="B")
    ReadingSession.create(user=user, book=book, started_at=now() - timedelta(hours=3))
    database.execute_sql("CREATE TRIGGER t BEFORE UPDATE ON reading_sessions BEGIN INSERT INTO gone VALUES (1); END")
    return "no such table: main.gone"
