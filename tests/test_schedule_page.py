"""The Schedule page: due ticks, past ticks, and the operator's commands."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from browsers import Browser, sign_in_browser
from factories import create_consumer, create_run
from flask import Flask
from test_budgets import many_tasks
from waiting import avoid_end_of

import tasks
from admin.display.cron_text import describe_cron
from admin.display.schedules import scheduled_tasks
from admin.pages.queues.schedule import MAX_LENGTH
from engine.broker.messages import Requester
from engine.control import schedules
from engine.database import database
from engine.models import Run, Tick, now
from engine.queues import ticks as queues_ticks
from models import AuditEntry

HALF_HOUR = timedelta(minutes=30)
CLEANUP, PRUNING, STUCK = "close_abandoned_sessions", "cleanup_old_task_results", "requeue_stuck_books"
ANN = Requester("operator", "ann@example.org")


def plain_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def card(html: str, task: str = CLEANUP) -> str:
    match = re.search(rf'<section class="card schedule" id="schedule-{task}".*?</section>', html, re.DOTALL)
    assert match
    return match[0]


def create_tick(
    minutes_ago: float,
    state: str = "enqueued",
    drift: float = 0.4,
    ms: float = 1000,
    task: str = CLEANUP,
    **values: Any,
) -> Tick:
    """Store a tick of a schedule, the cleanup's by default, and its run if it started one."""
    due_at = now().replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    made = None
    if state in ("enqueued", "late"):
        started_at = due_at + timedelta(seconds=drift)
        ended_at = started_at + timedelta(milliseconds=ms)
        times = {"enqueued_at": due_at, "started_at": started_at, "ended_at": ended_at, "run_ms": ms}
        made = create_run(task, **{**times, **values})
    run_id = made and made.id
    return Tick.create(task=task, due_at=due_at, queue="light", state=state, run_id=run_id, seen_at=now())


# --- content -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("live_consumers")
def test_schedule_is_shown_in_words_with_its_next_five_ticks(operator: Browser) -> None:
    avoid_end_of(HALF_HOUR)
    html = operator.get("/schedule").text
    assert "Every 30 minutes */30 * * * * UTC" in plain_text(card(html))
    assert "At 03:00 0 3 * * * UTC" in plain_text(card(html, PRUNING))
    ticks = [datetime.fromisoformat(tick) for tick in re.findall(r'<time datetime="([^"]+)"', card(html))]
    assert len(ticks) == 5
    assert {tick.minute for tick in ticks} == {0, 30}
    assert now() < ticks[0] <= now() + timedelta(minutes=30)
    assert "a deploy can change or remove them" in plain_text(html)


@pytest.mark.usefixtures("live_consumers")
def test_ticks_are_in_the_browser_zone_and_expressions_in_utc(operator: Browser) -> None:
    operator.set_cookie("zone", "Asia/Kathmandu")  # UTC+05:45
    html = operator.get("/schedule").text
    times = re.findall(r'<time datetime="[^"]+">([^<]+)</time>', card(html))
    assert {text[-2:] for text in times} == {"15", "45"}
    assert "Cron expressions are in UTC, as in the code. All times on this page are in Asia/Kathmandu." in plain_text(
        html
    )


def test_last_thirty_runs_are_bars_with_links(any_db_operator: Browser) -> None:
    for number in range(33):
        create_tick(30 * number + 1, state="enqueued", ms=10 * 3 ** (number % 7))
    html = any_db_operator.get(f"/schedule/{CLEANUP}").text
    newest = [run.id for run in Run.select().order_by(Run.enqueued_at.desc()).limit(30)]
    assert re.findall(r'<a href="/runs/([^"]+)" tabindex="-1"><title>succeeded ', html) == newest[::-1]
    on_list = card(any_db_operator.get("/schedule").text)
    for page in (html, on_list):
        assert len(set(re.findall(r'<path d="M\d+ 44v-(\d+)h3', page))) == 7
    assert len(re.findall(r"<title>[^<]+ · 7\.3 s · \+400 ms</title>", on_list)) == 4
    assert "run time 270 ms, maximum 7.3 s" in plain_text(html).replace("\xa0", " ")


