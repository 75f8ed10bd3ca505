"""The page of a run: its content, its limits, and its commands."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from browsers import PEOPLE, Browser
from factories import create_attempt, create_consumer, create_run
from markupsafe import Markup
from test_plans import explain

import tasks
from config import ROOT
from engine.broker.messages import Requester
from engine.broker.sqlite.storage import SqliteStorage
from engine.control import runs
from engine.database import database, on_postgresql
from engine.history import writer
from engine.history.tracebacks import parse_traceback
from engine.models import Attempt, LogLine, Run, now
from engine.queues.queue import Queue
from engine.search import related_runs
from models import AuditEntry

VERA = Requester("operator", "vera")
TRACEBACK = f"""Traceback (most recent call last):
  File "/usr/lib/python3.11/zipfile.py", line 1, in __init__
    self._RealGetContents()
KeyError: 'no end record'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "{ROOT}/.venv/lib/python3.11/site-packages/huey/api.py", line 379, in _execute
    task_value = task.execute()
                 ^^^^^^^^^^^^^^
  File "{ROOT}/engine/queues/task.py", line 59, in execute_or_fail
    return func(*args, **kwargs)
  File "{ROOT}/reading/books.py", line 88, in open_epub
    with zipfile.ZipFile(path) as epub:
         ^^^^^^^^^^^^^^^^^^^^^
  File "/usr/lib/python3.11/zipfile.py", line 1302, in __init__
    self._RealGetContents()
