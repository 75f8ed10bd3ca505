"""The overview, and the preview of the cleanup."""

import re
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from browsers import Browser, sign_in_browser
from consumers import KEY
from factories import cleanup_result, create_closed_session, create_consumer, create_run, create_session, row_ids
from flask import Flask
from installation import Installation
from peewee import fn
from waiting import avoid_end_of

import tasks
from config import settings
from engine.broker.messages import Requester
from engine.control.queues import pause_queue
from engine.control.runs import delete_ended, discard_dead_run
from engine.database import database
from engine.history import run_counts
from engine.history.writer import flush_events
from engine.models import HistoryCursor, Run, Tick, now

HOUR = timedelta(hours=1)


def figures(html: str) -> dict[str, tuple[str, str]]:
    """Return the overview's numbers: label → (number, link)."""
    matches = re.findall(r'<dt>([^<]+)</dt><dd><a href="([^"]+)">([^<]+)</a>', html)
    return {label: (number, link.replace("&amp;", "&")) for label, link, number in matches}


def plain_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# --- overview ------------------------------------------------------------------------------------------------


def test_number_links_to_as_many_rows(any_db_operator: Browser) -> None:
    for minutes_ago in (1, 119, 121, 500):
        create_session(minutes_ago=minutes_ago)
    create_session(ended_at=now())
    create_closed_session(start_position=9, end_position=9)
    create_closed_session(start_position=1, end_position=9)
    create_closed_session(ended_at=now() - timedelta(hours=25))
    shown = figures(any_db_operator.get("/").text)
    assert {label: number for label, (number, _link) in shown.items()} == {
        "active sessions": "5",
        "abandoned, still open": "2",
        "closed in 24 h": "2",
        "without progress": "1",
    }
    for number, link in shown.values():
        assert len(row_ids(any_db_operator.get(link).text)) == int(number)


def test_result_of_recent_runs_is_summarised(operator: Browser) -> None:
    runs_by_text = {
        "closed 14 sessions": create_run(result=cleanup_result(14)),
        "closed 1 session": create_run(result=cleanup_result(1)),
        "nothing to close": create_run(result=cleanup_result(0)),
        "391 sessions closed in 24 h": create_run(
            "get_cleanup_statistics", result={"total_closed": 391, "period_hours": 24}
        ),
        "removed 1,204 results, 1 run": create_run(
            "cleanup_old_task_results", result={"results": 1204, "runs": 1, "workers": 0}
        ),
        "BadZipFile: File is not a zip file": create_run(
            "process_book", "failed", error="BadZipFile: File is not a zip file"
        ),
        "{&#34;plates&#34;: 8}": create_run("generate_image", result={"plates": 8}),
    }
    html = operator.get("/").text
    for words, run in runs_by_text.items():
        assert words in html.split(f'id="run-{run.id}"')[1].split("</tr>")[0]


def test_next_cleanup_counts_down_to_the_half_hour(operator: Browser) -> None:
    html = operator.get("/").text
    due, left = re.search(r'<time datetime="([^"]+)" [^>]*data-tick="left">(\d\d:\d\d)</time>', html).groups()
    assert due[14:19] in ("00:00", "30:00")
    assert left <= "30:00"


def test_chart_has_a_bar_and_a_table_row_per_hour(operator: Browser) -> None:
    avoid_end_of(HOUR)
    create_closed_session(ended_at=now())
    create_closed_session(ended_at=now() - timedelta(hours=23))
    card = section_html(operator.get("/").text, "closed-per-hour")
    assert len(re.findall('class="bar"', card)) == 24
    assert len(re.findall("filling", card)) == 1  # its bar
    assert re.search(rf"<title>{now():%H}:00 UTC, so far: 1 session closed</title>", card)
    assert len(re.findall('<th scope="row">', card)) == 24


def test_session_bar_links_to_its_sessions(any_db_operator: Browser) -> None:
    avoid_end_of(HOUR)
    hour = now().replace(minute=0, second=0, microsecond=0)
    in_the_hour = {
        str(create_closed_session(ended_at=hour - timedelta(hours=3) + timedelta(minutes=at)).id) for at in (0, 20, 59)
    }
    create_closed_session(ended_at=hour - timedelta(hours=2))
    create_closed_session(ended_at=hour - timedelta(hours=3, seconds=1))
    card = section_html(any_db_operator.get("/").text, "closed-per-hour")
    link = re.search(r'href="([^"]+)" tabindex="-1"><title>[^<]*3 sessions closed', card)[1].replace("&amp;", "&")
    assert set(row_ids(any_db_operator.get(link).text)) == in_the_hour
    for hour in ("yesterday", "9999-12-31T23:30", "0001-01-01"):
        assert any_db_operator.get(f"/sessions?state=closed&hour={hour}").status_code == 422


