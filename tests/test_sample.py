"""The sample library: current, plausible, reproducible by seed, and created only in an empty database."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.database import database
from models import Book, CreatedTable, ReadingSession, User
from reading.sample_data import AlreadyLoaded, ForeignTables, load
from reading.sessions import close_abandoned, load_overview

AS_OF = datetime(2026, 11, 23, 18, 41, 7, 120, tzinfo=UTC)
TWO_HOURS = timedelta(hours=2)


def load_rows() -> list[Any]:
    return [list(model.select().order_by(model.id).tuples()) for model in (User, Book, ReadingSession)]


@pytest.mark.usefixtures("each_database")
def test_sample_counts_equal_its_rows() -> None:
    counts = load(AS_OF)
    assert counts["readers"] == User.select().count() == 300
    assert counts["books"] == Book.select().count() >= 200
    assert counts["sessions"] == ReadingSession.select().count() == counts["closed"] + counts["active"]
    figures = load_overview(AS_OF, TWO_HOURS)
    assert (figures.active, figures.abandoned) == (counts["active"], counts["abandoned"])


@pytest.mark.usefixtures("each_database")
def test_cleanup_closes_the_abandoned_sample_sessions() -> None:
    counts = load(AS_OF)
    assert close_abandoned(AS_OF, TWO_HOURS, 1000)["closed_count"] == counts["abandoned"]
    assert load_overview(AS_OF, TWO_HOURS).active == counts["active"] - counts["abandoned"]


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("hour", [0, 4, 9, 13, 18, 22])
def test_sample_looks_active_at_any_hour(hour: int) -> None:
    as_of = AS_OF.replace(hour=hour)
    counts = load(as_of)
    assert 4500 <= counts["sessions"] <= 5500
    assert 60 <= counts["active"] - counts["abandoned"] <= 180
    assert 10 <= counts["abandoned"] <= 40
    figures = load_overview(as_of, TWO_HOURS)
    assert figures.closed > 200 and 15 < figures.avg_duration_minutes < 75 and figures.no_progress > 20


@pytest.mark.usefixtures("sqlite_database")
def test_sample_is_determined_by_seed_and_time() -> None:
    first = reload_sample(seed=1)
    assert reload_sample(seed=1) == first
    assert reload_sample(seed=2) != first


def reload_sample(seed: int) -> list[Any]:
    for model in (ReadingSession, Book, User):
        model.delete().execute()
    load(AS_OF, seed)
    return load_rows()


@pytest.mark.usefixtures("sqlite_database")
def test_sample_sessions_are_plausible() -> None:
    load(AS_OF)
    free_at: dict[Any, datetime] = {}
    for session in ReadingSession.select().order_by(ReadingSession.started_at):
        assert AS_OF - timedelta(days=14) <= session.started_at <= (session.ended_at or AS_OF) <= AS_OF
        assert session.is_active == (session.ended_at is None)
        assert 0 <= session.start_position <= 100 and session.end_position <= 100
        assert session.start_position <= session.end_position or (session.is_active and session.end_position == 0)
        assert session.pages_read >= 0
        if session.ended_at:
            assert session.duration_minutes == (session.ended_at - session.started_at) // timedelta(minutes=1)
        assert free_at.get(session.user_id, session.started_at) <= session.started_at, (
            "a reader with two sessions at once"
        )
        free_at[session.user_id] = session.ended_at or AS_OF


@pytest.mark.usefixtures("sqlite_database")
def test_readers_end_most_sessions_and_cleanups_the_rest() -> None:
    load(AS_OF)
    closed = [session for session in ReadingSession.select() if session.ended_at]
    at_half_hours = [session for session in closed if session.ended_at.timestamp() % 1800 == 0]
    assert 0.1 < len(at_half_hours) / len(closed) < 0.4
    assert all(TWO_HOURS < session.ended_at - session.started_at <= TWO_HOURS * 1.25 for session in at_half_hours)
    assert 0.05 < sum(session.start_position == session.end_position for session in closed) / len(closed) < 0.4


@pytest.mark.usefixtures("sqlite_database")
def test_sample_has_daily_and_weekly_patterns() -> None:
    load(AS_OF)
    sessions = list(ReadingSession.select())
    by_hour = Counter(
        (session.started_at.weekday() >= 5, session.started_at.hour) for session in sessions if session.ended_at
    )
    assert by_hour[False, 20] > 5 * by_hour[False, 3]
    assert by_hour[True, 10] / 4 > by_hour[False, 10] / 10
    devices = Counter(session.device_type for session in sessions)
    assert set(devices) == {"phone", "tablet", "e-reader", "desktop", None}


@pytest.mark.usefixtures("sqlite_database")
def test_non_empty_library_is_left_alone() -> None:
    User.create(email="reader@example.org")
    with pytest.raises(AlreadyLoaded):
        load(AS_OF)
    assert (User.select().count(), Book.select().count(), ReadingSession.select().count()) == (1, 0, 0)


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("table", ["users", "books", "reading_sessions"])
def test_library_with_an_adopted_table_gets_no_sample(table: str) -> None:
    CreatedTable.delete().where(CreatedTable.name == table).execute()
    with pytest.raises(ForeignTables):
        load(AS_OF)
    assert User.select().count() == 0


@pytest.mark.usefixtures("sqlite_database")
def test_failed_load_is_rolled_back() -> None:
    database.execute_sql("CREATE TRIGGER stop BEFORE INSERT ON reading_sessions BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(Exception, match="no"):
        load(AS_OF)
    assert (User.select().count(), Book.select().count()) == (0, 0)
