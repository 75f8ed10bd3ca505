"""The Tasks page: outcomes of seven days, running a task by hand, pausing one."""

import re
from collections import Counter
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from browsers import Browser, sign_in_browser
from factories import create_run
from flask import Flask
from waiting import avoid_end_of

import tasks
from engine.broker.messages import Requester
from engine.control.queues import pause_queue
from engine.database import database
from engine.history import run_counts, task_stats
from engine.models import Run, now
from engine.monitor import registered_tasks
from models import AuditEntry

CLEANUP, STATISTICS = "close_abandoned_sessions", "get_cleanup_statistics"


def plain_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def task_row(html: str, task: str) -> str:
    return html.split(f'<tr id="task-{task}"')[1].split("</tr>")[0]


def create_ended_run(task: str = STATISTICS, state: str = "succeeded", *, hours_ago: float = 0.0, **values: Any) -> Run:
    """Store and count a run that ended at that time."""
    ended_at = now() - timedelta(hours=hours_ago)
    made = create_run(
        task, state, enqueued_at=ended_at, ended_at=ended_at, **{"run_ms": 20.0, "wait_ms": 3.0, **values}
    )
    run_counts.increment(Counter(run_counts.counter_keys(made)))
    return made


def count_retries(task: str, times: int) -> None:
    run_counts.increment({(int(now().timestamp()), task, "light", run_counts.RETRIED, 0): times})


# --- the list ------------------------------------------------------------------------------------------------


def test_tasks_show_runs_failures_and_durations_of_seven_days(any_db_operator: Browser) -> None:
    for number in range(97):
        create_ended_run(run_ms=20.0, hours_ago=number)
    for state in ("failed", "dead", "failed"):
        create_ended_run(state=state, run_ms=900.0)
    count_retries(STATISTICS, 20)
    create_ended_run(state="cancelled", run_ms=None, wait_ms=None)
    create_ended_run(hours_ago=24 * 8)
    html = any_db_operator.get("/tasks").text
    text = plain_text(task_row(html, STATISTICS))
    assert re.search(r"101 3% 19.2% of attempts 3 ms (\d+) ms (\d+) ms (\d+) ms", text)
    p50, p95, p99 = map(int, re.search(r"3 ms (\d+) ms (\d+) ms (\d+) ms", text).groups())
    assert 17 <= p50 <= 21
    assert 17 <= p95 <= 21
    assert 800 <= p99 <= 1000
    assert "no runs 0 –" in plain_text(task_row(html, CLEANUP))
    assert {task.name for task in registered_tasks.list_tasks(tasks.queues)} == set(
        re.findall('<tr id="task-([^"]+)"', html)
    )


def test_numbers_link_to_their_runs(operator: Browser) -> None:
    avoid_end_of(timedelta(days=1))
    create_ended_run()
    create_ended_run(state="failed")
    since = f"{task_stats.week_start(now()):%Y-%m-%dT%H:%MZ}"
    links = [
        link.replace("&amp;", "&")
        for link in re.findall('href="(/runs[^"]*)"', task_row(operator.get("/tasks").text, STATISTICS))
    ]
    words = [parse_qs(urlsplit(link).query)["q"] for link in links]
    assert words == [
        [f"task:{STATISTICS} ended:{since}"],
        [f"state:failed,dead task:{STATISTICS} ended:{since}"],
    ]
    assert [len(re.findall('<tr id="run-', operator.get(link).text)) for link in links] == [2, 1]


def test_six_hour_bar_links_to_its_runs(operator: Browser) -> None:
    for hours_ago in (0, 30, 30):
        create_ended_run(hours_ago=hours_ago)
    html = operator.get(f"/tasks/{STATISTICS}").text
    week = html.partition('<svg class="week"')[2].partition("</svg>")[0]
    links = [link.replace("&amp;", "&") for link in re.findall('<a href="([^"]+)"', week)]
    assert [len(re.findall('<tr id="run-', operator.get(link).text)) for link in links] == [2, 1]
    assert week.count('class="filling"') == 1


def test_all_tasks_are_counted_in_one_statement(any_db_operator: Browser) -> None:
    statements: list[str] = []
    database.obj.query_hooks.append(lambda event: statements.append(event.sql))
    numbers = []
    for run_count in (1, 40):
        for number in range(run_count):
            create_ended_run(state="failed" if number % 3 else "succeeded", hours_ago=number * 4)
        for page in ("/tasks", f"/tasks/{STATISTICS}"):
            statements.clear()
            html = any_db_operator.get(page).text
            assert len(html.encode()) < 60_000
            assert sum("dewey_run_counts" in statement for statement in statements) == 1
            numbers.append(len(statements))
    assert numbers[:2] == numbers[2:]
    assert max(numbers) <= 8