def test_charts_use_the_browser_time_zone(operator: Browser) -> None:
    avoid_end_of(HOUR)
    operator.set_cookie("zone", "Asia/Kolkata")  # half an hour off the hours of the counts
    at = run_counts.full_minute(now()).replace(minute=0)
    create_counted_run("succeeded", at)
    create_closed_session(ended_at=at)
    html, local_label = operator.get("/").text, f"{at + timedelta(hours=5, minutes=30):%H:%M} IST, so far: "
    assert f"<title>{local_label}1 succeeded, 0 failed</title>" in section_html(html, "throughput")
    assert f"<title>{local_label}1 session closed</title>" in section_html(html, "closed-per-hour")
    week = section_html(operator.get("/?hours=168").text, "throughput")
    last_step = at - timedelta(hours=at.hour % 4)
    assert f"<title>{last_step + timedelta(hours=5, minutes=30):%-d %b %H:%M} IST, so far: 1 succ" in week


def section_html(html: str, identifier: str) -> str:
    return re.search(rf'<section class="[^"]+" id="{identifier}".*?</section>', html, re.DOTALL)[0]


# --- ended runs ----------------------------------------------------------------------------------------------


def create_counted_run(state: str, ended_at: datetime, **values: Any) -> Run:
    """Store an ended run and count it as a recorder does."""
    run = create_run("process_book", state, ended_at=ended_at, enqueued_at=ended_at, **values)
    run_counts.increment(Counter(run_counts.counter_keys(run)))
    return run


def outcomes(html: str) -> dict[str, list[tuple[str, str | None]]]:
    """Return the table of ended runs: row → (number, link) for each window."""
    table, cells_by_row = section_html(html, "outcomes"), {}
    for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
        links = [re.search(r'href="([^"]+)"', cell) for cell in cells]
        label = plain_text(row.partition("</th>")[0])
        cells_by_row[label] = [
            (plain_text(cell), link and link[1].replace("&amp;", "&")) for cell, link in zip(cells, links, strict=True)
        ]
    return cells_by_row


def test_outcome_counts_link_to_their_runs(any_db_operator: Browser) -> None:
    at = now()
    for minutes, state in ((0, "succeeded"), (40, "succeeded"), (50, "failed"), (70, "succeeded"), (300, "succeeded")):
        create_counted_run(state, at - timedelta(minutes=minutes))
    for hours, state in ((30, "dead"), (100, "failed"), (170, "failed")):
        create_counted_run(state, at - timedelta(hours=hours))
    shown = outcomes(any_db_operator.get("/").text)
    numbers = {label: [number for number, _link in cells] for label, cells in shown.items()}
    assert numbers["succeeded"] == ["2", "4", "4"]
    assert numbers["failed"] == ["1", "1", "2"]
    assert numbers["dead"] == ["0", "0", "1"]
    assert numbers["failure rate"] == ["33.3%", "20%", "42.9%"]
    links = [cell for label in ("succeeded", "failed", "dead") for cell in shown[label] if cell[1]]
    assert len(links) == 7
    for number, link in links:
        assert len(row_ids(any_db_operator.get(link).text)) == int(number), link


def test_retried_count_links_to_runs_of_several_attempts(any_db_operator: Browser) -> None:
    at = now()
    for minutes, attempts in ((0, 3), (30, 2), (40, 1), (90, 5)):
        create_counted_run("succeeded", at - timedelta(minutes=minutes), attempts=attempts)
    shown = outcomes(any_db_operator.get("/").text)["retried"]
    assert [number for number, _link in shown] == ["2", "3", "3"]
    for number, link in shown:
        assert len(row_ids(any_db_operator.get(link).text)) == int(number)


