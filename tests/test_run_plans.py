"""Every page of runs uses the intended index, even with misleading statistics."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from databases import bound_to_library, create_postgresql, execute_autocommit
from test_plans import explain_statements

from engine.control.bulk import preflight
from engine.database import database, on_postgresql
from engine.models import Run
from engine.monitor.queue_contents import count_enqueued
from engine.search.filters import contains
from engine.search.query_plan import RunQuery, TimeRange
from engine.search.run_search import all_matching, count_by_state, search_runs

AS_OF = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)

#: 30,000 runs, a second apart, nearly all succeeded. The old task was last enqueued in the first hour.
FILL = """
    INSERT INTO dewey_runs (id, task, queue, state, enqueued_at, ended_at, asked_by_kind, asked_by, parent_id, retries,
                            attempts, deliveries, error_group)
    SELECT {id}, CASE WHEN i > 26400 THEN 'old' ELSE 'new' END, CASE WHEN i % 3 = 0 THEN 'normal' ELSE 'light' END,
           CASE WHEN i % 1000 = 7 THEN 'waiting' WHEN i % 100 = 0 THEN 'failed' ELSE 'succeeded' END,
           {at}, CASE WHEN i % 1000 = 7 THEN NULL ELSE {at} END,
           CASE WHEN i % 500 = 0 THEN 'operator' ELSE 'code' END, 'anna', CASE WHEN i % 300 = 0 THEN 'p' END, 0, 1, 1,
           CASE WHEN i % 100 = 0 THEN 'e' END
    FROM ({series}) AS series"""
ON_POSTGRESQL = {
    "id": "gen_random_uuid()",
    "at": "timestamptz '2026-11-23 18:00Z' - i * interval '1 second'",
    "series": "SELECT generate_series(1, 30000) AS i",
}
ON_SQLITE = {
    "id": "lower(hex(randomblob(16)))",
    "at": "datetime('2026-11-23 18:00', (-i) || ' seconds') || '+00:00'",
    "series": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) SELECT i FROM n",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def many_runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('plans')}/library.db"
        else:
            url = stack.enter_context(create_postgresql(request.getfixturevalue("postgresql_url")))
        stack.enter_context(bound_to_library(url))
        filled = FILL.format(**(ON_POSTGRESQL if on_postgresql() else ON_SQLITE))
        database.execute_sql(filled.replace("%", "%%") if on_postgresql() else filled)
        database.execute_sql("ANALYZE")
        if on_postgresql():
            execute_autocommit(url, "VACUUM ANALYZE dewey_runs")
        yield


names = frozenset
LOOKUPS = {
    "newest": RunQuery(),
    "state": RunQuery(states=names({"failed"})),
    "task": RunQuery(tasks=names({"old"})),
    "task_state": RunQuery(tasks=names({"old"}), states=names({"succeeded", "dead"})),
    "queue_state": RunQuery(queues=names({"light"})),
    "state_ended": RunQuery(ended=TimeRange(AS_OF - timedelta(hours=2)), states=names({"failed"})),
    "people": RunQuery(people=names({"anna"})),
    "children": RunQuery(parents=names({"p"})),
    "error": RunQuery(errors=names({"e"})),
}
WHOLE_TABLE = r"Seq Scan on dewey_runs|SCAN (t\d+|dewey_runs)(?! USING)|USE TEMP B-TREE FOR ORDER BY.*SCAN"


@pytest.mark.parametrize("index", LOOKUPS)
@pytest.mark.parametrize("looking", [False, True], ids=["exact", "looking"])
def test_page_is_read_from_its_index(many_runs: None, index: str, looking: bool) -> None:
    query = LOOKUPS[index]
    if looking:
        query = RunQuery(**{**vars(query), "row_filters": (contains(Run.error, ["zip"]),)})
        index = {"queue_state": "newest"}.get(index, index)
    for before in ("", f"{(AS_OF - timedelta(hours=1)).isoformat()}_8"):
        plans = explain_statements(lambda: search_runs(query, 30, before))  # noqa: B023
        assert f"dewey_runs_{index}" in plans[0][1]
        for statement, plan in plans:
            assert not re.search(WHOLE_TABLE, plan), (statement, plan)


@pytest.mark.parametrize("index", ["state", "task_state", "queue_state", "state_ended"])
def test_tab_counts_are_read_from_an_index(many_runs: None, index: str) -> None:
    ((statement, plan),) = explain_statements(lambda: count_by_state(LOOKUPS[index]))
    assert f"dewey_runs_{index}" in plan
    assert not re.search(WHOLE_TABLE, plan), statement


@pytest.mark.parametrize("looking", [False, True], ids=["exact", "looking"])
def test_page_takes_at_most_three_statements(many_runs: None, looking: bool) -> None:
    looks = (contains(Run.error, ["zip"]),) if looking else ()
    query = RunQuery(tasks=names({"old", "new"}), states=names({"failed", "dead", "succeeded"}), row_filters=looks)
    assert len(explain_statements(lambda: search_runs(query, 30))) <= 3


def test_runs_that_ended_in_a_window_are_read_from_the_end_index(many_runs: None) -> None:
    ended = {"ended": TimeRange(AS_OF - timedelta(minutes=5)), "enqueued": TimeRange(None, AS_OF)}
    query = RunQuery(states=names({"succeeded"}), **ended)
    ((statement, plan),) = explain_statements(lambda: preflight(all_matching(query), 0))[:1]
    assert "dewey_runs_state_ended" in plan, (statement, plan)


@pytest.mark.parametrize("queues", [["light"], ["heavy", "normal", "light"]])
def test_recent_enqueues_are_counted_without_reading_older_runs(many_runs: None, queues: list[str]) -> None:
    since = AS_OF - timedelta(minutes=5)
    assert count_enqueued(queues, since)["light"] == 200
    ((statement, plan),) = explain_statements(lambda: count_enqueued(queues, since))
    assert re.search(r"enqueued_at ?>", plan), (statement, plan)
