"""The pages of the errors, and what is decided there and in the terminal."""

import json
import re
from datetime import datetime, timedelta
from html import unescape

import pytest
from browsers import Browser, app_with_people, signed_in_browser
from budget import MOST_STATEMENTS, cost_of
from click.testing import Result
from flask import Flask
from library import attempt, rows_of, run
from test_errors import traceback

from engine.history import error_groups, run_counts
from engine.models import ErrorGroup, Run, now
from models import AuditEntry


def failure(task: str = "process_book", *, at: datetime | None = None, state: str = "failed", **values: str) -> str:
    """A run of `task` that failed, and its group as the recorder keeps it; gives back the group's id."""
    at = at or now()
    error = values.get("error", "ValueError: no chapter 7")
    trace = traceback(function=values.get("function", "open_epub"), message="no chapter 7")
    kind = error_groups.kind_of(task, error, trace)
    one = run(task, state, ended_at=at, enqueued_at=at, error=error, error_group=kind.id)
    attempt(one, 1, "failed", ended_at=at, error=error, traceback=trace, error_group=kind.id, code_version="v1")
    gathered = error_groups.Gathered()
    gathered.add(kind, error_groups.Failure(str(at), values.get("version", "v1"), error))
    gathered.save()
    run_counts.add({run_counts.key_of(one, at, run_counts.ERROR + kind.id): 1})
    return kind.id


def shown(html: str) -> list[str]:
    return re.findall(r'id="error-([0-9a-f]{12})"', html)


# --- the list ------------------------------------------------------------------------------------------------


def test_the_list_shows_each_kind_once_the_latest_first_with_how_often_it_came(either: Browser) -> None:
    old = failure("process_book", at=now() - timedelta(hours=3))
    for _ in range(2):
        failure("process_book", at=now() - timedelta(hours=2))
    new = failure("generate_image", error="KeyError: 'title'")
    html = either.get("/errors").text
    assert shown(html) == [new, old]
    row = html.partition(f'id="error-{old}"')[2].partition("</tr>")[0]
    assert re.findall(r'<td class="num(?: wide)?">(\d+)</td>', row) == ["0", "3", "3"]
    assert "reading/books.py, in open_epub" in row and "no chapter 7" in row
    assert '<path class="failed" d="M' in row


def test_the_list_is_narrowed_by_tab_task_and_words(either: Browser) -> None:
    one = failure("process_book")
    two = failure("generate_image", error="KeyError: 'title'")
    error_groups.resolve(two, "vera")
    assert shown(either.get("/errors").text) == [one]
    assert shown(either.get("/errors?state=resolved").text) == [two]
    assert shown(either.get("/errors?state=all").text) == [two, one]
    assert shown(either.get("/errors?state=all&task=process_book").text) == [one]
    assert shown(either.get("/errors?state=all&q=KeyErr").text) == [two]
    assert "No error matches." in either.get("/errors?q=nothing").text


def test_many_groups_are_paged_without_loss(either: Browser) -> None:
    at = now()
    made = {failure(f"task_{number}", at=at) for number in range(70)}
    found: list[str] = []
    url = "/errors"
    while url:
        html = either.get(url).text
        found += shown(html)
        older = re.search(r'href="([^"]+)" rel="next"', html)
        url = unescape(older[1]) if older else ""
    assert sorted(found) == sorted(made)


def test_an_empty_list_says_what_would_be_there(operator: Browser) -> None:
    assert "No error is open." in operator.get("/errors").text
    assert "None." in operator.get("/errors?state=snoozed").text


def test_hostile_texts_are_shown_and_do_nothing(operator: Browser) -> None:
    group = failure("process_book", error="ValueError: <script>alert(1)</script>")
    for url in ("/errors", f"/errors/{group}"):
        html = operator.get(url).text
        assert "&lt;script&gt;alert(1)" in html and "<script>alert" not in html


# --- one of them ---------------------------------------------------------------------------------------------


def test_a_group_shows_where_since_when_in_which_code_and_the_latest_runs(either: Browser) -> None:
    group = failure(at=now() - timedelta(hours=30), version="v1")
    failure(version="v2")
    html = either.get(f"/errors/{group}").text
    assert "raise ValueError(path)" in html and "reading/books.py, in open_epub" in html
    assert html.count('id="failure-') == 2
    assert re.search(r"began in</dt><dd><code>v1</code>", html)
    assert re.search(r"last in</dt><dd><code>v2</code>", html)
    assert re.findall(r"<div><dt>in [^<]+</dt><dd>(\d+)</dd></div>", html) == ["1", "1", "2", "2"]
    for one in list(Run.select()):
        assert f'href="/runs/{one.id}"' in html
        assert f'href="/errors/{group}"' in either.get(f"/runs/{one.id}").text


def test_an_unknown_group_is_not_found(operator: Browser) -> None:
    assert operator.get(f"/errors/{'0' * 12}").status_code == 404
    assert operator.send(f"/errors/{'0' * 12}/resolve").status_code == 404