def test_wait_and_run_percentiles_are_shown_with_the_oldest_waiting(operator: Browser) -> None:
    for hundredth in range(100):
        slow = hundredth >= 96
        create_counted_run("succeeded", now(), wait_ms=3000.0 if slow else 20.0, run_ms=50_000.0 if slow else 800.0)
    tasks.heavy.storage.enqueue(b"a message")
    html = operator.get("/").text
    shown = re.findall(r"<th scope=\"row\">(p\d\d)</th><td class=\"num\">([^<]+)<", section_html(html, "outcomes"))
    waited, ran = dict(shown[:3]), dict(shown[3:])
    assert [run_counts.duration_bucket(milliseconds(waited[name])) for name in ("p50", "p99")] == [
        run_counts.duration_bucket(ms) for ms in (20, 3000)
    ]
    assert [run_counts.duration_bucket(milliseconds(ran[name])) for name in ("p95", "p99")] == [
        run_counts.duration_bucket(ms) for ms in (800, 50_000)
    ]
    assert re.search(r"oldest now: \d+ s in heavy", plain_text(html))


def milliseconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"ms": 1, "s": 1000}[unit]


@pytest.mark.parametrize(("hours", "bars", "step"), [(1, 30, 120), (24, 24, 3600), (168, 42, 4 * 3600)])
def test_run_chart_covers_the_chosen_period(operator: Browser, hours: int, bars: int, step: int) -> None:
    at = now()
    for state in ("succeeded", "succeeded", "succeeded", "failed"):
        create_counted_run(state, at)
    create_counted_run("dead", at - timedelta(seconds=step * (bars - 2)))
    card = section_html(operator.get(f"/?hours={hours}").text, "throughput")
    drawn = re.findall(r'<(?:a|g) class="bar".*?</(?:a|g)>', card)
    assert len(drawn) == bars
    # A minute may have passed in between.
    red = [position for position, bar in enumerate(drawn) if '<rect class="bad' in bar]
    assert red in ([1, bars - 1], [0, bars - 2])
    assert "3 succeeded, 1 failed" in drawn[red[1]]
    cells = re.findall(r"<tr><th.*?</th>(.*?)</tr>", card.partition("<tbody>")[2])[bars - 1 - red[1]]
    assert re.findall(r"<td>(\d+)</td>", cells) == ["3", "1", "0", "0"]


def test_run_bar_links_to_the_runs_that_ended_in_it(operator: Browser) -> None:
    at = now()
    in_the_bar = {create_counted_run(state, at).id for state in ("succeeded", "failed", "cancelled")}
    create_counted_run("succeeded", at - timedelta(hours=9))
    link = re.findall(r'class="bar" href="([^"]+)"', section_html(operator.get("/?hours=168").text, "throughput"))[-1]
    assert set(row_ids(operator.get(link).text)) == in_the_bar


def test_unknown_period_is_rejected(operator: Browser) -> None:
    assert operator.get("/?hours=2").status_code == 422


#: A million runs over eight days, one each 0.69 s.
MILLION = """
    INSERT INTO dewey_runs (id, task, queue, state, retries, enqueued_at, ended_at, attempts, deliveries)
    SELECT 'run-' || i, CASE i % 3 WHEN 0 THEN 'process_book' ELSE 'generate_image' END, 'normal',
        CASE WHEN i % 100 < 96 THEN 'succeeded' WHEN i % 100 < 99 THEN 'failed' ELSE 'dead' END, 0, at, at, 1, 1
    FROM (
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
        SELECT i, strftime('%Y-%m-%d %H:%M:%f', ?, '-' || (i * 0.6912) || ' seconds') || '+00:00' AS at FROM n
    )"""
BY_MINUTE = """
    SELECT CAST(strftime('%s', substr(ended_at, 1, 19)) AS integer) / 60 * 60, task, queue, state, COUNT(*)
    FROM dewey_runs GROUP BY 1, 2, 3, 4"""


