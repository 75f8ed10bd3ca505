"""The list of sessions: content, filters, paging, and manual closing."""

import re
from datetime import timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest
from browsers import Browser, create_app_with_people, sign_in_browser
from databases import bound_to_library
from factories import (
    create_closed_session,
    create_run,
    create_session,
    row_ids,
    row_ids_of_all_pages,
    without_foreign_keys,
)
from flask import Flask
from markupsafe import escape

import models
from admin.pages.blueprint import ROWS_PER_PAGE
from engine.database import database
from engine.models import now
from models import AuditEntry, ReadingSession


def ids(*sessions: ReadingSession) -> list[str]:
    return [str(session.id) for session in sessions]


# --- lists and filters ---------------------------------------------------------------------------------------


def test_lists_show_their_sessions_newest_first(any_db_operator: Browser) -> None:
    old, new = create_session(minutes_ago=150), create_session(minutes_ago=2)
    first, second = (
        create_closed_session(ended_at=now() - timedelta(hours=3)),
        create_closed_session(ended_at=now() - timedelta(hours=1)),
    )
    assert row_ids(any_db_operator.get("/sessions").text) == ids(new, old)
    assert row_ids(any_db_operator.get("/sessions?state=abandoned").text) == ids(old)
    assert row_ids(any_db_operator.get("/sessions?state=closed").text) == ids(second, first)


def test_tab_counts_follow_the_filters(any_db_operator: Browser) -> None:
    create_session("ann@example.org")
    create_session("ann@example.org", minutes_ago=150)
    create_session("bob@example.org")
    create_closed_session("bob@example.org")
    counts = re.findall(r"(Active|Abandoned|Closed) <small>([^<]+)<", any_db_operator.get("/sessions?reader=ann@").text)
    assert counts == [("Active", "2"), ("Abandoned", "1"), ("Closed", "0")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("reader=ANN", ["ann"]),
        ("reader=%40example.org", ["bob", "ann"]),
        ("book=dune", ["ann"]),
        ("book=brontë", ["bob"]),
        ("reader=bob&book=dune", []),
        ("reader=%25", []),
        ("book=_", []),
    ],
)
def test_part_of_reader_or_book_matches(any_db_operator: Browser, query: str, expected: list[str]) -> None:
    sessions = {
        "ann": create_session("ann@example.org", ("Dune", "Frank Herbert"), minutes_ago=9),
        "bob": create_session("bob@example.org", ("Villette", "Charlotte Brontë"), minutes_ago=3),
    }
    html = any_db_operator.get(f"/sessions?{query}").text
    assert row_ids(html) == ids(*(sessions[name] for name in expected))
    assert ("No session matches" in html) == (not expected)


def test_search_matches_more_readers_than_are_listed_by_id(
    any_db_operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "MAX_IDS", 1)
    sessions = [create_session(f"{name}@example.org", "Dune", minutes_ago=9) for name in ("ann", "anna", "bob")]
    assert set(row_ids(any_db_operator.get("/sessions?reader=ann").text)) == set(ids(*sessions[:2]))
    assert set(row_ids(any_db_operator.get("/sessions?book=dune").text)) == set(ids(*sessions))


def test_sessions_are_filtered_by_progress_and_last_day(any_db_operator: Browser) -> None:
    stuck = create_closed_session(start_position=9, end_position=9)
    moved = create_closed_session(start_position=1, end_position=9, ended_at=now() - timedelta(minutes=2))
    create_closed_session(start_position=9, end_position=9, ended_at=now() - timedelta(hours=25))
    assert row_ids(any_db_operator.get("/sessions?state=closed&hours=24").text) == ids(stuck, moved)
    html = any_db_operator.get("/sessions?state=closed&hours=24&progress=none").text
    assert row_ids(html) == ids(stuck)
    assert 'href="/sessions?state=closed&amp;hours=24" title="Remove this filter"' in html


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=dead", "state"),
        ("hours=5", "hours"),
        ("reader=a%00b", "reader"),
        ("reader=a%1Bb", "reader"),
        ("book=" + "x" * 201, "book"),
        ("before=yesterday", "before"),
        ("before=2026-01-01T00:00:00_1f9d4640-4101-416a-93e7-b998ac4bd16f", "before"),
        ("before=2026-01-01T00:00:00%2B00:00_seven", "before"),
    ],
)
def test_invalid_filter_is_rejected_by_field(operator: Browser, query: str, field: str) -> None:
    answer = operator.get(f"/sessions?{query}")
    assert answer.status_code == 422
    assert f"<p>{field}: " in answer.text


