"""The list of runs, and the page of one run."""

import csv
import io
import re
from datetime import timedelta

import pytest
from browsers import Browser, sign_in_browser
from factories import create_attempt, create_run, row_ids, row_ids_of_all_pages
from flask import Flask

from admin.pages.blueprint import ROWS_PER_PAGE
from admin.pages.runs import exports
from engine.models import State, now
from models import AuditEntry, SavedView


def plain_text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# --- runs ----------------------------------------------------------------------------------------------------


def test_runs_are_filtered_by_state_task_and_queue(any_db_operator: Browser) -> None:
    matching_run = create_run("process_book", "failed", queue="heavy")
    other_runs = [
        create_run("process_book", queue="heavy"),
        create_run("process_book", "failed", queue="normal"),
        create_run(state="failed"),
    ]
    html = any_db_operator.get("/runs?state=failed&task=process_book&queue=heavy").text
    assert row_ids(html) == [matching_run.id]
    assert re.findall(r">(All|Failed|Succeeded) <small>(\d+)<", html) == [
        ("All", "2"),
        ("Succeeded", "1"),
        ("Failed", "1"),
    ]
    assert set(row_ids(any_db_operator.get("/runs").text)) == {matching_run.id, *(run.id for run in other_runs)}
    assert "No run matches." in any_db_operator.get("/runs?task=nonsense").text
    assert any_db_operator.get("/runs?queue=nonsense").status_code == 422


def test_run_list_shows_arguments(operator: Browser) -> None:
    create_run("process_book", "waiting", args=["9f2c"], kwargs={"pages": [1, 2]})
    create_run("process_book", "failed", kwargs={"book_id": "<" * 300})
    html = operator.get("/runs").text
    assert "<code>&#34;9f2c&#34;, pages=[1, 2]</code>" in html
    assert "&lt;" * 20 in html and "&lt;" * 31 not in html


def test_every_state_has_its_tab(operator: Browser) -> None:
    for state in State:
        run = create_run(state=state)
        assert row_ids(operator.get(f"/runs?state={state}").text) == [run.id]


def test_pages_neither_skip_nor_repeat_runs_of_the_same_time(any_db_operator: Browser) -> None:
    instant = now() - timedelta(minutes=1)
    expected = {create_run("process_book", enqueued_at=instant).id for _ in range(2 * ROWS_PER_PAGE + 1)}
    ids = row_ids_of_all_pages(any_db_operator, "/runs?task=process_book", between=lambda: create_run("process_book"))
    assert len(ids) == len(expected)
    assert set(ids) == expected


# --- export --------------------------------------------------------------------------------------------------