zipfile.BadZipFile: File is not a zip file
on two lines
"""


def plain_text(html: str) -> str:
    within_a_sentence = re.sub(r"</?a\b[^>]*>", "", html)
    return " ".join(Markup(re.sub(r"<[^>]+>", " ", within_a_sentence)).unescape().split())


def page_text(browser: Browser, run: Run | str, query: str = "") -> str:
    answer = browser.get(f"/runs/{run if isinstance(run, str) else run.id}{query}")
    assert answer.status_code == 200
    return plain_text(answer.text)


def add_log_line(of: Run, number: int, text: str, delivery: int = 1, level: str = "INFO") -> LogLine:
    return LogLine.create(
        run_id=of.id, delivery=delivery, number=number, at=now(), level=level, logger="books", text=text
    )


def enqueue_run(task: str = "get_cleanup_statistics", **kwargs: Any) -> str:
    return str(runs.run_task(tasks.queues, task, kwargs=kwargs, by=VERA).id)


# --- content -------------------------------------------------------------------------------------------------


def test_timeline_shows_waits_pauses_and_returns(operator: Browser) -> None:
    at = now() - timedelta(hours=1)
    run = create_run("process_book", "failed", enqueued_at=at, wait_ms=8000, attempts=2, deliveries=4, retries=1,
              code_version="2.4.1", ended_at=at)  # fmt: skip

    def after(seconds: float) -> Any:
        return at + timedelta(seconds=seconds)

    create_attempt(run, 1, "died", attempt=1, worker="w-3 on app-1:7:aa", started_at=after(8), ended_at=after(49),
            run_ms=41_000, error="w-3 died (signal 9)")  # fmt: skip
    create_attempt(run, 2, "returned", attempt=1, worker="w-1 on app-1:7:aa", started_at=after(61), ended_at=after(62),
            error="shutdown")  # fmt: skip
    create_attempt(run, 3, "failed", attempt=1, worker="w-2 on app-2:8:bb", started_at=after(70), ended_at=after(80),
            next_at=after(380), run_ms=10_000, error="TimeoutError: cover.jpg", code_version="2.4.1")  # fmt: skip
    create_attempt(run, 4, "failed", attempt=2, worker="w-2 on app-2:8:bb", started_at=after(391), ended_at=after(392),
            run_ms=90, error="BadZipFile: no\nsecond line", code_version="2.4.2")  # fmt: skip
    story = page_text(operator, run)
    for words in (
        "Attempt 1 was interrupted: the worker died w-3 on app-1:7:aa ran 41 s",
        "Returned to the queue w-3 died (signal 9) waited 12 s",
        "Attempt 1 was returned to the queue: the worker was stopped w-1 on app-1:7:aa",
        "Returned to the queue shutdown waited 8.0 s",
        "Attempt 1 failed w-2 on app-2:8:bb · next attempt after 5 min TimeoutError: cover.jpg ran 10 s",
        "Attempt 2 failed w-2 on app-2:8:bb · code version 2.4.2 · after 11 s in the queue BadZipFile: no ran 90 ms",
    ):
        assert words in story
    assert "second line" not in story


def test_timeline_of_many_attempts_shows_the_first_and_last(operator: Browser) -> None:
    run = create_run(state="succeeded", attempts=40)
    for number in range(1, 41):
        create_attempt(run, number, "failed", started_at=now())
    story = page_text(operator, run)
    assert re.findall(r"Attempt (\d+) failed", story) == ["1", "2", *map(str, range(33, 41))]
    assert "30 attempts not shown" in story


def test_traceback_shows_own_frames_first(operator: Browser) -> None:
    run = create_run("process_book", "failed", error="BadZipFile: File is not a zip file")
    create_attempt(run, 1, "failed", error=run.error, traceback=TRACEBACK)
    html = operator.get(f"/runs/{run.id}").text
    shown, _, folded = html.partition("<details")
    assert "reading/books.py:88, in open_epub with zipfile.ZipFile(path) as epub:" in plain_text(shown)
    assert "zipfile.BadZipFile: File is not a zip file on two lines" in plain_text(shown)
    assert "run_task.py" not in shown
    assert "_RealGetContents" not in shown
    assert "Stack trace, 4 frames" in plain_text(folded)
    assert "KeyError: 'no end record'" in plain_text(folded)


def test_any_text_parses_as_a_traceback() -> None:
    assert parse_traceback("no traceback\nat all").cause == "no traceback\nat all"
    elsewhere = parse_traceback(TRACEBACK.replace(str(ROOT), "/srv/other"))
    assert [frame.place for frame in elsewhere.own] == ["/srv/other/reading/books.py:88, in open_epub"]
    assert parse_traceback("").frames == []


def test_log_is_shown_by_delivery_with_its_gaps(operator: Browser) -> None:
    run = create_run(state="failed", attempts=2)
    for number in (1, 2):
        create_attempt(run, number, "failed")
    add_log_line(run, 1, "Opening <9f2c.epub>")
    for number in (1, 2, 40):
        add_log_line(run, number, f"line {number}", delivery=2, level="ERROR" if number == 40 else "INFO")
    html = operator.get(f"/runs/{run.id}").text
    assert re.search(r"INFO line 1 .*INFO line 2 37 lines not shown \S+ ERROR line 40", plain_text(html))
    assert 'data-level="ERROR"' in html
    assert f'href="/runs/{run.id}?log=1#log"' in html
    assert "Opening" not in html
    assert "INFO Opening <9f2c.epub>" in page_text(operator, run, "?log=1")
    text = operator.get(f"/runs/{run.id}/log")
    assert text.mimetype == "text/plain"
    assert re.sub(r"\d{4}-\S+ \S+ ", "", text.text).splitlines() == [
        "--- delivery 1 ---", "INFO     books: Opening <9f2c.epub>",
        "--- delivery 2 ---", "INFO     books: line 1", "INFO     books: line 2",
        "… 37 lines not shown …", "ERROR    books: line 40",
    ]  # fmt: skip


def test_log_times_are_in_the_browser_zone_with_utc(operator: Browser) -> None:
    run = create_run(state="failed")
    at = datetime(2026, 1, 2, 22, 30, 15, 123000, UTC)
    LogLine.create(run_id=run.id, delivery=1, number=1, at=at, level="INFO", logger="x", text="a line")
    create_attempt(run, 1, "failed")
    operator.set_cookie("zone", "Europe/Berlin")
    html = operator.get(f"/runs/{run.id}").text
    assert '2026-01-02 22:30:15.123 UTC">23:30:15.123</time> INFO a line' in html


def test_long_log_shows_its_end_and_the_number_of_lines_before(operator: Browser) -> None:
    run = create_run(state="failed", attempts=1)
    create_attempt(run, 1, "failed")
    for number in range(1, 301):
        add_log_line(run, number, "x" * 50 + str(number))
    shown = page_text(operator, run)
    first = int(re.findall(r"INFO x{50}(\d+)", shown)[0])
    assert f"{first - 1} earlier lines" in shown
    assert "x300" in shown
    assert first > 100


def test_progress_is_shown_while_running(operator: Browser) -> None:
    going = create_run(state="running", progress_done=9, progress_total=38, progress_text="chapters")
    html = operator.get(f"/runs/{going.id}").text
    assert '<progress max="38.0" value="9.0">' in html
    assert "9 of 38 chapters" in plain_text(html)
    assert "<progress>" in operator.get(f"/runs/{create_run(state='running', progress_done=9).id}").text
    assert "<progress" not in operator.get(f"/runs/{create_run(progress_done=9, progress_total=38).id}").text


def test_run_page_links_related_runs(any_db_operator: Browser) -> None:
    at = now() - timedelta(minutes=5)
    before, middle, after = (create_run("process_book", enqueued_at=at, id=f"id-{name}") for name in "abc")
    create_run("other", enqueued_at=at, id="id-aa")
    child = create_run("generate_image", parent_id=middle.id)
    html = any_db_operator.get(f"/runs/{middle.id}").text
    family = html[html.index('id="family"') :]
    linked = re.findall(r'href="/runs/([^"/]+)"', family)
    assert linked == [child.id, before.id, after.id]
    assert re.findall(r'href="/runs/([^"/]+)"', any_db_operator.get(f"/runs/{child.id}").text[-9000:])[:1] == [
        middle.id
    ]
    many = create_run("process_book", enqueued_at=at - timedelta(days=1))
    for _ in range(15):
        create_run("generate_image", parent_id=many.id)
    assert "all children" in page_text(any_db_operator, many)


def test_run_page_is_small_and_its_json_complete(operator: Browser) -> None:
    nasty = "<\"'&>" * 30_000
    run = create_run(
        "process_book",
        "failed",
        args=[nasty],
        kwargs={"k": [nasty]},
        result={"r": nasty[:60_000]},
        error=nasty,
        attempts=60,
        retries=60,
        asked_by=nasty[:300],
        asked_by_kind="token",
        code_version="v" * 40,
    )
    with database.atomic():
        for number in range(1, 61):
            create_attempt(
                run,
                number,
                "failed",
                error=nasty,
                traceback=TRACEBACK + nasty,
                worker="w-1 on app-1:12345:abcdef",
                next_at=now(),
                ended_at=now(),
                code_version="other",
            )
            for text in (nasty[:5000], "short"):
                add_log_line(run, 1 + (text == "short"), text, delivery=number)
        for number in range(3, 400):
            add_log_line(run, number, nasty[:40], delivery=60)
        for _ in range(20):
            create_run("generate_image", parent_id=run.id)
    answer = operator.get(f"/runs/{run.id}")
    assert len(answer.data) < 57_000
    raw = operator.get(f"/runs/{run.id}/raw").json
    assert (raw["args"], raw["kwargs"], raw["result"]["r"]) == ([nasty], {"k": [nasty]}, nasty[:60_000])
    assert (len(raw["attempts"]), raw["attempts"][0]["traceback"]) == (60, TRACEBACK + nasty)
    assert len(raw["log"]) == 120 + 397
    assert raw["enqueued_at"] == run.enqueued_at.isoformat()


def test_long_value_is_truncated_and_expandable(operator: Browser) -> None:
    run = create_run(result=["word"] * 500, kwargs={"words": ["w" * 26] * 10})
    html = operator.get(f"/runs/{run.id}").text
    assert html.count("show more") == 1  # the arguments fit
    whole = re.search(r'id="result-shown">(.*?)…</pre>.*?<pre[^>]*>(.*?)(…?)</pre>', html, re.S)
    assert whole
    text = Markup(whole[1] + whole[2]).unescape()
    assert json.dumps(run.result, indent=2).startswith(text)
    assert whole[3] == "…"
    assert f'href="/runs/{run.id}/raw">full text' in html


def test_run_page_takes_few_statements_in_every_state(any_db_operator: Browser) -> None:
    asked_of_database: list[str] = []
    database.obj.query_hooks.append(lambda event: asked_of_database.append(event.sql))
    create_consumer("light")
    writer.flush_events(tasks.light)  # the row exists from now on
    for run_id in (
        enqueue_run(),
        create_run(state="running", parent_id=enqueue_run()).id,
        create_run(state="failed", parent_id=enqueue_run()).id,
    ):
        create_attempt(Run.get_by_id(run_id), 1, "failed", traceback=TRACEBACK)
        asked_of_database.clear()
        assert any_db_operator.get(f"/runs/{run_id}").status_code == 200
        assert len(asked_of_database) <= 8, asked_of_database


def test_adjacent_runs_are_read_from_an_index(each_database: str) -> None:
    with database.atomic():
        for number in range(300):
            create_run("process_book", enqueued_at=now() + timedelta(seconds=number))
    if on_postgresql():
        database.execute_sql("ANALYZE")
    middle = Run.select().order_by(Run.enqueued_at).offset(150).first()
    for newer in (True, False):
        assert "dewey_runs_task" in explain(*related_runs.adjacent_run(middle, newer).sql())


# --- reasons for not running ---------------------------------------------------------------------------------


def test_waiting_run_explains_why_it_is_not_running(operator: Browser) -> None:
    run_id = enqueue_run()
    tasks.light.storage.pauses.put("", {"by": "vera", "kind": "operator", "at": now().isoformat(), "reason": "moving"})
    shown = page_text(operator, run_id)
    why = r"Why is it not running\? "
    just_now = r"(now|\d+ s ago)"
    assert re.search(rf"{why}Queue light is paused by vera, {just_now} \(“moving”\)\.", shown)
    assert "Queue light has no worker, and the history shows none." in shown
    operator.send(f"/runs/{run_id}/cancel")
    cancelled = rf"{why}The run was cancelled \( {just_now} \): cancelled by operator@example\.org\."
    assert re.search(cancelled, page_text(operator, run_id))
    assert 'class="why">cancelled' not in operator.get(f"/runs/{run_id}").text  # not an error
    late = create_run(state="expired", ended_at=now())
    assert re.search(rf"{why}The run expired before it started \( {just_now} \)\.", page_text(operator, late))
    for state in ("succeeded", "failed", "dead"):
        assert "Why is it not running?" not in page_text(operator, create_run(state=state, ended_at=now(), attempts=1))


# --- commands ------------------------------------------------------------------------------------------------


def test_waiting_run_is_cancelled_and_retried_under_its_id(operator: Browser) -> None:
    run_id = enqueue_run(hours=12)
    answer = operator.send(f"/runs/{run_id}/cancel")
    assert (answer.status_code, answer.location) == (303, f"/runs/{run_id}")
    assert f"Run {run_id[:8]}… cancelled." in page_text(operator, run_id)
    assert Run.get_by_id(run_id).state == "cancelled"
    assert operator.send(f"/runs/{run_id}/retry").status_code == 303
    assert f"Run {run_id[:8]}… re-queued." in page_text(operator, run_id)
    assert Run.get_by_id(run_id).state == "waiting"
    assert tasks.light.storage.messages.count_waiting() == 1
    lines = AuditEntry.select().where(AuditEntry.target == run_id).order_by(AuditEntry.id)
    assert [(entry.action, entry.actor) for entry in lines] == [
        ("runs.cancel", PEOPLE["operator"]), ("runs.retry", PEOPLE["operator"]),
    ]  # fmt: skip


def test_impossible_action_is_not_offered_and_says_why(operator: Browser) -> None:
    waiting, over = enqueue_run(), create_run("get_cleanup_statistics")
    html = operator.get(f"/runs/{waiting}").text
    assert f'action="/runs/{waiting}/cancel"' in html
    assert f'action="/runs/{waiting}/retry"' not in html
    assert "Retry Only a run that has ended can be retried." in plain_text(html)
    html = operator.get(f"/runs/{over.id}").text
    assert f'action="/runs/{over.id}/retry"' in html
    assert f'action="/runs/{over.id}/cancel"' not in html
    assert "Cancel The run has ended and cannot be cancelled." in plain_text(html)
    assert "Delete… Requires the admin role." in plain_text(html)
    gone = create_run("a_task_of_old", "failed")
    assert "Retry The code of the web server has no task a_task_of_old." in page_text(operator, gone)
    for command in ("retry", "cancel"):
        operator.send(f"/runs/{gone.id}/{command}")
        assert 'role="alert"' in operator.get(f"/runs/{gone.id}").text


def test_role_is_offered_only_its_actions(sign_in_as: Callable[[str], Browser]) -> None:
    run = create_run("get_cleanup_statistics", "failed")
    viewer, admin = sign_in_as("viewer"), sign_in_as("admin")
    assert "Retry Requires the operator role." in page_text(viewer, run)
    assert f'href="/runs/{run.id}/delete"' in admin.get(f"/runs/{run.id}").text
    for path in ("retry", "cancel", "again"):
        assert viewer.send(f"/runs/{run.id}/{path}").status_code == 403
    assert sign_in_as("operator").send(f"/runs/{run.id}/delete").status_code == 403
    assert Run.get_by_id(run.id).state == "failed"


@pytest.mark.parametrize("path", ["retry", "cancel", "again", "delete", "raw", "log", ""])
def test_unknown_run_has_no_page_and_no_actions(sign_in_as: Callable[[str], Browser], path: str) -> None:
    admin = sign_in_as("admin")
    answer = admin.send(f"/runs/none/{path}") if path in ("retry", "cancel", "again", "delete") else None
    assert (answer or admin.get(f"/runs/none/{path}".rstrip("/"))).status_code == 404


def test_run_is_deleted_after_confirmation(sign_in_as: Callable[[str], Browser]) -> None:
    admin, run, other = sign_in_as("admin"), create_run(state="failed", ended_at=now()), create_run()
    for each in (run, other):
        create_attempt(each, 1, "failed")
        add_log_line(each, 1, "a line")
    assert "Delete this run of close_abandoned_sessions from the history?" in plain_text(
        admin.get(f"/runs/{run.id}/delete").text
    )
    assert Run.get_or_none(Run.id == run.id)
    answer = admin.send(f"/runs/{run.id}/delete")
    assert (answer.status_code, answer.location) == (303, "/runs")
    assert admin.get(f"/runs/{run.id}").status_code == 404
    assert [row.run_id for model in (Attempt, LogLine) for row in model.select()] == [other.id, other.id]
    assert AuditEntry.get(AuditEntry.action == "runs.delete").target == run.id


def test_unfinished_run_cannot_be_deleted(sign_in_as: Callable[[str], Browser]) -> None:
    admin, run_id = sign_in_as("admin"), enqueue_run()
    for answer in (admin.get(f"/runs/{run_id}/delete"), admin.send(f"/runs/{run_id}/delete")):
        assert answer.location == f"/runs/{run_id}"
    assert "Cancel the run first. Only an ended run can be deleted." in page_text(admin, run_id)
    assert Run.get_by_id(run_id).state == "waiting"


# --- run again -----------------------------------------------------------------------------------------------


def test_run_again_with_new_arguments_links_its_parent(operator: Browser) -> None:
    old = create_run("get_cleanup_statistics", "failed", kwargs={"hours": 12}, priority=7)
    html = operator.get(f"/runs/{old.id}/again").text
    assert re.search(r'<input id="arg-hours" name="arg.hours"[^>]* value="12"', html)
    answer = operator.send(f"/runs/{old.id}/again", **{"arg.hours": "24"})
    new = Run.get_by_id(answer.location.rpartition("/")[2])
    assert (new.kwargs, new.parent_id, new.state, new.priority) == ({"hours": 24}, old.id, "waiting", 7)
    assert (new.asked_by_kind, new.asked_by) == ("operator", PEOPLE["operator"])
    assert tasks.light.storage.messages.count_waiting() == 1
    assert Run.get_by_id(old.id).state == "failed"
    entry = AuditEntry.get(AuditEntry.action == "runs.again")
    assert (entry.target, entry.after) == (new.id, {"parent": old.id, "args": [], "arguments": {"hours": 24}})


def test_run_again_repeats_the_same_arguments(operator: Browser) -> None:
    old = create_run("get_cleanup_statistics", args=[36])
    answer = operator.send(f"/runs/{old.id}/again", same="1")
    assert Run.get_by_id(answer.location.rpartition("/")[2]).args == [36]


def test_invalid_argument_is_shown_at_its_field_and_kept(operator: Browser) -> None:
    old = create_run("get_cleanup_statistics", kwargs={"hours": 12})
    answer = operator.send(f"/runs/{old.id}/again", **{"arg.hours": "a day"})
    assert answer.status_code == 422
    assert re.search(r'name="arg.hours"[^>]* aria-invalid="true"[^>]* value="a day"', answer.text)
    assert "must be a whole number" in answer.text
    assert Run.select().count() == 1


def test_call_the_task_no_longer_accepts_is_reported(operator: Browser) -> None:
    old = create_run("get_cleanup_statistics", kwargs={"hours": 12, "minutes": 5})
    html = operator.get(f"/runs/{old.id}/again").text
    assert "The old run had arguments that the task no longer accepts: minutes." in plain_text(html)
    assert "Run with the old arguments" not in html
    assert operator.send(f"/runs/{old.id}/again", same="1").status_code == 422
    gone = create_run("a_task_of_old")
    assert operator.get(f"/runs/{gone.id}/again").status_code == 409
    assert tasks.light.storage.messages.count_waiting() == 0


def test_unique_task_run_again_returns_the_waiting_run(sqlite_database: None, tmp_path: Path) -> None:
    queue = Queue("light")
    queue.storage = SqliteStorage("light", tmp_path / "queue.db", 60)

    @queue.task(unique=True)
    def once(number: int, *rest: int) -> None: ...

    first = runs.run_task({"light": queue}, "once", [1, 2, 3], by=VERA)
    old = create_run("once")
    again = runs.run_again({"light": queue}, old.id, [1, 2, 3], {}, by=VERA)
    other = runs.run_again({"light": queue}, old.id, [1, 2], {}, by=VERA)
    assert again.id == first.id
    assert {run.id for run in Run.select().where(Run.state == "waiting")} == {first.id, other.id}
    queue.storage.close()
