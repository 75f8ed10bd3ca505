"""Hourly charts of runs: in time zones with offsets below an hour, and at clock changes."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from admin.display import bar_chart
from admin.display.bar_chart import Chart
from admin.operations.statistics import WINDOWS
from engine.history.run_counts import Bucket

NOON = datetime(2026, 6, 10, 12, 7, tzinfo=UTC)


def chart_at(app: Flask, zone: str, as_of: datetime, hours: int) -> Chart:
    """Return the overview's chart of this many hours up to `as_of`, for a user in this zone."""
    window = next(window for window in WINDOWS if window.hours == hours)
    last = int(as_of.timestamp()) // window.step * window.step
    starts = range(last - window.step * (window.bars - 1), last + 1, window.step)
    slots = [Bucket(datetime.fromtimestamp(start, UTC), Counter()) for start in starts]
    with app.test_request_context(headers={"Cookie": f"zone={zone}"}):
        return bar_chart.runs_chart(slots, window.step, as_of)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Honolulu", "Pacific/Kiritimati"])
def test_axis_labels_are_distinct_at_every_hour(app: Flask, zone: str) -> None:
    for hours_later in range(24):
        as_of = NOON + timedelta(hours=hours_later)
        day, week = (chart_at(app, zone, as_of, hours) for hours in (24, 168))
        assert [bar.filling for bar in day.bars] == [False] * 23 + [True]
        labels = [bar.label for bar in day.bars if bar.label]
        assert len(set(labels)) == len(labels) == 8
        assert {int(label[:2]) % 3 for label in labels} == {0}
        days = [bar.label for bar in week.bars if bar.label]
        assert len(set(days)) == len(days) == 7
        assert week.bars[-1].when.startswith(days[-1])


@pytest.mark.parametrize(
    ("zone", "change", "before", "after"),
    [
        ("Europe/Berlin", "2026-03-29T01:00", "01:00 CET", "03:00 CEST"),
        ("Europe/Berlin", "2026-10-25T01:00", "02:00 CEST", "02:00 CET"),
        ("America/New_York", "2026-03-08T07:00", "01:00 EST", "03:00 EDT"),
        ("America/New_York", "2026-11-01T06:00", "01:00 EDT", "01:00 EST"),
    ],
)
def test_bars_around_a_clock_change_name_their_zone(
    app: Flask, zone: str, change: str, before: str, after: str
) -> None:
    at = datetime.fromisoformat(change).replace(tzinfo=UTC)
    day = chart_at(app, zone, at + timedelta(hours=5), 24)
    times = {bar.start: bar.when for bar in day.bars}
    assert (times[at - timedelta(hours=1)], times[at]) == (before, after)
    assert len(set(times.values())) == 24
    assert day.zone == ""
    later = chart_at(app, zone, at + timedelta(hours=24), 24)
    assert (later.zone, later.bars[0].when) == (after[-len(later.zone) :], f"{int(after[:2]) + 1:02}:00")