def test_filtered_runs_are_exported_completely_as_csv_and_json(
    any_db_operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE", 2)
    expected = [create_run("process_book", "failed", kwargs={"hours": 24}, error="no", run_ms=1.5) for _ in range(5)]
    create_run("process_book", "succeeded")
    export = any_db_operator.get("/runs.csv?state=failed&q=args.hours:24")
    assert export.content_type == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="runs-[0-9-]+\.csv"', export.headers["Content-Disposition"])
    rows = list(csv.DictReader(io.StringIO(export.text)))
    assert {row["id"] for row in rows} == {run.id for run in expected}
    assert len(rows) == 5
    assert tuple(rows[0]) == exports.COLUMNS
    assert (rows[0]["kwargs"], rows[0]["run_ms"], rows[0]["worker"]) == ('{"hours": 24}', "1.5", "")
    answer = any_db_operator.get("/runs.json?state=failed").json["runs"]
    assert [run["id"] for run in answer] == [row["id"] for row in rows]
    assert (answer[0]["kwargs"], answer[0]["ended_at"]) == ({"hours": 24}, None)
    assert any_db_operator.get("/runs.json?task=nonsense").json == {"runs": []}
    assert len(any_db_operator.get("/runs.csv?task=nonsense").text.splitlines()) == 1


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_cells_are_never_formulas(operator: Browser, text: str) -> None:
    create_run(text, "failed", error=text, asked_by_kind="token", asked_by=text, priority=-1.5, result=text)
    (row,) = csv.DictReader(io.StringIO(operator.get("/runs.csv").text, newline=""))
    for column in ("task", "error", "asked_by", "result"):
        assert row[column] == f"'{text}"
    assert row["priority"] == "-1.5"


# --- views ---------------------------------------------------------------------------------------------------


def test_view_is_saved_listed_and_removed(any_db_operator: Browser) -> None:
    run = create_run("process_book", "failed", error="zip")
    create_run("process_book", "failed")
    page = any_db_operator.get("/runs?state=failed&q=zip").text
    assert 'name="search" value="state:failed zip"' in page
    saved = any_db_operator.send("/views", name="Broken books", search="state:failed zip")
    assert saved.status_code == 303
    assert row_ids(any_db_operator.get(saved.location).text) == [run.id]
    link = re.search(r'href="([^"]+)"[^>]*>Broken books<', any_db_operator.get("/runs").text)
    assert link
    assert row_ids(any_db_operator.get(link[1]).text) == [run.id]
    assert any_db_operator.send("/views", name="Broken books", search="state:dead").status_code == 303
    (view,) = SavedView.select()
    assert (view.search, view.shared) == ("state:dead", False)
    assert f'action="/views/{view.id}/delete"' in any_db_operator.get("/runs?state=dead").text
    assert any_db_operator.send(f"/views/{view.id}/delete").status_code == 303
    assert SavedView.select().count() == 0
    lines = [line.action for line in AuditEntry.select().order_by(AuditEntry.id) if "views" in line.action]
    assert lines == ["views.save", "views.save", "views.delete"]


def test_view_is_private_unless_shared(app: Flask) -> None:
    viewer, operator, admin = (sign_in_browser(app, role) for role in ("viewer", "operator", "admin"))
    operator.send("/views", name="Mine alone", search="state:failed")
    operator.send("/views", name="For all", search="state:dead", shared="on")
    private_view, ours = SavedView.select().order_by(SavedView.id)
    for other in (viewer, admin):
        html = other.get("/runs").text
        assert "For all" in html
        assert "Mine alone" not in html
        assert other.send(f"/views/{private_view.id}/delete").status_code == 409
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
def test_invalid_view_is_rejected_by_field(operator: Browser, form: dict[str, str], field: str) -> None:
    answer = operator.send("/views", **form)
    assert answer.status_code == 422
    assert f"<p>{field}: " in answer.text
    assert SavedView.select().count() == 0


# --- one run -------------------------------------------------------------------------------------------------


def test_run_page_shows_every_stored_field(any_db_operator: Browser) -> None:
    at = now() - timedelta(minutes=9)
    run = create_run(
        "process_book", "retrying", queue="heavy", args=["9f2c"], kwargs={"again": True}, retries=3, attempts=2,
        deliveries=3, enqueued_at=at, started_at=at, due_at=now() + timedelta(minutes=3.5), wait_ms=8000, run_ms=90,
        code_version="2.4.1-4fc424b", worker="heavy-2", asked_by_kind="token", asked_by="uploader",
        error="BadZipFile: File is not a zip file", priority=5,
    )  # fmt: skip
    child = create_run("generate_image", parent_id=run.id, asked_by_kind="run", asked_by=run.id)
    create_attempt(run, 1, "died", run_ms=41_000, worker="heavy-1")
    create_attempt(
        run, 2, "failed", attempt=1, run_ms=52_000, error="TimeoutError: cover.jpg", traceback="first\nTimeoutError: x"
    )
    create_attempt(
        run, 3, "failed", attempt=2, run_ms=90, error=run.error, traceback="Traceback\n  books.py:88\nBadZipFile: no"
    )
    text = plain_text(any_db_operator.get(f"/runs/{run.id}").text)
    for words in (
        "process_book retrying next attempt in 0",
        "process_book(&#34;9f2c&#34;, again=true)",
        "Queued on heavy, priority 5 requested by token uploader waited 8.0 s",
        "Attempt 1 was interrupted: the worker died heavy-1 ran 41 s",
        "Attempt 1 failed TimeoutError: cover.jpg ran 52 s",
        "Attempt 2 failed BadZipFile: File is not a zip file ran 90 ms",
        "Attempt 3 is due in 3 min",
        "Traceback books.py:88 BadZipFile: no",
        "retries 3 after the first attempt attempts 2 3 deliveries",
        "code 2.4.1-4fc424b",
        f"ID {run.id}",
        "children generate_image succeeded",
    ):
        assert words in text
    assert f'href="/runs/{run.id}"' in any_db_operator.get(f"/runs/{child.id}").text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("waiting", "Waiting for a worker"),
        ("scheduled", "Due"),
        ("cancelled", "Cancelled"),
        ("expired", "Expired before it started"),
        ("dead", "Moved to the dead runs"),
        ("succeeded", "Succeeded"),
        ("failed", "Failed"),
        ("running", "Queued on light"),
        ("retrying", "Attempt 1 is due"),
    ],
)
def test_run_with_few_fields_is_shown_in_every_state(operator: Browser, state: str, words: str) -> None:
    run = create_run(state=state, args=None, kwargs=None, priority=None, asked_by_kind=None)
    assert words in operator.get(f"/runs/{run.id}").text


def test_unknown_run_is_not_found(operator: Browser) -> None:
    answer = operator.get("/runs/no-such-run")
    assert answer.status_code == 404
    assert "No run with this id" in answer.text


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "{{7*7}}", "'\"><img src=x onerror=alert(1)>"])
def test_run_texts_are_escaped(operator: Browser, text: str) -> None:
    run = create_run(
        text, "failed", queue="light", args=[text], kwargs={text: text}, result={text: text}, error=text,
        asked_by_kind="token", asked_by=text, code_version=text, worker=text,
    )  # fmt: skip
    create_attempt(run, 1, "failed", error=text, traceback=text, worker=text)
    for url in ("/", "/runs", f"/runs/{run.id}"):
        html = operator.get(url).text
        assert "<script>alert" not in html
        assert "<img" not in html
        assert "{{7*7}}" in html or "7*7" not in text
