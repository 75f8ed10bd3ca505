"""The format of durations, times, numbers and user names."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from admin.display import bar_chart, labels, numbers
from engine.models import Run
from engine.search.pagination import COUNT_LIMIT

NOW = datetime(2026, 11, 23, 17, 33, 36, 385505, UTC)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "–"), (0, "< 1 ms"), (0.4, "< 1 ms"), (41.4, "41 ms"), (999.4, "999 ms"), (999.9, "1.0 s"),
        (1234, "1.2 s"), (9949, "9.9 s"), (9951, "10 s"), (59_600, "1 min"), (252_000, "4 min 12 s"),
        (3_600_000, "1 h"), (11_100_000, "3 h 5 min"), (187_200_000, "2 d 4 h"),
    ],
)  # fmt: skip
def test_duration_has_a_readable_unit(ms: float | None, text: str) -> None:
    assert numbers.format_duration(ms) == text


@pytest.mark.parametrize(
    ("minutes", "text"), [(None, "–"), (0, "0 min"), (-7, "-7 min"), (45, "45 min"), (125, "2 h 5 min"), (4320, "3 d")]
)
def test_session_length_is_in_minutes_or_larger_units(minutes: int | None, text: str) -> None:
    assert numbers.format_minutes(minutes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"), (1, "now"), (-1, "now"), (12, "12 s ago"), (61, "1 min ago"), (7300, "2 h ago"),
        (200_000, "2 d ago"), (-30, "in 30 s"), (-119, "in 1 min"), (-90_000, "in 1 d"),
    ],
)  # fmt: skip
def test_age_has_one_unit(seconds: int, text: str) -> None:
    assert numbers.format_ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_past_due_time_is_now() -> None:
    assert numbers.format_due(NOW - timedelta(hours=1), NOW) == "now"
    assert numbers.format_due(NOW + timedelta(hours=1), NOW) == "in 1 h"


@pytest.mark.parametrize(
    ("seconds", "text"), [(761, "12:41"), (0, "00:00"), (-5, "00:00"), (3600, "1:00:00"), (36_061, "10:01:01")]
)
def test_timer_counts_minutes_and_seconds_down_to_zero(seconds: int, text: str) -> None:
    assert numbers.format_timer(NOW + timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (NOW, "17:33:36"),
        (NOW.replace(day=2), "2 Nov 17:33"),
        (NOW.replace(year=2025), "23 Nov 2025"),
        (NOW.astimezone(tz=datetime.strptime("+0300", "%z").tzinfo), "17:33:36"),
    ],
)
def test_time_of_today_has_no_date(instant: datetime, text: str) -> None:
    assert numbers.short_timestamp(instant, NOW) == text


def test_numbers_have_thousands_separators_and_a_limit() -> None:
    assert [numbers.format_number(value) for value in (0, 1234567, 23.5, 23.0, None)] == [
        "0",
        "1,234,567",
        "23.5",
        "23",
        "–",
    ]
    assert numbers.format_capped(COUNT_LIMIT) == "10,000"
    assert numbers.format_capped(COUNT_LIMIT + 1) == "10,000+"
    assert [numbers.format_percent(*pair) for pair in ((0, 0), (12, 391), (1, 5000), (5, 5))] == [
        "0%",
        "3.1%",
        "<\u00a00.1%",
        "100%",
    ]


def test_percent_sign_never_breaks_from_its_number(app: Flask) -> None:
    with app.test_request_context(headers={"Cookie": "language=ru"}):
        shown = [numbers.format_percent(12, 391), numbers.format_percent(1, 5000), numbers.format_cpu(104.2)]
    assert shown == ["3,1\u00a0%", "<\u00a00,1\u00a0%", "104\u00a0%"]


def test_plural_follows_its_number() -> None:
    sentence = ("%(num)s session on %(queue)s", "%(num)s sessions on %(queue)s")
    assert labels.ngettext_capped(*sentence, 1, queue="light") == "1 session on light"
    assert labels.ngettext_capped(*sentence, 1204, queue="a %s {b}") == "1,204 sessions on a %s {b}"


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("schedule", None, "schedule"), ("operator", "ann@example.org", "ann@example.org"),
        ("token", "uploader", "token uploader"), ("cli", "root", "command line (root)"), ("cli", None, "command line"),
        ("run", "8b6ed5c7-2a4f", "run 8b6ed5c7…"), ("code", None, "code"), (None, None, "unknown"),
    ],
)  # fmt: skip
def test_requester_has_a_label(kind: str | None, name: str | None, text: str) -> None:
    assert labels.requester_text(Run(asked_by_kind=kind, asked_by=name)) == text


def test_call_is_formatted_like_python() -> None:
    call = Run(task="process_book", args=["9f2c", None], kwargs={"again": True, "title": "Война"})
    assert labels.call_text(call) == 'process_book("9f2c", null, again=true, title="Война")'


@pytest.mark.parametrize(
    ("highest", "steps"),
    [(0, [0, 1, 2]), (1, [0, 1, 2]), (7, [0, 2, 4, 6, 8]), (66, [0, 20, 40, 60, 80]), (999, [0, 500, 1000])],
)
def test_chart_scale_is_round_and_above_every_bar(app: Flask, highest: int, steps: list[int]) -> None:
    with app.test_request_context():
        chart = bar_chart.sessions_chart([(NOW.replace(minute=0), highest)], NOW)
    assert [line.value for line in chart.lines] == steps
    for part in chart.bars[0].parts:
        assert 0 <= part.y <= chart.floor
        assert part.height + part.y == pytest.approx(chart.floor)
    assert bool(chart.bars[0].parts) == bool(highest)
