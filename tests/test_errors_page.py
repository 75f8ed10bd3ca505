"""The pages of error groups, and the commands on them in browser and terminal."""

import json
import re
from datetime import datetime, timedelta
from html import unescape

import pytest
from browsers import Browser, create_app_with_people, sign_in_browser
from budget import MAX_STATEMENTS, measure_cost
from click.testing import Result
from factories import create_attempt, create_run, row_ids
from flask import Flask
from test_errors import traceback

from engine.history import error_groups, run_counts
from engine.models import ErrorGroup, Run, now
from models import AuditEntry


def create_failure(
    task: str = "process_book", *, at: datetime | None = None, state: str = "failed", **values: str
) -> str:
    """Store a failed run of `task` and its group, as the recorder does. Return the group's id."""
    at = at or now()
    error = values.get("error", "ValueError: no chapter 7")
    trace = traceback(function=values.get("function", "open_epub"), message="no chapter 7")
    kind = error_groups.fingerprint(task, error, trace)
    run = create_run(task, state, ended_at=at, enqueued_at=at, error=error, error_group=kind.id)
    create_attempt(run, 1, "failed", ended_at=at, error=error, traceback=trace, error_group=kind.id, code_version="v1")
    gathered = error_groups.FailureBatch()
    gathered.add(kind, error_groups.Failure(str(at), values.get("version", "v1"), error))
    gathered.save()
    run_counts.increment({run_counts.counter_key(run, at, run_counts.ERROR_PREFIX + kind.id): 1})
    return kind.id


def shown_ids(html: str) -> list[str]:
    return re.findall(r'id="error-([0-9a-f]{12})"', html)


# --- the list ------------------------------------------------------------------------------------------------


def test_list_shows_each_group_once_with_latest_first_and_counts(any_db_operator: Browser) -> None:
    old = create_failure("process_book", at=now() - timedelta(hours=3))
    for _ in range(2):
        create_failure("process_book", at=now() - timedelta(hours=2))
    new = create_failure("generate_image", error="KeyError: 'title'")
    html = any_db_operator.get("/errors").text
    assert shown_ids(html) == [new, old]
    row = html.partition(f'id="error-{old}"')[2].partition("</tr>")[0]
    assert re.findall(r'<td class="num(?: wide)?">(\d+)</td>', row) == ["0", "3", "3"]
    assert "reading/books.py, in open_epub" in row and "no chapter 7" in row
    assert '<path class="failed" d="M' in row


def test_list_is_filtered_by_tab_task_and_text(any_db_operator: Browser) -> None:
    open_id = create_failure("process_book")
    two = create_failure("generate_image", error="KeyError: 'title'")
    error_groups.resolve_group(two, "vera")
    assert shown_ids(any_db_operator.get("/errors").text) == [open_id]
    assert shown_ids(any_db_operator.get("/errors?state=resolved").text) == [two]
    assert shown_ids(any_db_operator.get("/errors?state=all").text) == [two, open_id]
    assert shown_ids(any_db_operator.get("/errors?state=all&task=process_book").text) == [open_id]
    assert shown_ids(any_db_operator.get("/errors?state=all&q=KeyErr").text) == [two]
    assert "No error matches." in any_db_operator.get("/errors?q=nothing").text


