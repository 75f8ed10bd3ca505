"""The list of sessions: what stands in it, how it is filtered and paged, and closing one by hand."""

import re
from datetime import timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest
from browsers import Browser, app_with_people, signed_in_browser
from databases import bound_to_library
from flask import Flask
from library import closed, no_foreign_keys, rows_of, rows_of_all_pages, run, session
from markupsafe import escape

import models
from admin.pages.blueprint import ROWS
from engine.database import database
from engine.models import now
from models import AuditEntry, ReadingSession


def ids(*sessions: ReadingSession) -> list[str]:
    return [str(one.id) for one in sessions]


# --- lists and filters ---------------------------------------------------------------------------------------


def test_each_list_holds_its_sessions_newest_first(either: Browser) -> None:
    old, new = session(minutes_ago=150), session(minutes_ago=2)
    first, second = closed(ended_at=now() - timedelta(hours=3)), closed(ended_at=now() - timedelta(hours=1))
    assert rows_of(either.get("/sessions").text) == ids(new, old)
    assert rows_of(either.get("/sessions?state=abandoned").text) == ids(old)
    assert rows_of(either.get("/sessions?state=closed").text) == ids(second, first)


def test_the_tabs_count_what_the_filters_leave(either: Browser) -> None:
    session("ann@example.org")
    session("ann@example.org", minutes_ago=150)
    session("bob@example.org")
    closed("bob@example.org")
    counts = re.findall(r"(Active|Abandoned|Closed) <small>([^<]+)<", either.get("/sessions?reader=ann@").text)
    assert counts == [("Active", "2"), ("Abandoned", "1"), ("Closed", "0")]


@pytest.mark.parametrize(
    ("query", "found"),
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
def test_a_part_of_the_readers_address_or_of_the_books_names_is_enough(
    either: Browser, query: str, found: list[str]
) -> None:
    sessions = {
        "ann": session("ann@example.org", ("Dune", "Frank Herbert"), minutes_ago=9),
        "bob": session("bob@example.org", ("Villette", "Charlotte Brontë"), minutes_ago=3),
    }
    html = either.get(f"/sessions?{query}").text
    assert rows_of(html) == ids(*(sessions[name] for name in found))
    assert ("No session matches" in html) == (not found)


def test_more_readers_than_can_be_named_one_by_one_are_found_too(
    either: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "MAX_IDS", 1)
    sessions = [session(f"{name}@example.org", "Dune", minutes_ago=9) for name in ("ann", "anna", "bob")]
    assert set(rows_of(either.get("/sessions?reader=ann").text)) == set(ids(*sessions[:2]))
    assert set(rows_of(either.get("/sessions?book=dune").text)) == set(ids(*sessions))


def test_the_sessions_without_progress_and_of_the_last_day_can_be_had_alone(either: Browser) -> None:
    stuck = closed(start_position=9, end_position=9)
    moved = closed(start_position=1, end_position=9, ended_at=now() - timedelta(minutes=2))
    closed(start_position=9, end_position=9, ended_at=now() - timedelta(hours=25))
    assert rows_of(either.get("/sessions?state=closed&hours=24").text) == ids(stuck, moved)
    html = either.get("/sessions?state=closed&hours=24&progress=none").text
    assert rows_of(html) == ids(stuck)
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
def test_a_filter_that_cannot_be_used_is_named(operator: Browser, query: str, field: str) -> None:
    answer = operator.get(f"/sessions?{query}")
    assert answer.status_code == 422
    assert f"<p>{field}: " in answer.text


# --- paging --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["active", "closed"])
def test_pages_neither_skip_nor_repeat_sessions_of_one_instant(either: Browser, state: str) -> None:
    instant = now() - timedelta(minutes=7)
    make = session if state == "active" else closed
    times = {"started_at": instant} if state == "active" else {"ended_at": instant}
    wanted = {str(make("ann@example.org", "Dune", **times).id) for _ in range(2 * ROWS + 5)}
    newcomers = lambda: make("ann@example.org", "Dune")  # noqa: E731
    found = rows_of_all_pages(either, f"/sessions?state={state}&reader=ann", between=newcomers)
    assert len(found) == len(wanted)
    assert set(found) == wanted


# --- who closed it -------------------------------------------------------------------------------------------


def test_a_closed_session_names_the_run_the_person_or_the_reader_that_ended_it(either: Browser) -> None:
    instant = now() - timedelta(minutes=30)
    cleanup = run(instant_at=instant)
    by_run, by_reader, by_hand = closed(ended_at=instant), closed(), session()
    either.send(f"/sessions/{by_hand.id}/close", back="")
    html = either.get("/sessions?state=closed").text
    told = {str(one.id): html.split(f"session-{one.id}")[1].split("</tr>")[0] for one in (by_run, by_reader, by_hand)}
    assert f'href="/runs/{cleanup.id}"' in told[str(by_run.id)]
    assert "operator@example.org, by hand" in told[str(by_hand.id)]
    assert "the reader" in told[str(by_reader.id)]


def test_a_run_leads_to_the_very_sessions_that_it_closed(either: Browser) -> None:
    instant = now() - timedelta(minutes=30)
    cleanup = run(instant_at=instant, result={"closed_count": 2})
    mine = {str(closed(ended_at=instant).id) for _ in range(2)}
    closed()
    link = re.search(r'href="([^"]+)">closed 2 sessions', either.get(f"/runs/{cleanup.id}").text)
    assert link
    assert set(rows_of(either.get(link[1].replace("&amp;", "&")).text)) == mine


# --- closing by hand -----------------------------------------------------------------------------------------


def test_closing_one_by_hand_asks_once_more_closes_it_and_goes_back_to_the_list(operator: Browser) -> None:
    one = session("ann@example.org", "Dune")
    page = operator.get("/sessions?reader=ann")
    link = re.search(r'href="(/sessions/[^"]+/close[^"]*)"', page.text)
    assert link
    assert "Close this session?" in operator.get(link[1]).text
    assert ReadingSession.get_by_id(one.id).is_active
    answer = operator.send(f"/sessions/{one.id}/close", back="reader=ann")
    assert (answer.status_code, answer.location) == (303, "/sessions?reader=ann")
    assert "The session is closed." in operator.get(answer.location).text
    assert not ReadingSession.get_by_id(one.id).is_active
    assert AuditEntry.get(AuditEntry.target == str(one.id)).actor == "operator@example.org"


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "\r\nX-Evil: 1", "a=b&state=closed"])
def test_the_way_back_never_leaves_the_list(operator: Browser, back: str) -> None:
    one = session()
    answer = operator.send(f"/sessions/{one.id}/close", back=back)
    assert answer.location.startswith("/sessions")
    assert "X-Evil" not in answer.headers