@pytest.mark.usefixtures("live_consumers")
def test_start_delay_counts_only_runs_on_time(operator: Browser) -> None:
    for number, drift in enumerate((0.2, 0.4, 1.4)):
        create_tick(30 * number + 1, drift=drift)
    create_tick(121, state="late", drift=900)
    create_run(CLEANUP, asked_by_kind="operator", asked_by="ann", started_at=now(), run_ms=4)
    assert "start delay 400 ms, maximum 1.4 s" in plain_text(card(operator.get("/schedule").text)).replace("\xa0", " ")


@pytest.mark.usefixtures("live_consumers")
def test_overlapping_runs_are_counted_and_marked(operator: Browser) -> None:
    create_tick(61, ms=40 * 60_000)
    over = create_tick(31)
    create_tick(1)
    html = card(operator.get("/schedule").text)
    assert f'overlapping runs</dt><dd><a href="/runs/{over.run_id}"' in html
    assert "1 of 3 runs" in plain_text(html)
    assert html.count('class="over"') == 1


@pytest.mark.usefixtures("live_consumers")
def test_missed_ticks_are_shown_between_runs_and_counted(operator: Browser) -> None:
    for minutes_ago, state in ((151, "enqueued"), (121, "missed"), (91, "missed"), (61, "paused"), (31, "enqueued")):
        create_tick(minutes_ago, state)
    html = card(operator.get("/schedule").text)
    strip = html.partition("<svg")[2].partition("</svg>")[0]
    assert re.findall("<(?:path d|a href)", strip) == ["<path d", "<a href", "<a href", "<path d"]
    assert re.findall('<a href="([^"]+)"', strip) == [
        f"/schedule/{CLEANUP}?state={state_name}" for state_name in ("missed", "paused")
    ]
    assert re.findall('data-state="([a-z]+)"', strip) == ["missed", "paused"]
    assert "missed · 2 ticks · " in strip
    link, count = re.search(r'missed ticks</dt><dd><a href="([^"]+)"><span[^>]*>(\d+)<', html).groups()
    assert len(re.findall('<tr id="tick-', operator.get(link).text)) == int(count) == 2


def test_stale_scheduler_is_reported_first(operator: Browser) -> None:
    assert "Queue light has no live scheduler" in plain_text(operator.get("/schedule").text)
    create_consumer("light", scheduler_at=now() - timedelta(minutes=3))
    html = operator.get("/schedule").text
    assert "last seen 3 min ago" in plain_text(html)
    assert "No scheduler" in plain_text(card(html))
    assert "last checked by the scheduler 3 min ago" in plain_text(operator.get(f"/schedule/{CLEANUP}").text)
    create_consumer("light")
    html = operator.get("/schedule").text
    assert not re.search("no live scheduler|No scheduler", html)
    seen = r"last checked by the scheduler (now|\d+ s ago)"
    assert re.search(seen, plain_text(operator.get(f"/schedule/{CLEANUP}").text))


def test_ticks_are_filtered_by_outcome(any_db_operator: Browser) -> None:
    states = ("enqueued", "late", "missed", "paused")
    for number in range(34):
        create_tick(30 * number + 1, states[number % 4])
    html = any_db_operator.get(f"/schedule/{CLEANUP}").text
    assert re.findall(r">(All|On time|Caught up|Missed|Paused) <small>(\d+)<", html) == [
        ("All", "34"), ("On time", "9"), ("Caught up", "9"), ("Missed", "8"), ("Paused", "8"),
    ]  # fmt: skip
    assert len(re.findall('<tr id="tick-', html)) == 30
    older = re.search(r'href="([^"]+)" rel="next"', html)[1].replace("&amp;", "&")
    assert len(re.findall('<tr id="tick-', any_db_operator.get(older).text)) == 4
    assert any_db_operator.get("/schedule/get_cleanup_statistics").status_code == 404