def test_million_runs_are_counted_exactly(operator: Browser) -> None:
    indexes = "SELECT name FROM sqlite_master WHERE tbl_name = 'dewey_runs' AND type = 'index' AND sql <> ''"
    for (name,) in database.execute_sql(indexes).fetchall():
        database.execute_sql(f"DROP INDEX {name}")
    database.execute_sql(MILLION, [f"{now():%Y-%m-%d %H:%M:%S}"])
    rows = database.execute_sql(BY_MINUTE).fetchall()
    with database.atomic():
        run_counts.increment({(minute, task, queue, state, 0): number for minute, task, queue, state, number in rows})
    deleted = delete_ended(tasks.queues, [f"run-{number}" for number in range(90, 900_000, 9_000)])
    assert len(deleted) == 100
    while True:
        began = run_counts.full_minute(now())
        shown = outcomes(operator.get("/").text)
        counted = {hours: count_rows_by_state(hours) for hours in (1, 24, 168)}
        if run_counts.full_minute(now()) == began:  # page and rows are of the same minute
            break
    for state in ("succeeded", "failed", "dead"):
        numbers = [int(number.replace(",", "")) for number, _link in shown[state]]
        assert numbers == [counted[hours][state] for hours in (1, 24, 168)]
    assert sum(counted[168].values()) > 870_000


def count_rows_by_state(hours: int) -> dict[str, int]:
    query = Run.select(Run.state, fn.COUNT(Run.id)).where(Run.ended_at >= run_counts.window_start(now(), hours))
    return dict(query.group_by(Run.state).tuples())


# --- attention -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("live_consumers")
def test_healthy_system_shows_no_notice(operator: Browser) -> None:
    html = operator.get("/").text
    assert 'class="notice"' not in html
    assert "All is well" in html


@pytest.mark.usefixtures("live_consumers")
def test_problem_of_an_alert_rule_is_shown_as_a_notice(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "admin.display.attention.settings", replace(settings, alert_oldest_minutes=1e-9, alert_abandoned=1)
    )
    tasks.light.storage.enqueue(b"a message")
    tasks.normal.storage.enqueue(b"a message")
    pause_queue(tasks.normal, by=Requester("operator", "ann@example.org"))
    create_session(minutes_ago=121)
    assert list(notices(operator.get("/").text)) == ["behind-light", "paused-normal"]
    create_session(minutes_ago=122)
    shown = notices(operator.get("/").text)
    assert list(shown) == ["behind-light", "abandoned", "paused-normal"]
    assert "2 abandoned sessions are still open." in shown["abandoned"][0]
    for _sentence, link in shown.values():
        assert operator.get(link).status_code == 200, link


def notices(html: str) -> dict[str, tuple[str, str]]:
    """Return the attention notices in order: id → (sentence, link)."""
    matches = re.findall(r'<div class="notice" id="([^"]+)".*?</div>', html, re.DOTALL)
    parts = [
        re.search(rf'<div class="notice" id="{re.escape(identifier)}".*?</div>', html, re.DOTALL)[0]
        for identifier in matches
    ]
    links = [re.search(r'class="go" href="([^"]+)"', part) for part in parts]
    return {
        identifier: (plain_text(part), link[1].replace("&amp;", "&") if link else "")
        for identifier, part, link in zip(matches, parts, links, strict=True)
    }


def test_problems_come_first_with_a_link_to_their_fix(operator: Browser) -> None:
    create_consumer("normal")
    create_consumer("normal", host="app-2", beat_at=now() - timedelta(minutes=2), started_at=now() - timedelta(hours=1))
    create_consumer("light", scheduler_at=now() - timedelta(minutes=2))
    HistoryCursor.create(stream="light", position=9, dropped=1204)
    pause_queue(tasks.normal, by=Requester("operator", "ann@example.org"), reason="deploy of 2.4.1")
    pause_queue(
        tasks.light, task="get_cleanup_statistics", by=Requester("operator", "bob@example.org"), reason="too slow"
    )
    create_missed_tick(minutes_ago=95)
    create_missed_tick(minutes_ago=35)
    tasks.heavy.storage.enqueue(b"a message")
    html = operator.get("/").text
    shown = notices(html)
    assert list(shown) == [
        "unserved",
        "late-light",
        "silent",
        "missed-close_abandoned_sessions",
        "paused-normal",
        "paused-task-get_cleanup_statistics",
        "dropped",
    ]
    assert "No live worker for heavy. 1 run is waiting." in shown["unserved"][0]
    assert "Queue light has no live scheduler" in shown["late-light"][0]
    assert "normal on app-2 last seen 2 min" in shown["silent"][0]
    assert "missed 2 ticks" in shown["missed-close_abandoned_sessions"][0]
    assert "ann@example.org" in shown["paused-normal"][0] and "deploy of 2.4.1" in shown["paused-normal"][0]
    assert "too slow" in shown["paused-task-get_cleanup_statistics"][0]
    assert "1,204 history events were lost" in shown["dropped"][0]
    assert (
        operator.get(re.search(r'<a href="([^"]+)">No live worker', html)[1].replace("&amp;", "&")).status_code == 200
    )
    assert "7 things need attention" in plain_text(html)
    links = [link for _sentence, link in shown.values() if link]
    assert len(links) == 6
    for link in links:
        assert operator.get(link).status_code == 200, link