def test_a_session_that_is_not_open_any_more_is_said_to_be_so(operator: Browser) -> None:
    one = closed()
    assert "It is not open any more." in operator.get(f"/sessions/{one.id}/close").text
    answer = operator.send(f"/sessions/{one.id}/close", back="")
    assert "This session is not open any more." in operator.get(answer.location).text
    assert operator.get(f"/sessions/{uuid4()}/close").status_code == 404
    assert operator.get("/sessions/seven/close").status_code == 404


def test_a_viewer_sees_sessions_and_closes_none(app: Flask) -> None:
    viewer, one = signed_in_browser(app, "viewer"), session(minutes_ago=150)
    assert str(one.id) in (html := viewer.get("/sessions").text)
    assert "/close" not in html
    assert viewer.get(f"/sessions/{one.id}/close").status_code == 403
    assert viewer.send(f"/sessions/{one.id}/close", back="").status_code == 403
    assert ReadingSession.get_by_id(one.id).is_active


# --- strange rows --------------------------------------------------------------------------------------------


def test_sessions_whose_reader_or_book_is_gone_are_listed_as_unknown(either: Browser) -> None:
    with no_foreign_keys():
        lost = session(user=uuid4(), book_id=uuid4(), minutes_ago=150)
        closed(user=uuid4(), book_id=uuid4())
    for url in ("/sessions", "/sessions?state=closed", "/sessions/cleanup", f"/sessions/{lost.id}/close"):
        html = either.get(url).text
        assert "unknown book" in html
        assert "unknown reader" in html
    assert either.send(f"/sessions/{lost.id}/close", back="").status_code == 303
    assert not ReadingSession.get_by_id(lost.id).is_active


def test_impossible_sessions_are_shown_for_what_they_are(operator: Browser) -> None:
    session(started_at=now() + timedelta(hours=2))
    session(ended_at=now())
    session(start_position=40, end_position=12)
    session(start_position=-5, end_position=250)
    html = operator.get("/sessions").text
    assert "starts in the future" in html
    assert "ended, still marked active" in html
    assert "went back" in html
    assert len(rows_of(html)) == 4
    assert len(re.findall(r"/close\?", html)) == 3


def test_instants_that_only_postgresql_knows_do_not_break_a_list(fresh_postgresql: str) -> None:
    with bound_to_library(fresh_postgresql):
        operator = signed_in_browser(app_with_people(), "operator")
        for one, column, instant in [(session(), "started_at", "-infinity"), (closed(), "ended_at", "infinity")]:
            statement = f"UPDATE reading_sessions SET {column} = %s WHERE id = %s"
            database.execute_sql(statement, (instant, str(one.id)))
        for state in ("active", "abandoned", "closed"):
            assert len(rows_of(operator.get(f"/sessions?state={state}").text)) == 1


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "{{7*7}}", '"><img src=x onerror=alert(1)>'])
def test_what_readers_and_books_are_called_is_never_markup(operator: Browser, text: str) -> None:
    session(f"{text}@example.org", (text, text), device_type=text[:50], minutes_ago=150)
    shown = str(escape(text))
    for url in ("/sessions", "/sessions/cleanup", f"/sessions?reader={quote(text)}"):
        html = operator.get(url).text
        assert shown in html
        assert text == shown or text not in html


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("active", "<code>flask demo</code> loads a sample library"),
        ("abandoned", "still open 2 h after its start"),
        ("closed", "See what a cleanup would close"),
    ],
)
def test_an_empty_list_says_what_to_do_next(operator: Browser, state: str, hint: str) -> None:
    assert hint in operator.get(f"/sessions?state={state}").text


def test_the_closed_of_a_day_of_a_week_and_all_are_a_click_apart(operator: Browser) -> None:
    today, this_week, before = (closed(ended_at=now() - timedelta(days=days)) for days in (0.5, 6.9, 7.1))
    html = operator.get("/sessions?state=closed&hours=24").text
    links = re.search(r'<nav class="switch".*?</nav>', html, re.S)
    assert links
    addresses = [one.replace("&amp;", "&") for one in re.findall(r'href="([^"]+)"', links[0])]
    wanted = [ids(today), ids(today, this_week), ids(today, this_week, before)]
    assert [rows_of(operator.get(one).text) for one in addresses] == wanted


@pytest.mark.parametrize("state", ["active", "abandoned"])
def test_above_open_sessions_stands_when_they_are_closed(operator: Browser, state: str) -> None:
    session(minutes_ago=150)
    html = operator.get(f"/sessions?state={state}").text
    assert "still open 2 h after its start" in html and "Next cleanup in" in html
    assert 'href="/help#session-open"' in html
