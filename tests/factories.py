"""Rows for pages: sessions, runs and consumers, with defaults for every column."""

import re
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import uuid4

from browsers import Browser

from engine.database import database, on_postgresql
from engine.models import Attempt, Consumer, Run, now
from models import Book, ReadingSession, User

numbers = count(1)
ROW_ID = re.compile(r'id="(?:session|run)-([^"]+)"')


def create_session(reader: Any = None, book: Any = None, *, minutes_ago: float = 5, **values: Any) -> ReadingSession:
    """Create an open session unless `values` differ. `reader` is an address, `book` a title or (title, author)."""
    started_at = values.pop("started_at", now() - timedelta(minutes=minutes_ago))
    user, read = values.pop("user", None) or get_reader(reader), values.pop("book_id", None) or create_book(book)
    return ReadingSession.create(user=user, book=read, started_at=started_at, **values)


def create_closed_session(*names: Any, **values: Any) -> ReadingSession:
    ended_at = values.pop("ended_at", now() - timedelta(minutes=1))
    return create_session(
        *names, ended_at=ended_at, is_active=False, **{"duration_minutes": 4, "end_position": 9, **values}
    )


def get_reader(email: str | None) -> User:
    email = email or f"reader{next(numbers)}@example.org"
    return User.get_or_none(User.email == email) or User.create(email=email)


def create_book(name: str | tuple[str, str] | None) -> Book:
    title, author = name if isinstance(name, tuple) else (name or f"Book {next(numbers)}", "An Author")
    return Book.create(title=title, author=author)


@contextmanager
def without_foreign_keys() -> Any:
    """Turn foreign keys off, as in a reading app's database without them."""
    off, on = (
        ("SET session_replication_role = replica", "SET session_replication_role = origin")
        if on_postgresql()
        else ("PRAGMA foreign_keys = 0", "PRAGMA foreign_keys = 1")
    )
    database.execute_sql(off)
    try:
        yield
    finally:
        database.execute_sql(on)


def create_run(task: str = "close_abandoned_sessions", state: str = "succeeded", **values: Any) -> Run:
    at = values.pop("enqueued_at", now())
    columns = {"queue": "light", "args": [], "kwargs": {}, "priority": 2, "asked_by_kind": "schedule", **values}
    return Run.create(id=columns.pop("id", str(uuid4())), task=task, state=state, enqueued_at=at, **columns)


def create_attempt(of: Run, number: int, state: str, **values: Any) -> Attempt:
    return Attempt.create(
        run_id=of.id, number=number, state=state, **{"attempt": number, "started_at": now(), **values}
    )


def cleanup_result(closed_count: int) -> dict[str, Any]:
    return {"closed_count": closed_count, "execution_time_ms": 4.5, "deadline": now().isoformat(), "error": None}


def create_consumer(queue: str, **values: Any) -> Consumer:
    """Store a live consumer that takes no runs."""
    row = {"host": "app-1", "pid": next(numbers), "code_version": "1", "worker_type": "process", "worker_count": 2}
    times = {"started_at": now(), "beat_at": now(), "scheduler_at": now()}
    return Consumer.create(id=f"app-1:{next(numbers)}", queue=queue, periodic=True, **{**row, **times, **values})


def row_ids(html: str) -> list[str]:
    """Return the ids of the sessions or runs of a list, in its order."""
    return ROW_ID.findall(html)


def row_ids_of_all_pages(browser: Browser, url: str, between: Callable[[], object] = lambda: None) -> list[str]:
    """Return the ids of all pages, following the link Older. `between` is called before each further page."""
    ids: list[str] = []
    while url:
        assert len(ids) < 1000, "the pages do not end"
        html = browser.get(url).text
        ids += row_ids(html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = older[1].replace("&amp;", "&") if older else ""
        between()
    return ids