def create_missed_tick(minutes_ago: int, state: str = "missed") -> Tick:
    due_at = now() - timedelta(minutes=minutes_ago)
    return Tick.create(task="close_abandoned_sessions", due_at=due_at, queue="light", state=state, seen_at=now())


@pytest.mark.usefixtures("live_consumers")
def test_caught_up_or_old_tick_shows_no_notice(operator: Browser) -> None:
    create_missed_tick(minutes_ago=25 * 60)
    create_missed_tick(minutes_ago=95)
    create_missed_tick(minutes_ago=35, state="late")
    assert notices(operator.get("/").text) == {}


@pytest.mark.usefixtures("live_consumers")
def test_replaced_consumer_shows_no_notice(operator: Browser) -> None:
    long_ago = {"beat_at": now() - timedelta(minutes=2), "started_at": now() - timedelta(hours=1)}
    killed = create_consumer("light", **long_ago)
    assert killed.id not in operator.get("/").text
    elsewhere = create_consumer("light", host="app-2", **long_ago)
    html = operator.get("/").text
    assert "silent" in notices(html)
    assert elsewhere.id in html and killed.id not in html


@pytest.mark.usefixtures("live_consumers")
def test_dead_run_shows_a_notice_until_discarded(operator: Browser) -> None:
    run_id = create_dead_run()
    sentence, link = notices(operator.get("/").text)["dead"]
    assert "1 dead run waits for a decision" in sentence
    assert run_id in operator.get(link).text
    discard_dead_run(tasks.queues, run_id, Requester("operator", "ann@example.org"))
    assert notices(operator.get("/").text) == {}


def create_dead_run() -> str:
    """Return the id of a run that killed five workers."""
    queue = tasks.light
    run_id = str(tasks.get_cleanup_statistics().id)
    for number in range(settings.max_deliveries):
        queue.storage.deliveries.settle_and_claim(f"c{number}", "w1", False, "{}")
        queue.storage.deliveries.release(f"c{number}", "w1", "the worker died", settings.max_deliveries)
    flush_events(queue)
    return run_id


@pytest.mark.usefixtures("live_consumers")
def test_unusual_failure_rate_shows_a_notice(operator: Browser) -> None:
    for days in range(1, 7):
        for state in ("succeeded",) * 19 + ("failed",):
            create_counted_run(state, now() - timedelta(days=days))
    for _ in range(4):
        create_counted_run("failed", now())
    assert notices(operator.get("/").text) == {}  # too few for a notice
    for state in ("failed", "failed") + ("succeeded",) * 6:
        create_counted_run(state, now())
    sentence, link = notices(operator.get("/").text)["jump"]
    assert "6 runs failed in the last hour: 50% of all runs, compared with 5% in the week before." in sentence
    assert len(row_ids(operator.get(link).text)) == 6


@pytest.mark.usefixtures("live_consumers")
def test_usual_failure_rate_shows_no_notice(operator: Browser) -> None:
    for hours in (0, 0, 0, 0, 0, 0, 30, 40, 50, 60, 70, 80):
        for state in ("failed", "succeeded"):
            create_counted_run(state, now() - timedelta(hours=hours))
    assert "jump" not in notices(operator.get("/").text)


def test_next_runs_are_listed_soonest_first(operator: Browser) -> None:
    avoid_end_of(HOUR / 2)
    html = section_html(operator.get("/").text, "upcoming")
    names = re.findall(r'<li id="next-([^"]+)"', html)
    due = re.findall(r'<time datetime="([^"]+)"[^>]*data-tick="due"', html)
    assert set(names) >= {"close_abandoned_sessions", "cleanup_old_task_results"}
    assert due == sorted(due) and len(due) == len(names)


