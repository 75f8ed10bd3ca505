"""What holds for every page."""

import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsers import Browser
from library import attempt, cleanup_result, closed, consumer_of, run, session

from engine.database import database
from engine.models import WorkerProcess, now

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


def fill(rows: int) -> None:
    instant = now() - timedelta(minutes=30)
    for number in range(rows):
        session(minutes_ago=150 + number)
        closed(ended_at=instant if number % 2 else now())
    consumers = [consumer_of("light") for _ in range(rows // 4)]
    parent = run(id=f"a{rows}", instant_at=instant, result=cleanup_result(3))
    for _ in range(rows):
        attempt(run(parent_id=parent.id), 1, "succeeded", worker=consumers[0].id)


def test_no_page_asks_the_database_more_than_eight_times_however_full_it_is(either: Browser) -> None:
    asked: list[str] = []
    database.obj.query_hooks.append(lambda event: asked.append(event.sql))
    counts = []
    for rows in (4, 60):
        fill(rows)
        counts.append({})
        for page in PAGES:
            asked.clear()
            assert either.get(page.replace("/a", f"/a{rows}")).status_code == 200
            counts[-1][page] = len(asked)
    assert counts[0] == counts[1]
    assert max(counts[0].values()) <= 8


def test_pages_and_files_are_light_and_hold_no_code_of_their_own(operator: Browser) -> None:
    fill(60)
    for page in PAGES:
        html = operator.get(page.replace("/a", "/a60")).text
        assert len(html.encode()) < 60_000
        assert not re.search(r"\sstyle=|<style|\son\w+=|<script(?! src)|javascript:", html)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', html)
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < 60_000


def test_the_rail_leads_only_to_pages_that_exist(operator: Browser) -> None:
    rail = operator.get("/").text.partition("<nav")[2].partition("</nav>")[0]
    links = re.findall(r'href="([^"]+)"', rail)
    assert len(links) >= 3
    for link in links:
        html = operator.get(urlsplit(link).path).text
        assert re.search(rf'href="{link}"[^>]* aria-current="page"', html)


@pytest.mark.usefixtures("served")
def test_a_page_that_is_asked_again_is_sent_again_only_when_something_changed(operator: Browser) -> None:
    one = session(minutes_ago=150)
    run(state="running", started_at=now())
    for page in ("/", "/sessions", "/sessions/cleanup", "/runs"):
        known = {"If-None-Match": operator.get(page).headers["ETag"]}
        WorkerProcess.update(beat_at=now()).where(WorkerProcess.queue == "heavy").execute()
        again = operator.get(page, headers=known)
        assert (again.status_code, again.text) == (304, "")
        run("process_book") if page == "/runs" else session(minutes_ago=150)
        assert operator.get(page, headers=known).status_code == 200
    assert str(one.id) in operator.get("/sessions").text
