"""The cleanup end to end: a tick starts it, a worker closes abandoned sessions, and the history records it."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import Value
from pathlib import Path

import pytest
from factories import create_session
from huey.consumer import ForkSafeFlag

import tasks
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.database import database, on_postgresql
from engine.history import writer
from engine.models import Run
from engine.worker.scheduler import Scheduler
from models import ReadingSession

MORNING = datetime(2035, 5, 7, 9, 0, tzinfo=UTC)

CLEANUP = "close_abandoned_sessions"


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def light(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Return the queue `light` on a fresh broker, with this thread as its worker."""
    before = tasks.light.storage
    if request.param == "redis":
        tasks.light.storage = RedisStorage("light", request.getfixturevalue("redis_url"), 60, read_timeout=0.05)
    else:
        tasks.light.storage = SqliteStorage("light", tmp_path / "queue.db", 60, read_timeout=0.05)
    tasks.light.set_worker_identity("here", "Worker-1")
    yield
    tasks.light.storage = before


def test_sessions_are_closed_at_each_half_hour(each_database: str) -> None:
    clock = Scheduler(tasks.light, ForkSafeFlag(), 1, True)
    clock.seen_at = Value("d", 0.0)
    create_session(minutes_ago=180)
    young = create_session(minutes_ago=5)
    struck = []
    for minute in range(61):
        clock.poll(MORNING + timedelta(minutes=minute))
        while task := tasks.light.dequeue() if tasks.light.pending_count() else None:
            tasks.light.execute(task)
            if task.name == CLEANUP:
                struck.append(minute)
                create_session(minutes_ago=180)
    assert struck == [0, 30, 60]
    writer.flush_events(tasks.light)
    runs = list(Run.select().where(Run.task == CLEANUP).order_by(Run.enqueued_at))
    assert [run.result["closed_count"] for run in runs] == [1, 1, 1]
    assert {(run.state, run.asked_by_kind, run.asked_by) for run in runs} == {("succeeded", "schedule", "*/30 * * * *")}
    for run in runs:
        assert ReadingSession.select().where(ReadingSession.ended_at == run.instant_at).count() == 1
    assert ReadingSession.get_by_id(young.id).is_active


def break_the_table() -> None:
    """Make it impossible to close a session that began at 13 %, by an error outside the row."""
    if on_postgresql():
        database.execute_sql(
            "CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.start_position = 13 THEN INSERT INTO missing VALUES (1); END IF; RETURN NEW; END $$"
        )
        when = "FOR EACH ROW EXECUTE FUNCTION stumble()"
    else:
        when = "WHEN NEW.start_position = 13 BEGIN INSERT INTO missing VALUES (1); END"
    database.execute_sql(f"CREATE TRIGGER stumble BEFORE UPDATE ON reading_sessions {when}")


def test_failed_cleanup_returns_its_count_and_error(each_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "settings", replace(tasks.settings, cleanup_batch_size=2))
    for minutes_ago in (200, 190):
        create_session(minutes_ago=minutes_ago)
    create_session(minutes_ago=180, start_position=13)
    break_the_table()
    result = tasks.close_abandoned_sessions()
    for number in range(1, 5):
        assert result.get() is None, "the error of an earlier attempt must not be the result"
        tasks.light.storage.messages.enqueue_due(time.time() + number * 301)
        task = tasks.light.dequeue()
        assert task is not None
        tasks.light.execute(task, (datetime.now(UTC) + timedelta(seconds=number * 301)).replace(tzinfo=None))
        result.reset()
    final = result.get()
    assert list(final) == ["closed_count", "execution_time_ms", "deadline", "error"]
    # SQLite checks the trigger's table whatever its condition, so the first batch fails there too.
    closed = 2 if on_postgresql() else 0
    assert final["closed_count"] == closed
    assert "missing" in final["error"]
    writer.flush_events(tasks.light)
    run = Run.get_by_id(result.id)
    assert (run.state, run.attempts, run.result) == ("failed", 4, final)
    assert [attempt.state for attempt in run.history] == ["failed"] * 4
    assert ReadingSession.select().where(ReadingSession.ended_at == run.instant_at).count() == closed
