"""Rules for every page."""

import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsers import Browser
from factories import cleanup_result, create_attempt, create_closed_session, create_consumer, create_run, create_session

from engine.database import database
from engine.models import Consumer, now

STATIC = Path(__file__).parent.parent / "static"


PAGES = (
    "/",
    "/sessions",
    "/sessions?state=closed",
    "/sessions?reader=e&book=a",
    "/sessions/cleanup",
    "/runs",
    "/runs/a",
)


def fill_tables(rows: int) -> None:
    instant = now() - timedelta(minutes=30)
    for number in range(rows):
        create_session(minutes_ago=150 + number)
        create_closed_session(ended_at=instant if number % 2 else now())
    consumers = [create_consumer("light") for _ in range(rows // 4)]
    parent = create_run(id=f"a{rows}", instant_at=instant, result=cleanup_result(3))
    for _ in range(rows):
        create_attempt(create_run(parent_id=parent.id), 1, "succeeded", worker=consumers[0].id)


def test_page_takes_at_most_eight_statements_however_many_rows(any_db_operator: Browser) -> None:
    statements: list[str] = []
    database.obj.query_hooks.append(lambda event: statements.append(event.sql))
    counts = []
    for rows in (4, 60):
        fill_tables(rows)
        counts.append({})
        for page in PAGES:
            statements.clear()
            assert any_db_operator.get(page.replace("/a", f"/a{rows}")).status_code == 200
            counts[-1][page] = len(statements)
    assert counts[0] == counts[1]
    assert max(counts[0].values()) <= 8


def test_pages_are_small_and_contain_no_inline_code(operator: Browser) -> None:
    fill_tables(60)
    for page in PAGES:
        html = operator.get(page.replace("/a", "/a60")).text
        assert len(html.encode()) < 60_000
        assert not re.search(r"\sstyle=|<style|\son\w+=|<script(?! src)|javascript:", html)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', html)
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < 60_000


def test_navigation_links_to_existing_pages(operator: Browser) -> None:
    rail = operator.get("/").text.partition("<nav")[2].partition("</nav>")[0]
    links = re.findall(r'href="([^"]+)"', rail)
    assert len(links) >= 3
    for link in links:
        html = operator.get(urlsplit(link).path).text
        assert re.search(rf'href="{link}"[^>]* aria-current="page"', html)


@pytest.mark.usefixtures("live_consumers")
def test_unchanged_page_returns_304(operator: Browser) -> None:
    session = create_session(minutes_ago=150)
    create_run(state="running", started_at=now())
    for page in ("/", "/sessions", "/sessions/cleanup", "/runs"):
        headers = {"If-None-Match": operator.get(page).headers["ETag"]}
        Consumer.update(beat_at=now()).where(Consumer.queue == "heavy").execute()
        again = operator.get(page, headers=headers)
        assert (again.status_code, again.text) == (304, "")
        create_run("process_book") if page == "/runs" else create_session(minutes_ago=150)
        assert operator.get(page, headers=headers).status_code == 200
    assert str(session.id) in operator.get("/sessions").text