def test_a_group_whose_runs_are_gone_is_still_shown(operator: Browser) -> None:
    group = failure()
    Run.delete().execute()
    html = operator.get(f"/errors/{group}").text
    assert "ValueError" in html and "Retry 1 run" not in html


def test_resolved_snoozed_and_opened_again_by_hand(operator: Browser) -> None:
    group = failure()
    answer = operator.send(f"/errors/{group}/resolve")
    assert (answer.status_code, answer.location) == (303, f"/errors/{group}")
    assert "It is resolved." in operator.get(answer.location).text
    assert "resolved already" in operator.get(operator.send(f"/errors/{group}/resolve").location).text
    operator.send(f"/errors/{group}/reopen")
    assert ErrorGroup.get().state == "open"
    operator.send(f"/errors/{group}/snooze", **{"for": "4h"})
    until = ErrorGroup.get().snoozed_until
    assert timedelta(hours=3.9) < until - now() < timedelta(hours=4.1)
    assert "Snoozed" in operator.get(f"/errors/{group}").text
    assert operator.delete(f"/errors/{group}/snooze", headers={"X-CSRFToken": operator.form_token}).status_code == 303
    assert ErrorGroup.get().snoozed_until is None
    lines = [(one.action, one.target) for one in AuditEntry.select().order_by(AuditEntry.id)][1:]
    assert lines == [(f"errors.{verb}", group) for verb in ("resolve", "reopen", "snooze", "reopen")]
    assert AuditEntry.get(AuditEntry.action == "errors.resolve").before == {"state": "open", "snoozed_until": None}


@pytest.mark.parametrize("typed", [{"until": "2020-01-01T10:00"}, {"until": "soon"}, {}])
def test_a_snooze_without_an_end_in_the_future_is_told_in_the_form(operator: Browser, typed: dict[str, str]) -> None:
    group = failure()
    answer = operator.send(f"/errors/{group}/snooze", **typed)
    assert answer.status_code == 422
    assert 'id="wrong"' in answer.text
    assert ErrorGroup.get().snoozed_until is None


def test_a_viewer_sees_and_decides_nothing(app: Flask) -> None:
    group = failure()
    viewer = signed_in_browser(app, "viewer")
    assert "/resolve" not in viewer.get(f"/errors/{group}").text
    assert viewer.send(f"/errors/{group}/resolve").status_code == 403
    assert ErrorGroup.get().state == "open"


# --- runs of a group -----------------------------------------------------------------------------------------


def test_the_list_of_runs_knows_groups_and_words(either: Browser) -> None:
    group = failure()
    failure("generate_image", error="KeyError: 'title'")
    (mine,) = [one.id for one in Run.select().where(Run.error_group == group)]
    assert rows_of(either.get(f"/runs?q=error:{group}").text) == [mine]
    assert rows_of(either.get(f"/runs?q=error:{group}+state:succeeded").text) == []
    assert rows_of(either.get(f"/runs?q=error:{group}+ended:24h").text) == [mine]
    assert rows_of(either.get("/runs?q=error:chapter").text) == [mine]


def test_retrying_all_of_a_group_asks_first_about_exactly_its_runs(operator: Browser) -> None:
    group = failure()
    failure()
    failure("generate_image")
    link = re.search(r'href="(/bulk/new[^"]+)"', operator.get(f"/errors/{group}").text)
    assert link
    question = operator.get(unescape(link[1])).text
    assert "Retry 2 runs?" in question


def test_a_jump_of_failures_that_are_alike_leads_to_their_group(either: Browser) -> None:
    for _ in range(6):
        group = failure()
    for one in list(Run.select()):
        run_counts.add(dict.fromkeys(run_counts.keys_of(one), 1))
    assert cost_of(either, "/") <= MOST_STATEMENTS
    html = either.get("/").text
    assert f'class="go" href="/errors/{group}"' in html
    ErrorGroup.delete().execute()
    assert 'class="go" href="/runs?q=state:failed,dead' in unescape(either.get("/").text)


# --- the terminal --------------------------------------------------------------------------------------------


def flask(app: Flask, *words: str) -> Result:
    return app.test_cli_runner().invoke(args=list(words))


def test_the_terminal_lists_and_decides(each_database: str) -> None:
    app = app_with_people()
    group = failure()
    (told,) = json.loads(flask(app, "errors", "list", "--json").output)
    assert (told["id"], told["state"], told["hour"], told["first_version"]) == (group, "open", 1, "v1")
    assert group in flask(app, "errors", "list").output
    assert flask(app, "errors", "resolve", group).exit_code == 0
    assert flask(app, "errors", "resolve", group).exit_code == 1
    assert json.loads(flask(app, "errors", "list", "--json").output) == []
    assert flask(app, "errors", "reopen", group).exit_code == 0
    assert flask(app, "errors", "snooze", group).exit_code == 2
    assert flask(app, "errors", "snooze", group, "--for", "2d").exit_code == 0
    (told,) = json.loads(flask(app, "errors", "list", "--state", "snoozed", "--json").output)
    assert told["snoozed_by"]
    assert flask(app, "errors", "resolve", "0" * 12).exit_code == 1