# --- next ticks ----------------------------------------------------------------------------------------------


def upcoming_ticks(html: str) -> list[tuple[datetime, str]]:
    agenda = html.partition('id="agenda"')[2].partition("</section>")[0]
    matches = re.findall(r'<li><time datetime="([^"]+)">.*?<a[^>]* href="/schedule/([^"]+)"', agenda)
    return [(datetime.fromisoformat(at), task) for at, task in matches]


@pytest.mark.usefixtures("live_consumers")
def test_upcoming_ticks_of_all_schedules_are_listed_soonest_first(operator: Browser) -> None:
    avoid_end_of(HALF_HOUR)
    html = operator.get("/schedule").text
    assert {task for _, task in upcoming_ticks(html)} == {CLEANUP, PRUNING, STUCK}
    assert [at for at, _ in upcoming_ticks(html)] == sorted(at for at, _ in upcoming_ticks(html))
    at_three = (now() + timedelta(days=now().hour >= 3)).replace(hour=3, minute=0, second=0, microsecond=0)
    assert (at_three, PRUNING) in upcoming_ticks(html)
    with many_tasks(30):
        html = operator.get("/schedule").text
        assert len(upcoming_ticks(html)) == 6
        assert "and 12 more" in plain_text(html)  # of thirty tasks, fifteen have schedules computed by code
        assert [at for at, _ in upcoming_ticks(html)] == sorted(at for at, _ in upcoming_ticks(html))


@pytest.mark.usefixtures("live_consumers")
def test_paused_ticks_are_not_upcoming_until_the_pause_ends(operator: Browser) -> None:
    schedules.pause_schedule(tasks.light, PRUNING, by=ANN)
    html = operator.get("/schedule").text
    assert {task for _, task in upcoming_ticks(html)} == {CLEANUP, STUCK}
    assert "1 skipped while paused" in plain_text(html)
    until = (now() + timedelta(days=2)).replace(hour=12, minute=10, second=0, microsecond=0)
    schedules.pause_schedule(tasks.light, CLEANUP, by=ANN, until=until)
    schedules.resume_schedule(tasks.light, PRUNING)
    html = operator.get("/schedule").text
    assert (until + timedelta(minutes=20), CLEANUP) in upcoming_ticks(html)
    assert "skipped while paused" not in plain_text(html)


# --- pause and resume ----------------------------------------------------------------------------------------


def current_pause(task: str = CLEANUP) -> queues_ticks.Info | None:
    return queues_ticks.find_pause(tasks.light.pauses(), task, now())


@pytest.mark.usefixtures("live_consumers")
def test_schedule_is_paused_with_reason_and_end_then_resumed(operator: Browser) -> None:
    assert "paused" in operator.get(f"/schedule/{CLEANUP}/pause").text
    answer = operator.send(f"/schedule/{CLEANUP}/pause", **{"reason": "the disk is full", "for": "4h", "until": ""})
    assert (answer.status_code, answer.location) == (303, "/schedule")
    pause = current_pause()
    assert pause and (pause["by"], pause["reason"]) == ("operator@example.org", "the disk is full")
    assert timedelta(hours=3, minutes=59) < datetime.fromisoformat(pause["until"]) - now() <= timedelta(hours=4)
    html = card(operator.get("/schedule").text)
    assert re.search(r"the disk is full by operator@example.org since .*, until ", plain_text(html))
    assert len(re.findall('class="held"', html)) == 5
    assert "resumes at" in html
    assert operator.send(f"/schedule/{CLEANUP}/resume").location == "/schedule"
    assert current_pause() is None
    assert audit_actions() == ["schedule.pause", "schedule.resume"]