# --- one task ------------------------------------------------------------------------------------------------


def test_task_page_shows_its_declaration(operator: Browser) -> None:
    text = plain_text(operator.get(f"/tasks/{CLEANUP}").text)
    for words in (
        "Close the reading sessions that were never ended.",
        "queue light priority 2",
        "schedule */30 * * * * catches up on missed ticks",
        "retries 3, 5 min apart",
        "soft limit 25 min raises an exception in the task",
        "hard limit 30 min kills the worker process",
        "rate limit unlimited",
        "concurrency unlimited",
        "No runs yet.",
    ):
        assert words in text
    assert operator.get("/tasks/nonsense").status_code == 404


def test_task_limits_are_shown(operator: Browser) -> None:
    @tasks.light.task(timeout=2, time_limit=90, rate_limit="10/m", unique=True, retries=2, retry_delay=5)
    def a_limited_task() -> None:
        """Do little."""

    try:
        text = plain_text(operator.get("/tasks/a_limited_task").text)
    finally:
        tasks.light._registry.unregister(a_limited_task.task_class)
    for words in (
        "soft limit 2.0 s",
        "hard limit 1 min 30 s",
        "rate limit 10 starts per minute",
        "concurrency unique for the same arguments",
        "retries 2, 5.0 s apart",
    ):
        assert words in text


# --- running a task ------------------------------------------------------------------------------------------


def test_task_is_run_with_the_typed_arguments(operator: Browser) -> None:
    assert 'name="arg.hours"' in operator.get(f"/tasks/{STATISTICS}").text
    answer = operator.send(f"/tasks/{STATISTICS}/run", **{"arg.hours": "12", "eta": "", "priority": ""})
    made = Run.get_by_id(answer.location.removeprefix("/runs/"))
    assert (made.kwargs, made.state, made.priority) == ({"hours": 12}, "waiting", 1)
    assert AuditEntry.get(AuditEntry.action == "tasks.run").after["arguments"] == {"hours": 12}


def test_task_is_run_with_eta_and_priority(operator: Browser) -> None:
    operator.set_cookie("zone", "Asia/Kathmandu")  # UTC+05:45
    form = {"arg.hours": "24", "eta": "2099-01-01T12:00", "priority": "7.5"}
    answer = operator.send(f"/tasks/{STATISTICS}/run", **form)
    made = Run.get_by_id(answer.location.removeprefix("/runs/"))
    assert (made.state, made.due_at.isoformat(), made.priority) == ("scheduled", "2099-01-01T06:15:00+00:00", 7.5)


@pytest.mark.parametrize(
    "wrong",
    [{"arg.hours": "a day"}, {"arg.hours": "24", "eta": "soon"}, {"arg.hours": "24", "priority": "first"}],
    ids=["argument", "eta", "priority"],
)
def test_invalid_form_is_rejected_and_typed_text_kept(operator: Browser, wrong: dict[str, str]) -> None:
    answer = operator.send(f"/tasks/{STATISTICS}/run", **wrong)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert 'aria-invalid="true"' in answer.text
    for typed in wrong.values():
        assert f'value="{typed}"' in answer.text
    assert Run.select().count() == 0


# --- pausing a task ------------------------------------------------------------------------------------------


def test_task_is_paused_with_a_reason_and_resumed(operator: Browser) -> None:
    answer = operator.send(f"/tasks/{STATISTICS}/pause", reason="reports run too often")
    assert answer.location == f"/tasks/{STATISTICS}"
    assert tasks.light.pauses()[STATISTICS]["reason"] == "reports run too often"
    text = plain_text(operator.get(f"/tasks/{STATISTICS}").text)
    assert "Paused reports run too often by operator@example.org since" in text
    assert "paused" in task_row(operator.get("/tasks").text, STATISTICS)
    assert operator.send(f"/tasks/{STATISTICS}/resume").location == f"/tasks/{STATISTICS}"
    assert tasks.light.pauses() == {}


def test_pause_is_removed_by_delete(operator: Browser) -> None:
    pause_queue(tasks.light, task=STATISTICS, by=Requester("operator", "ann"))
    headers = {"X-CSRFToken": operator.form_token}
    assert operator.delete(f"/tasks/{STATISTICS}/pause", headers=headers).status_code == 303
    assert tasks.light.pauses() == {}


def test_viewer_cannot_run_or_pause_a_task(app: Flask) -> None:
    viewer = sign_in_browser(app, "viewer")
    assert "<form" not in viewer.get(f"/tasks/{STATISTICS}").text.partition("<main")[2].partition("</main>")[0]
    for command in ("run", "pause", "resume"):
        assert viewer.send(f"/tasks/{STATISTICS}/{command}").status_code == 403
    assert Run.select().count() == 0