# --- paging --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["active", "closed"])
def test_pages_neither_skip_nor_repeat_sessions_of_the_same_time(any_db_operator: Browser, state: str) -> None:
    instant = now() - timedelta(minutes=7)
    make = create_session if state == "active" else create_closed_session
    times = {"started_at": instant} if state == "active" else {"ended_at": instant}
    expected = {str(make("ann@example.org", "Dune", **times).id) for _ in range(2 * ROWS_PER_PAGE + 5)}
    newcomers = lambda: make("ann@example.org", "Dune")  # noqa: E731
    ids = row_ids_of_all_pages(any_db_operator, f"/sessions?state={state}&reader=ann", between=newcomers)
    assert len(ids) == len(expected)
    assert set(ids) == expected


# --- closed by -----------------------------------------------------------------------------------------------


def test_closed_session_names_what_closed_it(any_db_operator: Browser) -> None:
    instant = now() - timedelta(minutes=30)
    cleanup = create_run(instant_at=instant)
    by_run, by_reader, by_hand = create_closed_session(ended_at=instant), create_closed_session(), create_session()
    any_db_operator.send(f"/sessions/{by_hand.id}/close", back="")
    html = any_db_operator.get("/sessions?state=closed").text
    rows = {
        str(session.id): html.split(f"session-{session.id}")[1].split("</tr>")[0]
        for session in (by_run, by_reader, by_hand)
    }
    assert f'href="/runs/{cleanup.id}"' in rows[str(by_run.id)]
    assert "operator@example.org, by hand" in rows[str(by_hand.id)]
    assert "the reader" in rows[str(by_reader.id)]


def test_run_links_to_exactly_the_sessions_it_closed(any_db_operator: Browser) -> None:
    instant = now() - timedelta(minutes=30)
    cleanup = create_run(instant_at=instant, result={"closed_count": 2})
    closed_by_run = {str(create_closed_session(ended_at=instant).id) for _ in range(2)}
    create_closed_session()
    link = re.search(r'href="([^"]+)">closed 2 sessions', any_db_operator.get(f"/runs/{cleanup.id}").text)
    assert link
    assert set(row_ids(any_db_operator.get(link[1].replace("&amp;", "&")).text)) == closed_by_run


# --- manual closing ------------------------------------------------------------------------------------------


def test_close_by_hand_confirms_closes_and_returns_to_the_list(operator: Browser) -> None:
    session = create_session("ann@example.org", "Dune")
    page = operator.get("/sessions?reader=ann")
    link = re.search(r'href="(/sessions/[^"]+/close[^"]*)"', page.text)
    assert link
    assert "Close this session?" in operator.get(link[1]).text
    assert ReadingSession.get_by_id(session.id).is_active
    answer = operator.send(f"/sessions/{session.id}/close", back="reader=ann")
    assert (answer.status_code, answer.location) == (303, "/sessions?reader=ann")
    assert "Session closed." in operator.get(answer.location).text
    assert not ReadingSession.get_by_id(session.id).is_active
    assert AuditEntry.get(AuditEntry.target == str(session.id)).actor == "operator@example.org"


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "\r\nX-Evil: 1", "a=b&state=closed"])
def test_redirect_never_leaves_the_list(operator: Browser, back: str) -> None:
    session = create_session()
    answer = operator.send(f"/sessions/{session.id}/close", back=back)
    assert answer.location.startswith("/sessions")
    assert "X-Evil" not in answer.headers


def test_closed_session_cannot_be_closed_again(operator: Browser) -> None:
    session = create_closed_session()
    assert "The session is no longer open." in operator.get(f"/sessions/{session.id}/close").text
    answer = operator.send(f"/sessions/{session.id}/close", back="")
    assert "This session is already closed." in operator.get(answer.location).text
    assert operator.get(f"/sessions/{uuid4()}/close").status_code == 404
    assert operator.get("/sessions/seven/close").status_code == 404