@pytest.mark.usefixtures("live_consumers")
def test_pause_redirects_to_the_list_page_of_the_schedule(operator: Browser) -> None:
    with many_tasks(14):
        names = [task.name for task in scheduled_tasks()]
        for name in (names[6], names[7]):
            answer = operator.send(f"/schedule/{name}/pause", reason="", until="")
            assert f'id="paused-{name}"' in operator.get(answer.location).text
            assert operator.send(f"/schedule/{name}/resume").location == answer.location
            assert f'href="{answer.location}"' in operator.get(f"/schedule/{name}/pause").text


def audit_actions() -> list[str]:
    entries = AuditEntry.select().where(AuditEntry.action.startswith("schedule.")).order_by(AuditEntry.id)
    return [entry.action for entry in entries]


def test_pause_end_is_entered_in_the_browser_zone(operator: Browser) -> None:
    operator.set_cookie("zone", "Asia/Kathmandu")
    operator.send(f"/schedule/{CLEANUP}/pause", reason="", until="2099-01-01T12:00")
    pause = current_pause()
    assert pause and pause["until"] == "2099-01-01T06:15:00+00:00"
    assert pause["reason"] is None


@pytest.mark.parametrize("until", ["2020-01-01T12:00", "tomorrow"])
def test_invalid_pause_end_is_rejected_and_typed_text_kept(operator: Browser, until: str) -> None:
    answer = operator.send(f"/schedule/{CLEANUP}/pause", reason="the disk is full", until=until)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert 'value="the disk is full"' in answer.text
    assert current_pause() is None


def test_pause_is_removed_by_delete(operator: Browser) -> None:
    schedules.pause_schedule(tasks.light, CLEANUP, by=ANN)
    headers = {"X-CSRFToken": operator.form_token}
    assert operator.delete(f"/schedule/{CLEANUP}/pause", headers=headers).status_code == 303
    assert current_pause() is None


# --- run now and catch up ------------------------------------------------------------------------------------


def test_run_now_starts_a_run_and_redirects_to_it(operator: Browser) -> None:
    answer = operator.send(f"/schedule/{CLEANUP}/run")
    made = Run.get_by_id(answer.location.removeprefix("/runs/"))
    assert (made.task, made.asked_by) == (CLEANUP, "operator@example.org")


@pytest.mark.usefixtures("live_consumers")
def test_missed_tick_is_caught_up_once(operator: Browser) -> None:
    tick = create_tick(61, "missed")
    assert "Catch up on " in card(operator.get("/schedule").text)
    answer = operator.send(f"/schedule/{CLEANUP}/catch-up")
    assert answer.location == f"/runs/{Tick.get().run_id}"
    assert (Tick.get().due_at, Tick.get().state) == (tick.due_at, "late")
    html = operator.get("/schedule").text
    assert "Catch up on " not in card(html)
    assert "1 caught up" in plain_text(card(html))
    again = operator.send(f"/schedule/{CLEANUP}/catch-up")
    assert again.location == "/schedule"
    assert "has no missed tick to catch up on" in plain_text(operator.get("/schedule").text)
    assert Run.select().count() == 1


def test_unscheduled_task_has_no_schedule_actions(operator: Browser) -> None:
    for command in ("pause", "resume", "run", "catch-up"):
        assert operator.send(f"/schedule/get_cleanup_statistics/{command}").status_code == 404
        assert operator.send(f"/schedule/nonsense/{command}").status_code == 404
    assert (Run.select().count(), audit_actions()) == (0, [])


def test_viewer_sees_the_schedule_and_has_no_actions(app: Flask) -> None:
    viewer = sign_in_browser(app, "viewer")
    create_tick(61, "missed")
    assert "<form" not in card(viewer.get("/schedule").text)
    assert viewer.get(f"/schedule/{CLEANUP}/pause").status_code == 403
    for command in ("pause", "resume", "run", "catch-up"):
        assert viewer.send(f"/schedule/{CLEANUP}/{command}").status_code == 403
    assert (Run.select().count(), Tick.get().state) == (0, "missed")


