"""Statistics of closed sessions, in the contract's shape."""

from datetime import timedelta

import pytest
from test_closing import NOON, opened

from reading import sessions


def closed(ago: timedelta, minutes: int = 30, start: int = 10, end: int = 20) -> None:
    opened(
        ago + timedelta(minutes=minutes),
        ended_at=NOON - ago,
        duration_minutes=minutes,
        is_active=False,
        start_position=start,
        end_position=end,
    )


def test_closed_sessions_of_the_period_and_all_active_ones_are_counted(each_database: str) -> None:
    for ago, minutes in ((0, 10), (1, 11), (24, 13)):
        closed(timedelta(hours=ago), minutes, start=minutes, end=11)
    closed(timedelta(hours=24, microseconds=1))
    closed(timedelta(microseconds=-1))  # ends in the future
    opened()
    opened(timedelta(minutes=1))
    opened(ended_at=NOON)  # marked active though ended
    assert sessions.cleanup_statistics(NOON, 24) == {
        "total_closed": 3,
        "total_active": 3,
        "avg_duration_minutes": 11.33,
        "no_progress_count": 1,
        "period_hours": 24,
        "timestamp": "2026-11-23T12:00:00.250000+00:00",
    }


def test_an_empty_period_has_an_average_of_nought(each_database: str) -> None:
    statistics = sessions.cleanup_statistics(NOON, 1)
    assert (statistics["total_closed"], statistics["avg_duration_minutes"], statistics["no_progress_count"]) == (
        0,
        0.0,
        0,
    )


@pytest.mark.parametrize("hours", [0, 169, -1, 1.5, "24", None, True])
def test_hours_outside_1_to_168_are_refused(library: None, hours: object) -> None:
    with pytest.raises(sessions.BadHours, match="hours must be a whole number from 1 to 168"):
        sessions.cleanup_statistics(NOON, hours)  # type: ignore[arg-type]


def test_the_overview_counts_the_abandoned_among_the_active(each_database: str) -> None:
    opened()
    opened(timedelta(minutes=10))
    closed(timedelta(hours=2), minutes=40, start=5, end=5)
    assert sessions.overview(NOON, timedelta(hours=2)) == (2, 1, 1, 40.0, 1)


def test_each_clock_hour_has_its_count_and_the_last_one_is_still_filling(each_database: str) -> None:
    for minutes in (0, 1, 61, 23 * 60, 24 * 60):
        closed(timedelta(minutes=minutes))
    hours = sessions.closed_per_hour(NOON)
    assert len(hours) == 24
    assert [(f"{start:%H:%M}", count) for start, count in hours if count] == [
        ("13:00", 1),
        ("10:00", 1),
        ("11:00", 1),
        ("12:00", 1),
    ]
    assert hours[-1] == (NOON.replace(microsecond=0), 1)
