"""Statistics of closed sessions, as the contract defines them."""

from datetime import timedelta

import pytest
from test_session_cleanup import NOON, create_open_session

from reading import sessions


def create_closed_session(ago: timedelta, minutes: int = 30, start: int = 10, end: int = 20) -> None:
    create_open_session(
        ago + timedelta(minutes=minutes),
        ended_at=NOON - ago,
        duration_minutes=minutes,
        is_active=False,
        start_position=start,
        end_position=end,
    )


def test_statistics_count_closed_sessions_of_the_period_and_all_active(each_database: str) -> None:
    for ago, minutes in ((0, 10), (1, 11), (24, 13)):
        create_closed_session(timedelta(hours=ago), minutes, start=minutes, end=11)
    create_closed_session(timedelta(hours=24, microseconds=1))
    create_closed_session(timedelta(microseconds=-1))  # ends in the future
    create_open_session()
    create_open_session(timedelta(minutes=1))
    create_open_session(ended_at=NOON)  # marked active though ended
    assert sessions.cleanup_statistics(NOON, 24) == {
        "total_closed": 3,
        "total_active": 3,
        "avg_duration_minutes": 11.33,
        "no_progress_count": 1,
        "period_hours": 24,
        "timestamp": "2026-11-23T12:00:00.250000+00:00",
    }


def test_empty_period_has_a_zero_average(each_database: str) -> None:
    statistics = sessions.cleanup_statistics(NOON, 1)
    assert (statistics["total_closed"], statistics["avg_duration_minutes"], statistics["no_progress_count"]) == (
        0,
        0.0,
        0,
    )


@pytest.mark.parametrize("hours", [0, 169, -1, 1.5, "24", None, True])
def test_hours_outside_1_to_168_are_rejected(sqlite_database: None, hours: object) -> None:
    with pytest.raises(sessions.InvalidHours, match="hours must be a whole number from 1 to 168"):
        sessions.cleanup_statistics(NOON, hours)  # type: ignore[arg-type]


def test_overview_counts_abandoned_among_active_sessions(each_database: str) -> None:
    create_open_session()
    create_open_session(timedelta(minutes=10))
    create_closed_session(timedelta(hours=2), minutes=40, start=5, end=5)
    assert sessions.load_overview(NOON, timedelta(hours=2)) == (2, 1, 1, 40.0, 1)


def test_sessions_are_counted_per_clock_hour_with_the_last_unfinished(each_database: str) -> None:
    for minutes in (0, 1, 61, 23 * 60, 24 * 60):
        create_closed_session(timedelta(minutes=minutes))
    hours = sessions.closed_per_hour(NOON)
    assert len(hours) == 24
    assert [(f"{start:%H:%M}", count) for start, count in hours if count] == [
        ("13:00", 1),
        ("10:00", 1),
        ("11:00", 1),
        ("12:00", 1),
    ]
    assert hours[-1] == (NOON.replace(microsecond=0), 1)