@pytest.mark.usefixtures("live_consumers")
def test_queues_show_waiting_oldest_and_busy_workers(operator: Browser) -> None:
    running = {"worker": "Worker-1", "run_id": "an-id", "task": "process_book", "since": now().isoformat()}
    create_consumer("heavy", running=[running])
    for _ in range(2):
        tasks.light.storage.enqueue(b"a message")
    tasks.light.storage.add_to_schedule(b"a later message", datetime.now() + timedelta(hours=1))
    html = operator.get("/").text
    table = plain_text(re.search(r'id="queues".*?</table>', html, re.DOTALL)[0])
    assert "heavy 0 – 1 of 4 busy" in table
    assert "normal 0 – 0 of 2 busy" in table
    assert re.search(r"light 2 1 scheduled \d+ s 0 of 2 busy", table)
    assert 'href="/runs/an-id"' in html


def test_first_start_explains_the_next_steps(operator: Browser) -> None:
    html = operator.get("/").text
    assert "Nothing has run yet." in html
    assert "No consumer is running" in html
    assert "the first scheduled one at" in html
    assert "No session was closed in the last 24 hours." in html
    assert "There are no runs yet." in operator.get("/runs").text


def test_finished_first_steps_are_ticked_and_the_first_run_ends_them(operator: Browser) -> None:
    assert completed_steps(operator) == [False, False, False, False]
    create_session()
    for queue in tasks.queues:
        create_consumer(queue)
    assert completed_steps(operator) == [True, True, False, False]
    create_run()
    html = operator.get("/").text
    assert 'id="welcome"' not in html and 'id="outcomes"' in html


def completed_steps(browser: Browser) -> list[bool]:
    steps = re.findall(r"<li( data-done)?>", section_html(browser.get("/").text, "welcome"))
    return [bool(done) for done in steps]


def test_unavailable_broker_is_shown_with_the_remaining_page(tmp_path: Path) -> None:
    installed = Installation(tmp_path, REDIS_URL=f"unix://{tmp_path}/missing.sock", SECRET_KEY=KEY)
    assert installed.flask("migrate").returncode == 0
    viewer = installed.bearer("viewer")
    with installed.web():
        overview, preview = (installed.ask("GET", path, viewer) for path in ("/", "/sessions/cleanup"))
    assert (overview.status, preview.status) == (200, 200)
    assert "Broker unavailable" in overview.text
    assert "abandoned, still open" in overview.text
    assert "Nothing to close." in preview.text


# --- the preview of the cleanup ------------------------------------------------------------------------------


@pytest.mark.usefixtures("live_consumers")
def test_preview_counts_abandoned_sessions_and_shows_the_oldest(operator: Browser) -> None:
    abandoned = [create_session(minutes_ago=minutes_ago) for minutes_ago in range(130, 142)]
    create_session(minutes_ago=5)
    html = operator.get("/sessions/cleanup").text
    assert "12 open sessions started more than 2 h ago." in html
    assert "Close 12 sessions</button>" in html
    assert row_ids(html) == [str(row.id) for row in reversed(abandoned)][:10]


@pytest.mark.usefixtures("live_consumers")
def test_preview_starts_a_cleanup_run_and_redirects_to_it(operator: Browser) -> None:
    create_session(minutes_ago=150)
    answer = operator.send("/sessions/cleanup")
    assert answer.status_code == 303
    assert Run.get_by_id(answer.location.removeprefix("/runs/")).asked_by == "operator@example.org"
    assert "close_abandoned_sessions()" in operator.get(answer.location).text


def test_preview_without_a_worker_says_so_and_enqueues_nothing(operator: Browser) -> None:
    create_session(minutes_ago=150)
    assert "No live worker on queue light" in operator.get("/sessions/cleanup").text
    answer = operator.send("/sessions/cleanup")
    assert "No live worker on queue light" in operator.get(answer.location).text
    assert len(tasks.light) == 0


@pytest.mark.usefixtures("live_consumers")
def test_preview_without_abandoned_sessions_offers_no_cleanup(operator: Browser) -> None:
    create_session(minutes_ago=5)
    html = operator.get("/sessions/cleanup").text
    assert "Every open session started less than 2 h ago." in html
    assert 'data-kind="primary"' not in html


def test_viewer_sees_the_preview_and_cannot_close(app: Flask) -> None:
    viewer = sign_in_browser(app, "viewer")
    create_session(minutes_ago=150)
    html = viewer.get("/sessions/cleanup").text
    assert "Closing them requires the operator role." in html
    assert 'method="post">' not in html.partition("<main")[2]
    assert viewer.send("/sessions/cleanup").status_code == 403
