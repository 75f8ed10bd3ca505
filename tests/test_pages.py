"""The overview, the cleanup's preview, and the pages of runs."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsers import Browser, app_with_people, signed_in_browser
from flask import Flask
from installation import Installation
from library import attempt, cleanup_result, closed, consumer_of, rows_of, rows_of_all_pages, run, session

import tasks
from admin.pages import ROWS
from config import QUEUES
from engine.control import Asker, pause
from engine.database import database
from engine.records import HistoryCursor, Run, State, WorkerProcess, now

STATIC = Path(__file__).parent.parent / "static"


@pytest.fixture
def operator(app: Flask) -> Browser:
    """An operator's browser."""
    return signed_in_browser(app, "operator")


@pytest.fixture
def either(each_database: str) -> Browser:
    """An operator's browser, on SQLite and on PostgreSQL in turn: for what depends on the database's answers."""
    return signed_in_browser(app_with_people(), "operator")


@pytest.fixture
def served(app: Flask) -> None:
    """Every queue has a consumer that is alive."""
    for queue in QUEUES:
        consumer_of(queue)


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


# --- runs ----------------------------------------------------------------------------------------------------


def test_runs_can_be_had_by_state_task_and_queue(either: Browser) -> None:
    mine = run("process_book", "failed", queue="heavy")
    others = [run("process_book", queue="heavy"), run("process_book", "failed", queue="normal"), run(state="failed")]
    html = either.get("/runs?state=failed&task=process_book&queue=heavy").text
    assert rows_of(html) == [mine.id]
    assert re.findall(r">(All|Failed|Succeeded) <small>(\d+)<", html) == [
        ("All", "2"),
        ("Succeeded", "1"),
        ("Failed", "1"),
    ]
    assert set(rows_of(either.get("/runs").text)) == {mine.id, *(one.id for one in others)}
    assert "No run matches." in either.get("/runs?task=nonsense").text
    assert either.get("/runs?queue=nonsense").status_code == 422


def test_every_state_has_its_tab(operator: Browser) -> None:
    for state in State:
        one = run(state=state)
        assert rows_of(operator.get(f"/runs?state={state}").text) == [one.id]


def test_pages_neither_skip_nor_repeat_runs_of_one_instant(either: Browser) -> None:
    instant = now() - timedelta(minutes=1)
    wanted = {run("process_book", enqueued_at=instant).id for _ in range(2 * ROWS + 1)}
    found = rows_of_all_pages(either, "/runs?task=process_book", between=lambda: run("process_book"))
    assert len(found) == len(wanted)
    assert set(found) == wanted


# --- one run -------------------------------------------------------------------------------------------------


def test_a_run_is_told_with_everything_on_record(either: Browser) -> None:
    at = now() - timedelta(minutes=9)
    one = run(
        "process_book", "retrying", queue="heavy", args=["9f2c"], kwargs={"again": True}, retries=3, attempts=2,
        deliveries=3, enqueued_at=at, started_at=at, due_at=now() + timedelta(minutes=3.5), wait_ms=8000, run_ms=90,
        code_version="2.4.1-4fc424b", worker="heavy-2", asked_by_kind="token", asked_by="uploader",
        error="BadZipFile: File is not a zip file", priority=5,
    )  # fmt: skip
    child = run("generate_image", parent_id=one.id, asked_by_kind="run", asked_by=one.id)
    attempt(one, 1, "died", run_ms=41_000, worker="heavy-1")
    attempt(
        one, 2, "failed", attempt=1, run_ms=52_000, error="TimeoutError: cover.jpg", traceback="first\nTimeoutError: x"
    )
    attempt(
        one, 3, "failed", attempt=2, run_ms=90, error=one.error, traceback="Traceback\n  books.py:88\nBadZipFile: no"
    )
    told = text_of(either.get(f"/runs/{one.id}").text)
    for words in (
        "process_book retrying again in 0",
        "process_book(&#34;9f2c&#34;, again=true)",
        "Queued on heavy, priority 5 asked by token uploader waited 8.0 s",
        "Attempt 1 was cut off: its worker died heavy-1 ran 41 s",
        "Attempt 1 failed TimeoutError: cover.jpg ran 52 s",
        "Attempt 2 failed BadZipFile: File is not a zip file ran 90 ms",
        "Attempt 3 is due in 3 min",
        "Traceback books.py:88 BadZipFile: no",
        "retries 3 after the first attempt attempts 2 3 deliveries",
        "code 2.4.1-4fc424b",
        f"id {one.id}",
        "children generate_image succeeded",
    ):
        assert words in told
    assert f'href="/runs/{one.id}"' in either.get(f"/runs/{child.id}").text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("waiting", "Waiting for a worker"),
        ("scheduled", "Due"),
        ("cancelled", "Cancelled"),
        ("expired", "Expired: it was not started in time"),
        ("dead", "Given up: it is dead"),
        ("succeeded", "Succeeded"),
        ("failed", "Failed"),
        ("running", "Queued on light"),
        ("retrying", "Attempt 1 is due"),
    ],
)
def test_a_run_of_which_little_is_known_has_its_page_all_the_same(operator: Browser, state: str, words: str) -> None:
    one = run(state=state, args=None, kwargs=None, priority=None, asked_by_kind=None)
    assert words in operator.get(f"/runs/{one.id}").text


def test_an_unknown_run_is_a_page_that_says_so(operator: Browser) -> None:
    answer = operator.get("/runs/no-such-run")
    assert answer.status_code == 404
    assert "No run has this id" in answer.text


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "{{7*7}}", "'\"><img src=x onerror=alert(1)>"])
def test_what_comes_from_a_queue_is_never_markup(operator: Browser, text: str) -> None:
    one = run(
        text, "failed", queue="light", args=[text], kwargs={text: text}, result={text: text}, error=text,
        asked_by_kind="token", asked_by=text, code_version=text, worker=text,
    )  # fmt: skip
    attempt(one, 1, "failed", error=text, traceback=text, worker=text)
    for url in ("/", "/runs", f"/runs/{one.id}"):
        html = operator.get(url).text
        assert "<script>alert" not in html
        assert "<img" not in html
        assert "{{7*7}}" in html or "7*7" not in text


# --- all pages -----------------------------------------------------------------------------------------------

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
        assert re.search(rf'href="{link}" aria-current="page"', html)


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