def test_many_groups_are_paged_without_loss(any_db_operator: Browser) -> None:
    at = now()
    made = {create_failure(f"task_{number}", at=at) for number in range(70)}
    ids: list[str] = []
    url = "/errors"
    while url:
        html = any_db_operator.get(url).text
        ids += shown_ids(html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = unescape(older[1]) if older else ""
    assert sorted(ids) == sorted(made)


def test_empty_list_says_so(operator: Browser) -> None:
    assert "There are no open errors." in operator.get("/errors").text
    assert "None." in operator.get("/errors?state=snoozed").text


def test_html_in_an_error_is_escaped(operator: Browser) -> None:
    group = create_failure("process_book", error="ValueError: <script>alert(1)</script>")
    for url in ("/errors", f"/errors/{group}"):
        html = operator.get(url).text
        assert "&lt;script&gt;alert(1)" in html and "<script>alert" not in html


# --- one group -----------------------------------------------------------------------------------------------


def test_group_page_shows_frame_versions_and_latest_runs(any_db_operator: Browser) -> None:
    group = create_failure(at=now() - timedelta(hours=30), version="v1")
    create_failure(version="v2")
    html = any_db_operator.get(f"/errors/{group}").text
    assert "raise ValueError(path)" in html and "reading/books.py, in open_epub" in html
    assert html.count('id="failure-') == 2
    assert re.search(r"first version</dt><dd><code>v1</code>", html)
    assert re.search(r"last version</dt><dd><code>v2</code>", html)
    assert re.findall(r"<div><dt>(?:in [^<]+|total)</dt><dd>(\d+)</dd></div>", html) == ["1", "1", "2", "2"]
    for run in list(Run.select()):
        assert f'href="/runs/{run.id}"' in html
        assert f'href="/errors/{group}"' in any_db_operator.get(f"/runs/{run.id}").text


def test_unknown_group_is_not_found(operator: Browser) -> None:
    assert operator.get(f"/errors/{'0' * 12}").status_code == 404
    assert operator.send(f"/errors/{'0' * 12}/resolve").status_code == 404


def test_group_without_runs_is_still_shown(operator: Browser) -> None:
    group = create_failure()
    Run.delete().execute()
    html = operator.get(f"/errors/{group}").text
    assert "ValueError" in html and "Retry 1 run" not in html


def test_group_is_resolved_snoozed_and_reopened(operator: Browser) -> None:
    group = create_failure()
    answer = operator.send(f"/errors/{group}/resolve")
    assert (answer.status_code, answer.location) == (303, f"/errors/{group}")
    assert "Error resolved." in operator.get(answer.location).text
    assert "is already resolved" in operator.get(operator.send(f"/errors/{group}/resolve").location).text
    operator.send(f"/errors/{group}/reopen")
    assert ErrorGroup.get().state == "open"
    operator.send(f"/errors/{group}/snooze", **{"for": "4h"})
    until = ErrorGroup.get().snoozed_until
    assert timedelta(hours=3.9) < until - now() < timedelta(hours=4.1)
    assert "Snoozed" in operator.get(f"/errors/{group}").text
    assert operator.delete(f"/errors/{group}/snooze", headers={"X-CSRFToken": operator.form_token}).status_code == 303
    assert ErrorGroup.get().snoozed_until is None
    lines = [(entry.action, entry.target) for entry in AuditEntry.select().order_by(AuditEntry.id)][1:]
    assert lines == [(f"errors.{verb}", group) for verb in ("resolve", "reopen", "snooze", "reopen")]
    assert AuditEntry.get(AuditEntry.action == "errors.resolve").before == {"state": "open", "snoozed_until": None}


@pytest.mark.parametrize("typed", [{"until": "2020-01-01T10:00"}, {"until": "soon"}, {}])
def test_snooze_without_a_future_end_is_rejected_in_the_form(operator: Browser, typed: dict[str, str]) -> None:
    group = create_failure()
    answer = operator.send(f"/errors/{group}/snooze", **typed)
    assert answer.status_code == 422
    assert 'id="wrong"' in answer.text
    assert ErrorGroup.get().snoozed_until is None


def test_viewer_cannot_change_a_group(app: Flask) -> None:
    group = create_failure()
    viewer = sign_in_browser(app, "viewer")
    assert "/resolve" not in viewer.get(f"/errors/{group}").text
    assert viewer.send(f"/errors/{group}/resolve").status_code == 403
    assert ErrorGroup.get().state == "open"


# --- runs of a group -----------------------------------------------------------------------------------------


def test_run_list_filters_by_group_and_text(any_db_operator: Browser) -> None:
    group = create_failure()
    create_failure("generate_image", error="KeyError: 'title'")
    (run_id,) = [run.id for run in Run.select().where(Run.error_group == group)]
    assert row_ids(any_db_operator.get(f"/runs?q=error:{group}").text) == [run_id]
    assert row_ids(any_db_operator.get(f"/runs?q=error:{group}+state:succeeded").text) == []
    assert row_ids(any_db_operator.get(f"/runs?q=error:{group}+ended:24h").text) == [run_id]
    assert row_ids(any_db_operator.get("/runs?q=error:chapter").text) == [run_id]


def test_retry_of_a_group_confirms_exactly_its_runs(operator: Browser) -> None:
    group = create_failure()
    create_failure()
    create_failure("generate_image")
    link = re.search(r'href="(/bulk/new[^"]+)"', operator.get(f"/errors/{group}").text)
    assert link
    question = operator.get(unescape(link[1])).text
    assert "Retry 2 runs?" in question


def test_failure_spike_of_one_error_links_to_its_group(any_db_operator: Browser) -> None:
    for _ in range(6):
        group = create_failure()
    for run in list(Run.select()):
        run_counts.increment(dict.fromkeys(run_counts.counter_keys(run), 1))
    assert measure_cost(any_db_operator, "/") <= MAX_STATEMENTS
    html = any_db_operator.get("/").text
    assert f'class="go" href="/errors/{group}"' in html
    ErrorGroup.delete().execute()
    assert 'class="go" href="/runs?q=state:failed,dead' in unescape(any_db_operator.get("/").text)


# --- the terminal --------------------------------------------------------------------------------------------


def flask(app: Flask, *words: str) -> Result:
    return app.test_cli_runner().invoke(args=list(words))


def test_errors_command_lists_and_changes_groups(each_database: str) -> None:
    app = create_app_with_people()
    group = create_failure()
    (row,) = json.loads(flask(app, "errors", "list", "--json").output)
    assert (row["id"], row["state"], row["hour"], row["first_version"]) == (group, "open", 1, "v1")
    assert group in flask(app, "errors", "list").output
    assert flask(app, "errors", "resolve", group).exit_code == 0
    assert flask(app, "errors", "resolve", group).exit_code == 1
    assert json.loads(flask(app, "errors", "list", "--json").output) == []
    assert flask(app, "errors", "reopen", group).exit_code == 0
    assert flask(app, "errors", "snooze", group).exit_code == 2
    assert flask(app, "errors", "snooze", group, "--for", "2d").exit_code == 0
    (row,) = json.loads(flask(app, "errors", "list", "--state", "snoozed", "--json").output)
    assert row["snoozed_by"]
    assert flask(app, "errors", "resolve", "0" * 12).exit_code == 1