def test_viewer_sees_sessions_and_closes_none(app: Flask) -> None:
    viewer, session = sign_in_browser(app, "viewer"), create_session(minutes_ago=150)
    assert str(session.id) in (html := viewer.get("/sessions").text)
    assert "/close" not in html
    assert viewer.get(f"/sessions/{session.id}/close").status_code == 403
    assert viewer.send(f"/sessions/{session.id}/close", back="").status_code == 403
    assert ReadingSession.get_by_id(session.id).is_active


# --- unusual rows --------------------------------------------------------------------------------------------


def test_session_without_reader_or_book_is_listed_as_unknown(any_db_operator: Browser) -> None:
    with without_foreign_keys():
        lost = create_session(user=uuid4(), book_id=uuid4(), minutes_ago=150)
        create_closed_session(user=uuid4(), book_id=uuid4())
    for url in ("/sessions", "/sessions?state=closed", "/sessions/cleanup", f"/sessions/{lost.id}/close"):
        html = any_db_operator.get(url).text
        assert "unknown book" in html
        assert "unknown reader" in html
    assert any_db_operator.send(f"/sessions/{lost.id}/close", back="").status_code == 303
    assert not ReadingSession.get_by_id(lost.id).is_active


def test_implausible_sessions_are_labelled(operator: Browser) -> None:
    create_session(started_at=now() + timedelta(hours=2))
    create_session(ended_at=now())
    create_session(start_position=40, end_position=12)
    create_session(start_position=-5, end_position=250)
    html = operator.get("/sessions").text
    assert "starts in the future" in html
    assert "ended, still marked active" in html
    assert "moved back" in html
    assert len(row_ids(html)) == 4
    assert len(re.findall(r"/close\?", html)) == 3


def test_infinite_postgresql_timestamps_do_not_break_a_list(fresh_postgresql: str) -> None:
    with bound_to_library(fresh_postgresql):
        operator = sign_in_browser(create_app_with_people(), "operator")
        for session, column, instant in [
            (create_session(), "started_at", "-infinity"),
            (create_closed_session(), "ended_at", "infinity"),
        ]:
            statement = f"UPDATE reading_sessions SET {column} = %s WHERE id = %s"
            database.execute_sql(statement, (instant, str(session.id)))
        for state in ("active", "abandoned", "closed"):
            assert len(row_ids(operator.get(f"/sessions?state={state}").text)) == 1


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "{{7*7}}", '"><img src=x onerror=alert(1)>'])
def test_reader_and_book_names_are_escaped(operator: Browser, text: str) -> None:
    create_session(f"{text}@example.org", (text, text), device_type=text[:50], minutes_ago=150)
    shown = str(escape(text))
    for url in ("/sessions", "/sessions/cleanup", f"/sessions?reader={quote(text)}"):
        html = operator.get(url).text
        assert shown in html
        assert text == shown or text not in html


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("active", "<code>dewey demo</code> loads a sample library"),
        ("abandoned", "open for more than 2 h"),
        ("closed", "Preview the cleanup"),
    ],
)
def test_empty_list_suggests_the_next_step(operator: Browser, state: str, hint: str) -> None:
    assert hint in operator.get(f"/sessions?state={state}").text


def test_closed_list_switches_between_day_week_and_all(operator: Browser) -> None:
    today, this_week, before = (
        create_closed_session(ended_at=now() - timedelta(days=days)) for days in (0.5, 6.9, 7.1)
    )
    html = operator.get("/sessions?state=closed&hours=24").text
    links = re.search(r'<nav class="switch".*?</nav>', html, re.S)
    assert links
    addresses = [address.replace("&amp;", "&") for address in re.findall(r'href="([^"]+)"', links[0])]
    expected = [ids(today), ids(today, this_week), ids(today, this_week, before)]
    assert [row_ids(operator.get(address).text) for address in addresses] == expected


@pytest.mark.parametrize("state", ["active", "abandoned"])
def test_open_sessions_show_the_next_cleanup(operator: Browser, state: str) -> None:
    create_session(minutes_ago=150)
    html = operator.get(f"/sessions?state={state}").text
    assert "open for more than 2 h" in html and "Next cleanup in" in html
    assert 'href="/help#session-open"' in html
