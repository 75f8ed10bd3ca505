"""The sample library: alive, plausible, the same for a seed, and only where nobody else's rows are."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.database import database
from models import Book, OwnTable, ReadingSession, User
from reading.sample_data import AlreadyLoaded, NotOwnLibrary, load
from reading.sessions import close_abandoned, overview

AS_OF = datetime(2026, 11, 23, 18, 41, 7, 120, tzinfo=UTC)
TWO_HOURS = timedelta(hours=2)


def rows() -> list[Any]:
    return [list(model.select().order_by(model.id).tuples()) for model in (User, Book, ReadingSession)]


@pytest.mark.usefixtures("each_database")
def test_it_counts_what_it_loads() -> None:
    counts = load(AS_OF)
    assert counts["readers"] == User.select().count() == 300
    assert counts["books"] == Book.select().count() >= 200
    assert counts["sessions"] == ReadingSession.select().count() == counts["closed"] + counts["active"]
    figures = overview(AS_OF, TWO_HOURS)
    assert (figures.active, figures.abandoned) == (counts["active"], counts["abandoned"])


@pytest.mark.usefixtures("each_database")
def test_the_job_closes_what_is_abandoned_in_it() -> None:
    counts = load(AS_OF)
    assert close_abandoned(AS_OF, TWO_HOURS, 1000)["closed_count"] == counts["abandoned"]
    assert overview(AS_OF, TWO_HOURS).active == counts["active"] - counts["abandoned"]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("hour", [0, 4, 9, 13, 18, 22])
def test_the_first_screen_is_alive_at_any_hour(hour: int) -> None:
    as_of = AS_OF.replace(hour=hour)
    counts = load(as_of)
    assert 4500 <= counts["sessions"] <= 5500
    assert 60 <= counts["active"] - counts["abandoned"] <= 180
    assert 10 <= counts["abandoned"] <= 40
    figures = overview(as_of, TWO_HOURS)
    assert figures.closed > 200 and 15 < figures.avg_duration_minutes < 75 and figures.no_progress > 20


@pytest.mark.usefixtures("library")
def test_a_seed_and_an_instant_always_give_the_same_library_and_another_seed_another() -> None:
    first = loaded_afresh(seed=1)
    assert loaded_afresh(seed=1) == first
    assert loaded_afresh(seed=2) != first


def loaded_afresh(seed: int) -> list[Any]:
    for model in (ReadingSession, Book, User):
        model.delete().execute()
    load(AS_OF, seed)
    return rows()


@pytest.mark.usefixtures("library")
def test_every_session_is_possible() -> None:
    load(AS_OF)
    free_at: dict[Any, datetime] = {}
    for one in ReadingSession.select().order_by(ReadingSession.started_at):
        assert AS_OF - timedelta(days=14) <= one.started_at <= (one.ended_at or AS_OF) <= AS_OF
        assert one.is_active == (one.ended_at is None)
        assert 0 <= one.start_position <= 100 and one.end_position <= 100
        assert one.start_position <= one.end_position or (one.is_active and one.end_position == 0)
        assert one.pages_read >= 0
        if one.ended_at:
            assert one.duration_minutes == (one.ended_at - one.started_at) // timedelta(minutes=1)
        assert free_at.get(one.user_id, one.started_at) <= one.started_at, "a reader with two sessions at once"
        free_at[one.user_id] = one.ended_at or AS_OF


@pytest.mark.usefixtures("library")
def test_readers_end_most_sessions_and_earlier_cleanups_the_others() -> None:
    load(AS_OF)
    closed = [one for one in ReadingSession.select() if one.ended_at]
    at_half_hours = [one for one in closed if one.ended_at.timestamp() % 1800 == 0]
    assert 0.1 < len(at_half_hours) / len(closed) < 0.4
    assert all(TWO_HOURS < one.ended_at - one.started_at <= TWO_HOURS * 1.25 for one in at_half_hours)
    assert 0.05 < sum(one.start_position == one.end_position for one in closed) / len(closed) < 0.4


@pytest.mark.usefixtures("library")
def test_evenings_are_full_nights_are_quiet_and_weekends_differ() -> None:
    load(AS_OF)
    sessions = list(ReadingSession.select())
    by_hour = Counter((one.started_at.weekday() >= 5, one.started_at.hour) for one in sessions if one.ended_at)
    assert by_hour[False, 20] > 5 * by_hour[False, 3]
    assert by_hour[True, 10] / 4 > by_hour[False, 10] / 10
    devices = Counter(one.device_type for one in sessions)
    assert set(devices) == {"phone", "tablet", "e-reader", "desktop", None}


@pytest.mark.usefixtures("library")
def test_a_library_with_anything_in_it_is_left_alone() -> None:
    User.create(email="somebody@example.org")
    with pytest.raises(AlreadyLoaded):
        load(AS_OF)
    assert (User.select().count(), Book.select().count(), ReadingSession.select().count()) == (1, 0, 0)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("table", ["users", "books", "reading_sessions"])
def test_a_library_of_which_one_table_was_there_before_takes_no_sample(table: str) -> None:
    OwnTable.delete().where(OwnTable.name == table).execute()
    with pytest.raises(NotOwnLibrary):
        load(AS_OF)
    assert User.select().count() == 0


@pytest.mark.usefixtures("library")
def test_what_fails_half_way_leaves_nothing_behind() -> None:
    database.execute_sql("CREATE TRIGGER stop BEFORE INSERT ON reading_sessions BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(Exception, match="no"):
        load(AS_OF)
    assert (User.select().count(), Book.select().count()) == (0, 0)
