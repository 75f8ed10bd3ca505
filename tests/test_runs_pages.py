"""The list of runs, and the page of one."""

import csv
import io
import re
from datetime import timedelta

import pytest
from browsers import Browser, signed_in_browser
from flask import Flask
from library import attempt, rows_of, rows_of_all_pages, run

from admin.pages.blueprint import ROWS
from admin.pages.runs import exports
from engine.models import State, now
from models import AuditEntry, SavedView


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


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


def test_runs_are_told_apart_by_their_arguments(operator: Browser) -> None:
    run("process_book", "waiting", args=["9f2c"], kwargs={"pages": [1, 2]})
    run("process_book", "failed", kwargs={"book_id": "<" * 300})
    html = operator.get("/runs").text
    assert "<code>&#34;9f2c&#34;, pages=[1, 2]</code>" in html
    assert "&lt;" * 20 in html and "&lt;" * 31 not in html


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


# --- files ---------------------------------------------------------------------------------------------------


def test_a_filter_is_had_whole_as_csv_and_as_json(either: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 2)
    wanted = [run("process_book", "failed", kwargs={"hours": 24}, error="no", run_ms=1.5) for _ in range(5)]
    run("process_book", "succeeded")
    told = either.get("/runs.csv?state=failed&q=args.hours:24")
    assert told.content_type == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="runs-[0-9-]+\.csv"', told.headers["Content-Disposition"])
    rows = list(csv.DictReader(io.StringIO(told.text)))
    assert {row["id"] for row in rows} == {one.id for one in wanted}
    assert len(rows) == 5
    assert tuple(rows[0]) == exports.COLUMNS
    assert (rows[0]["kwargs"], rows[0]["run_ms"], rows[0]["worker"]) == ('{"hours": 24}', "1.5", "")
    answer = either.get("/runs.json?state=failed").json["runs"]
    assert [one["id"] for one in answer] == [row["id"] for row in rows]
    assert (answer[0]["kwargs"], answer[0]["ended_at"]) == ({"hours": 24}, None)
    assert either.get("/runs.json?task=nonsense").json == {"runs": []}
    assert len(either.get("/runs.csv?task=nonsense").text.splitlines()) == 1


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_csv_file_is_a_formula(operator: Browser, text: str) -> None:
    run(text, "failed", error=text, asked_by_kind="token", asked_by=text, priority=-1.5, result=text)
    (row,) = csv.DictReader(io.StringIO(operator.get("/runs.csv").text, newline=""))
    for column in ("task", "error", "asked_by", "result"):
        assert row[column] == f"'{text}"
    assert row["priority"] == "-1.5"


# --- views ---------------------------------------------------------------------------------------------------


def test_a_view_is_saved_found_again_and_removed(either: Browser) -> None:
    one = run("process_book", "failed", error="zip")
    run("process_book", "failed")
    page = either.get("/runs?state=failed&q=zip").text
    assert 'name="search" value="state:failed zip"' in page
    saved = either.send("/views", name="Broken books", search="state:failed zip")
    assert saved.status_code == 303
    assert rows_of(either.get(saved.location).text) == [one.id]
    link = re.search(r'href="([^"]+)"[^>]*>Broken books<', either.get("/runs").text)
    assert link
    assert rows_of(either.get(link[1]).text) == [one.id]
    assert either.send("/views", name="Broken books", search="state:dead").status_code == 303
    (view,) = SavedView.select()
    assert (view.search, view.shared) == ("state:dead", False)
    assert f'action="/views/{view.id}/delete"' in either.get("/runs?state=dead").text
    assert either.send(f"/views/{view.id}/delete").status_code == 303
    assert SavedView.select().count() == 0
    lines = [line.action for line in AuditEntry.select().order_by(AuditEntry.id) if "views" in line.action]
    assert lines == ["views.save", "views.save", "views.delete"]


def test_a_view_is_ones_own_unless_it_is_shared(app: Flask) -> None:
    viewer, operator, admin = (signed_in_browser(app, role) for role in ("viewer", "operator", "admin"))
    operator.send("/views", name="Mine alone", search="state:failed")
    operator.send("/views", name="For all", search="state:dead", shared="on")
    mine, ours = SavedView.select().order_by(SavedView.id)
    for other in (viewer, admin):
        html = other.get("/runs").text
        assert "For all" in html
        assert "Mine alone" not in html
        assert other.send(f"/views/{mine.id}/delete").status_code == 409
    assert viewer.send(f"/views/{ours.id}/delete").status_code == 403
    assert viewer.send("/views", name="x", search="state:dead", shared="on").status_code == 403
    assert viewer.send("/views", name="My own", search="state:dead").status_code == 303
    assert admin.send(f"/views/{ours.id}/delete").status_code == 303
    assert {view.name for view in SavedView.select()} == {"Mine alone", "My own"}


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "", "search": "state:failed"}, "name"),
        ({"name": "x" * 61, "search": "state:failed"}, "name"),
        ({"name": "x", "search": ""}, "search"),
        ({"name": "x", "search": "foo:bar"}, "search"),
    ],
)
def test_a_view_that_cannot_be_is_refused_by_name(operator: Browser, form: dict[str, str], field: str) -> None:
    answer = operator.send("/views", **form)
    assert answer.status_code == 422
    assert f"<p>{field}: " in answer.text
    assert SavedView.select().count() == 0


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