# --- cost ----------------------------------------------------------------------------------------------------


def test_pages_take_few_statements_however_many_rows(any_db_operator: Browser) -> None:
    statements: list[str] = []
    database.obj.query_hooks.append(lambda event: statements.append(event.sql))
    paths = ("/schedule", f"/schedule/{CLEANUP}", f"/schedule/{CLEANUP}/pause")
    counts = []
    for row_count in (2, 60):
        for number in range(row_count):
            create_tick(row_count * 1000 + 30 * number, "missed" if number % 3 else "enqueued")
        counts.append([])
        for path in paths:
            statements.clear()
            html = any_db_operator.get(path).text
            assert len(html.encode()) < 60_000
            counts[-1].append(len(statements))
    assert counts[0] == counts[1]
    assert max(counts[0]) <= 8


@pytest.mark.parametrize("language", ["en", "ru"])
def test_full_schedule_page_stays_within_its_size(operator: Browser, language: str) -> None:
    operator.set_cookie("language", language)
    operator.set_cookie("zone", "Asia/Kathmandu")
    with many_tasks(14):
        shown = [task.name for task in scheduled_tasks()][:MAX_LENGTH]
        for task in shown:
            for number in range(30):
                tick = create_tick(1500 + 30 * number, task=task, ms=31 * 60_000 if number % 5 == 0 else 1234)
                if number % 3 == 0:
                    Run.update(state="failed").where(Run.id == tick.run_id).execute()
            schedules.pause_schedule(
                tasks.light, task, by=ANN, reason="the publisher's catalogue is being moved to a new host"
            )
        html = operator.get("/schedule").text
        assert re.findall(r'id="schedule-([^"]+)"', html) == shown
        assert len(re.findall(r'd="M\d+ 44v', html)) == MAX_LENGTH * 30
        assert len(html.encode()) <= 60_000, len(html.encode())
        last = re.search(r'href="([^"]+)" rel="next"', html)
        assert last and 'id="schedule-forgotten_13"' in operator.get(last[1]).text


@pytest.mark.usefixtures("live_consumers")
def test_page_returns_304_until_something_changes(operator: Browser) -> None:
    avoid_end_of(HALF_HOUR)
    create_tick(31)
    headers = {"If-None-Match": operator.get("/schedule").headers["ETag"]}
    create_consumer("light")
    assert operator.get("/schedule", headers=headers).status_code == 304
    create_tick(1)
    assert operator.get("/schedule", headers=headers).status_code == 200


# --- descriptions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "english", "russian"),
    [
        ("*/30 * * * *", "Every 30 minutes", "Каждые 30 минут"),
        ("0 3 * * *", "At 03:00", "В 03:00"),
        ("0 */2 * * *", "Every 2 hours", "Каждые 2 часа"),
        ("0 9 * * 1-5", "At 09:00, Monday through Friday", "В 09:00, понедельник – пятница"),
        ("0 9 * 2 0", "At 09:00, only on Sunday, only in February", "В 09:00, воскресенье, февраль"),
        # Both fields must match, while cron accepts either.
        ("0 9 13 * 5", "At 09:00, on day 13 of the month, only on Friday", "В 09:00, в 13 число месяца, пятница"),
        ("no expression", "no expression", "no expression"),
    ],
)
def test_expression_is_described_in_plain_words(expression: str, english: str, russian: str) -> None:
    assert (describe_cron(expression, "en"), describe_cron(expression, "ru")) == (english, russian)


def test_day_and_weekday_in_an_expression_must_both_match() -> None:
    from engine.queues.crontab import crontab

    friday = crontab(minute="0", hour="9", day="13", day_of_week="5").next(datetime(2026, 1, 1, tzinfo=UTC))
    assert friday and (friday.day, friday.weekday()) == (13, 4)
