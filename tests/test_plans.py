"""Every query of a page, the cleanup or the statistics uses an index, with 200,000 sessions."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from databases import bound_to_library, create_postgresql
from peewee import Field

from engine.database import database, on_postgresql
from engine.models import Run
from engine.search.pagination import Page, fetch_page
from models import Book, ReadingSession, User
from reading import sessions

AS_OF = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
TWO_HOURS = timedelta(hours=2)
CLEANUP, STATISTICS, ACTIVE = (f"idx_reading_sessions_{name}" for name in ("cleanup", "statistics", "active"))
OPEN = f"{CLEANUP}|{ACTIVE}"

#: 200,000 sessions, one each 26 s for 60 days. The newest 400 are active, 123 of them longer than two hours.
FILL = """
    INSERT INTO reading_sessions (id, user_id, book_id, started_at, ended_at, duration_minutes, end_position, is_active)
    SELECT {id}, (SELECT id FROM users), (SELECT id FROM books), {started}, {ended}, i & 63, i & 31, i > 199600
    FROM ({series}) AS series"""
ON_POSTGRESQL = {
    "id": "gen_random_uuid()",
    "started": "timestamptz '2026-11-23 18:00Z' - (200000 - i) * interval '26 seconds'",
    "ended": "CASE WHEN i <= 199600 THEN"
    " timestamptz '2026-11-23 18:00Z' - (200000 - i - 50) * interval '26 seconds' END",
    "series": "SELECT generate_series(1, 200000) AS i",
}
ON_SQLITE = {
    "id": "lower(hex(randomblob(16)))",
    "started": "datetime('2026-11-23 18:00', (-26 * (200000 - i)) || ' seconds') || '+00:00'",
    "ended": "CASE WHEN i <= 199600 THEN"
    " datetime('2026-11-23 18:00', (-26 * (200000 - i - 50)) || ' seconds') || '+00:00' END",
    "series": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT i FROM n",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def big_library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('big')}/library.db"
        else:
            url = stack.enter_context(create_postgresql(request.getfixturevalue("postgresql_url")))
        stack.enter_context(bound_to_library(url))
        User.create(email="a@example.org")
        Book.create(title="Emma", author="Jane Austen")
        database.execute_sql(FILL.format(**(ON_POSTGRESQL if on_postgresql() else ON_SQLITE)))
        if on_postgresql():
            database.execute_sql("ANALYZE")
        yield


def list_page(name: str, at: Field) -> Page:
    query = ReadingSession.with_reader_and_book(ReadingSession.list_conditions(AS_OF, TWO_HOURS)[name])
    return fetch_page(query, at, ReadingSession.id, 50)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        pytest.param(lambda: sessions.count_abandoned(AS_OF, TWO_HOURS), CLEANUP, id="count_abandoned"),
        pytest.param(lambda: sessions.close_abandoned(AS_OF, TWO_HOURS, 50), CLEANUP, id="close_abandoned"),
        pytest.param(lambda: sessions.count_active(), OPEN, id="count_active"),
        pytest.param(lambda: sessions.cleanup_statistics(AS_OF, 1), STATISTICS, id="statistics_of_an_hour"),
        pytest.param(lambda: sessions.cleanup_statistics(AS_OF, 168), STATISTICS, id="statistics_of_a_week"),
        pytest.param(lambda: sessions.load_overview(AS_OF, TWO_HOURS), STATISTICS, id="overview"),
        pytest.param(lambda: sessions.closed_per_hour(AS_OF), STATISTICS, id="closed_per_hour"),
        pytest.param(lambda: sessions.count_closed_at(AS_OF), STATISTICS, id="count_closed_at"),
        pytest.param(lambda: list_page("active", ReadingSession.started_at), ACTIVE, id="active_sessions"),
        pytest.param(lambda: list_page("abandoned", ReadingSession.started_at), OPEN, id="abandoned_sessions"),
        pytest.param(lambda: list_page("closed", ReadingSession.ended_at), STATISTICS, id="closed_sessions"),
    ],
)
def test_session_statement_uses_its_index(big_library: None, query: Callable[[], Any], index: str) -> None:
    plans = explain_statements(query)
    assert any(re.search(index, plan) for _, plan in plans), plans
    for statement, plan in plans:
        assert not re.search(r"Seq Scan on reading_sessions|SCAN (t1|reading_sessions)(?! USING)", plan), statement


def test_abandoned_session_queries_use_the_active_index(big_library: None) -> None:
    plans = explain_statements(lambda: sessions.close_abandoned(AS_OF, TWO_HOURS, 50))
    searches = [plan for statement, plan in plans if statement.startswith("SELECT")]
    assert len(searches) == 4  # how many, and three batches
    for plan in searches:
        assert re.search(OPEN, plan)


def test_newest_runs_are_read_from_an_index(each_database: str) -> None:
    (_, plan), *_ = explain_statements(Run.recent)
    assert "dewey_runs_newest" in plan


def explain_statements(query: Callable[[], Any]) -> list[tuple[str, str]]:
    """Run the function, roll back, and return the database's plan for each of its statements."""
    sent: list[tuple[str, Any]] = []
    hook = lambda event: sent.append((event.sql, event.params))  # noqa: E731
    with database.atomic() as transaction:
        database.query_hooks.append(hook)
        query()
        database.query_hooks.remove(hook)
        transaction.rollback()
    return [(sql, explain(sql, params)) for sql, params in sent if sql.lstrip("(").startswith(("SELECT", "UPDATE"))]


def explain(sql: str, params: Any) -> str:
    explain = "EXPLAIN" if on_postgresql() else "EXPLAIN QUERY PLAN"
    return "\n".join(str(row[-1]) for row in database.execute_sql(f"{explain} {sql}", params).fetchall())
