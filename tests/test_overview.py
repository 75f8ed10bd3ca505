"""The overview, and the cleanup that is looked at before it is run."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from browsers import Browser, signed_in_browser
from flask import Flask
from installation import Installation
from library import cleanup_result, closed, consumer_of, rows_of, run, session

import tasks
from engine.control import Asker, pause
from engine.records import HistoryCursor, Run, now


def figures(html: str) -> dict[str, tuple[str, str]]:
    """The overview's numbers: label → (number, link)."""
    found = re.findall(r'<dt>([^<]+)</dt><dd><a href="([^"]+)">([^<]+)</a>', html)
    return {label: (number, link.replace("&amp;", "&")) for label, link, number in found}


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# --- overview ------------------------------------------------------------------------------------------------


def test_each_number_of_the_overview_leads_to_as_many_rows(either: Browser) -> None:
    for minutes_ago in (1, 119, 121, 500):
        session(minutes_ago=minutes_ago)
    session(ended_at=now())
    closed(start_position=9, end_position=9)
    closed(start_position=1, end_position=9)
    closed(ended_at=now() - timedelta(hours=25))
    shown = figures(either.get("/").text)
    assert {label: number for label, (number, _link) in shown.items()} == {
        "active sessions": "5",
        "abandoned, still open": "2",
        "closed in 24 h": "2",
        "without progress": "1",
    }
    for number, link in shown.values():
        assert len(rows_of(either.get(link).text)) == int(number)


def test_the_overview_tells_what_the_last_runs_came_to(operator: Browser) -> None:
    told = {
        "closed 14 sessions": run(result=cleanup_result(14)),
        "closed 1 session": run(result=cleanup_result(1)),
        "nothing to close": run(result=cleanup_result(0)),
        "391 sessions closed in 24 h": run("get_cleanup_statistics", result={"total_closed": 391, "period_hours": 24}),
        "removed 1,204 results, 1 run": run(
            "cleanup_old_task_results", result={"results": 1204, "runs": 1, "workers": 0}
        ),
        "BadZipFile: File is not a zip file": run("process_book", "failed", error="BadZipFile: File is not a zip file"),
        "{&#34;plates&#34;: 8}": run("generate_image", result={"plates": 8}),
    }
    html = operator.get("/").text
    for words, one in told.items():
        assert words in html.split(f'id="run-{one.id}"')[1].split("</tr>")[0]


def test_the_next_cleanup_is_counted_down_to_the_full_half_hour(operator: Browser) -> None:
    html = operator.get("/").text
    due, left = re.search(r'<time datetime="([^"]+)" [^>]*data-tick="left">(\d\d:\d\d)</time>', html).groups()
    assert due[14:19] in ("00:00", "30:00")
    assert left <= "30:00"


def test_the_chart_has_a_bar_for_each_hour_and_says_it_in_a_table_too(operator: Browser) -> None:
    closed(ended_at=now())
    closed(ended_at=now() - timedelta(hours=23))
    html = operator.get("/").text
    assert len(re.findall('class="bar"', html)) == 24
    assert len(re.findall('class="filling"', html)) == 1
    assert re.search(rf"<title>{now():%H}:00 UTC: 1 session closed so far</title>", html)
    assert len(re.findall('<th scope="row">', html)) == 24


@pytest.mark.usefixtures("served")
def test_on_a_good_day_nothing_asks_for_attention(operator: Browser) -> None:
    assert 'class="notice"' not in operator.get("/").text


def test_what_is_wrong_stands_first_in_a_sentence_each(operator: Browser) -> None:
    consumer_of("normal")
    consumer_of("normal", beat_at=now() - timedelta(minutes=2))
    consumer_of("light", scheduler_at=now() - timedelta(minutes=2))
    HistoryCursor.create(stream="light", position=9, dropped=1204)
    pause(tasks.normal, by=Asker("operator", "ann@example.org"), reason="deploy of 2.4.1")
    tasks.heavy.storage.enqueue(b"a message")
    notices = [text_of(part) for part in re.findall(r'<p class="notice".*?</p>', operator.get("/").text, re.DOTALL)]
    assert [notice.partition(" ")[0] for notice in notices] == ["No", "Not", "Consumer", "Paused", "History"]
    assert "Nobody serves heavy; 1 run waits." in notices[0]
    assert "The schedule of light is late" in notices[1]
    assert "Not heard of: normal on app-1 since" in notices[2]
    assert "deploy of 2.4.1" in notices[3]
    assert "1,204 events could not be kept" in notices[4]


@pytest.mark.usefixtures("served")
def test_the_queues_stand_with_what_waits_since_when_and_who_works(operator: Browser) -> None:
    running = {"worker": "Worker-1", "run_id": "an-id", "task": "process_book", "since": now().isoformat()}
    consumer_of("heavy", running=[running])
    for _ in range(2):
        tasks.light.storage.enqueue(b"a message")
    tasks.light.storage.add_to_schedule(b"a later message", datetime.now() + timedelta(hours=1))
    html = operator.get("/").text
    table = text_of(re.search(r'id="queues".*?</table>', html, re.DOTALL)[0])
    assert "heavy 0 – 1 of 4 busy" in table
    assert "normal 0 – 0 of 2 busy" in table
    assert re.search(r"light 2 1 scheduled \d+ s 0 of 2 busy", table)
    assert 'href="/runs/an-id"' in html


def test_a_first_start_says_what_comes_next(operator: Browser) -> None:
    html = operator.get("/").text
    assert "No consumer is alive" in html
    assert "The first cleanup starts by itself at" in html
    assert "No session was closed in the last 24 hours." in html
    assert "Nothing has run yet." in operator.get("/runs").text


def test_without_its_broker_the_console_says_so_and_shows_the_rest(tmp_path: Path) -> None:
    installed = Installation(tmp_path, REDIS_URL=f"unix://{tmp_path}/nobody.sock", SECRET_KEY="k" * 32)
    assert installed.flask("migrate").returncode == 0
    viewer = installed.bearer("viewer")
    with installed.web():
        overview, preview = (installed.ask("GET", path, viewer) for path in ("/", "/sessions/cleanup"))
    assert (overview.status, preview.status) == (200, 200)
    assert "Broker away" in overview.text
    assert "abandoned, still open" in overview.text
    assert "Nothing to close." in preview.text


# --- the cleanup's preview -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("served")
def test_the_preview_counts_what_would_close_and_shows_the_oldest_first(operator: Browser) -> None:
    abandoned = [session(minutes_ago=minutes_ago) for minutes_ago in range(130, 142)]
    session(minutes_ago=5)
    html = operator.get("/sessions/cleanup").text
    assert "12 sessions are still open, though they started more than 2 h ago." in html
    assert "Close 12 sessions</button>" in html
    assert rows_of(html) == [str(one.id) for one in reversed(abandoned)][:10]


@pytest.mark.usefixtures("served")
def test_closing_from_the_preview_asks_for_a_run_and_leads_to_it(operator: Browser) -> None:
    session(minutes_ago=150)
    answer = operator.send("/sessions/cleanup")
    assert answer.status_code == 303
    assert Run.get_by_id(answer.location.removeprefix("/runs/")).asked_by == "operator@example.org"
    assert "close_abandoned_sessions()" in operator.get(answer.location).text


def test_without_a_worker_the_preview_says_so_and_enqueues_nothing(operator: Browser) -> None:
    session(minutes_ago=150)
    assert "no live worker on light" in operator.get("/sessions/cleanup").text
    answer = operator.send("/sessions/cleanup")
    assert "no live worker on light" in operator.get(answer.location).text
    assert len(tasks.light) == 0


@pytest.mark.usefixtures("served")
def test_nothing_to_close_is_said_kindly(operator: Browser) -> None:
    session(minutes_ago=5)
    html = operator.get("/sessions/cleanup").text
    assert "Every open session started less than 2 h ago." in html
    assert 'data-kind="primary"' not in html


def test_a_viewer_may_look_at_the_preview_and_not_close(app: Flask) -> None:
    viewer = signed_in_browser(app, "viewer")
    session(minutes_ago=150)
    html = viewer.get("/sessions/cleanup").text
    assert "An operator can close them." in html
    assert 'method="post">' not in html.partition("<main")[2]
    assert viewer.send("/sessions/cleanup").status_code == 403
