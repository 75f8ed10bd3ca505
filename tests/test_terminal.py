"""Terminal output: one item with its fields, tables, times and numbers."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from browsers import RunFlask, bearer_headers
from factories import create_attempt, create_consumer, create_run
from flask import Flask

from admin.cli.output import fact_lines, format_cell, local_admin, table_lines
from admin.operations.registry import execute
from admin.problems import InvalidInput
from engine.models import ErrorGroup, Run, now
from engine.monitor import broker_health, consumers
from models import AuditEntry

AT = datetime(2026, 11, 24, 9, 30, 5, 123456, UTC)
TRACEBACK = 'Traceback (most recent call last):\n  File "books.py", line 3, in f\n\traise E("\x1b[31m")\nE: refused\n'


# --- cells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (AT, "2026-11-24 09:30:05"),
        (AT.astimezone(timezone(timedelta(hours=3))).isoformat(), "2026-11-24 09:30:05"),
        ("2026-11-24T09:30Z", "2026-11-24 09:30:00"),
        ("2026-02-31T09:30:05+00:00", "2026-02-31T09:30:05+00:00"),
        ("0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00+05:00"),
        ("since 2026-11-24T09:30:05+00:00", "since 2026-11-24T09:30:05+00:00"),
        (0.02121199941029772, "0.0212"),
        (2.0, "2"),
        (0.0, "0"),
        (1234567.89, "1234567.9"),
        (12, "12"),
        (None, "–"),
        ("a\x1b[31m\nb", "a\\x1b[31m\\nb"),
    ],
)
def test_cell_is_one_line_with_utc_times_and_rounded_numbers(cell: Any, text: str) -> None:
    assert format_cell(cell) == text


def test_column_without_numbers_is_left_aligned() -> None:
    titles, rows = ("count", "absent"), [(1, None), (12, None), (None, None)]
    assert table_lines(titles, rows) == ["count  absent", "    1  –", "   12  –", "    –  –"]


# --- one item ------------------------------------------------------------------------------------------------


def test_names_and_values_are_aligned_and_nested_values_indented() -> None:
    facts = {
        "result": {"deadline": AT.isoformat(), "error": None},
        "args": [1, "x"],
        "text": "one\r\ntwo\x07\n",
        "id": "a",
        "next": [AT.isoformat(), AT.isoformat()],
        "words": ["x" * 50, "y" * 50],
        "labels": [],
        "envelope": {"at": AT.isoformat(), "parent_id": None},
    }
    assert fact_lines(facts) == [
        'args    [1, "x"]',
        "id      a",
        "labels  []",
        "result:",
        "  deadline  2026-11-24 09:30:05",
        "  error     –",
        "text:",
        "  one",
        "  two\\x07",
        "next:",
        "  2026-11-24 09:30:05",
        "  2026-11-24 09:30:05",
        "words:",
        f"  {'x' * 50}",
        f"  {'y' * 50}",
        "envelope:",
        "  at  2026-11-24 09:30:05",
    ]


def test_records_are_a_table_if_it_fits_or_else_a_list() -> None:
    few = [{"name": "hours", "default": 24}, {"name": "book", "default": None}]
    assert fact_lines({"few": few}) == ["few:", "  name   default", "  hours       24", "  book         –"]
    wide = [{"name": "x" * 70, "text": "y" * 70}, {"name": "z", "text": None}]
    assert fact_lines({"wide": wide}) == ["wide:", f"  - name  {'x' * 70}", f"    text  {'y' * 70}", "  - name  z"]


def test_task_values_keep_nones_and_drop_a_trailing_newline() -> None:
    assert fact_lines({"result": [{"a": None, "b": 1}]}) == ["result:", "  a  b", "  –  1"]
    assert fact_lines({"args": [{}], "error": "boom\n"}) == ["args   [{}]", "error  boom"]


def test_run_is_shown_with_attempts_and_tracebacks(flask: RunFlask) -> None:
    run = create_run(state="failed", enqueued_at=AT, ended_at=AT, error="E: refused", run_ms=2.0, priority=2.0)
    for number in (1, 2):
        create_attempt(run, number, "failed", traceback=TRACEBACK, started_at=AT, ended_at=AT)
    lines = flask("runs", "show", run.id).split("\n")
    assert lines[0].split() == ["id", run.id]
    assert {"priority       2", "enqueued_at    2026-11-24 09:30:05", "run_ms         2"} <= set(lines)
    history = lines[lines.index("history:") + 1 :]
    assert sum(line.startswith("  - run_id") for line in history) == 2
    assert history[-5:] == [
        "    traceback:",
        "      Traceback (most recent call last):",
        '        File "books.py", line 3, in f',
        '          raise E("\\x1b[31m")',
        "      E: refused",
    ]


def test_error_shows_its_newest_failure_fully_and_others_in_a_line(flask: RunFlask) -> None:
    times = {"first_seen_at": AT, "last_seen_at": AT}
    texts = {"task": "f", "exception": "E", "place": "books.py", "code": "x", "message": "refused"}
    ErrorGroup.create(id="e1", state="open", **texts, **times)
    run = create_run("f", "failed")
    for number in range(3):
        values = {"ended_at": AT + timedelta(seconds=number), "error": f"E: refused\n{number}", "worker": "w"}
        create_attempt(run, number, "failed", traceback=TRACEBACK, error_group="e1", **values)
    output = flask("errors", "show", "e1")
    group, _title, rest = output.partition("\n\nNewest failure:\n")
    newest, _title, before = rest.partition("\n\nEarlier failures:\n")
    assert "last_seen_at   2026-11-24 09:30:05" in group.split("\n")
    assert "ended_at     2026-11-24 09:30:07" in newest and "\n  E: refused\n  2\n" in newest
    assert output.count("Traceback") == newest.count("\n  Traceback (most recent call last):\n") == 1
    assert [line.split()[2:] for line in before.split("\n")[1:]] == [
        ["2026-11-24", f"09:30:0{second}", "w", "E:", "refused"] for second in (6, 5)
    ]
    assert len(json.loads(flask("errors", "show", "e1", "--json"))["examples"]) == 3


def test_list_summary_is_above_the_table(flask: RunFlask) -> None:
    above, _blank, table = flask("statistics", "runs", "--hours", "1").partition("\n\n")
    assert "hours     1" in above.split("\n") and table.startswith("start ")
    assert "is not one of '1', '24', '168'" in flask("statistics", "runs", "--hours", "5", code=2)


# --- lists ---------------------------------------------------------------------------------------------------


def test_preflight_shows_counts_by_state_and_the_fingerprint(flask: RunFlask) -> None:
    made = [create_run(state=state, enqueued_at=AT) for state in ("failed", "failed", "dead")]
    words = ("bulk", "preflight", "--search", "state:failed,dead")
    fingerprint = json.loads(flask(*words, "--json"))["fingerprint"]
    facts, _title, sample = flask(*words).partition("\n\nNewest runs:\n")
    assert facts.split("\n")[::2] == ["runs         3", f"fingerprint  {fingerprint}"]
    assert sorted(facts.split("\n")[1].removeprefix("states ").strip().split(", ")) == ["dead 1", "failed 2"]
    titles, *rows = sample.split("\n")
    assert titles.split() == ["id", "task", "queue", "state", "enqueued_at"]
    assert sorted(row.split()[0] for row in rows) == sorted(row.id for row in made)
    assert all(row.endswith("  2026-11-24 09:30:05") for row in rows)
    named = flask("bulk", "preflight", "--run", made[0].id, "--run", made[2].id)
    assert named.startswith("runs         2\n")
    assert flask("bulk", "preflight", "--search", "task:nothing").startswith("runs         0\nfingerprint ")


def test_stopped_consumers_are_last_and_without_usage(flask: RunFlask) -> None:
    used = {"rss_bytes": 70 << 20, "cpu_percent": 3.0}
    gone = consumers.full_worker_name(
        create_consumer("light", stopped_at=now(), beat_at=now() + timedelta(seconds=1), **used)
    )
    lost = consumers.full_worker_name(create_consumer("light", beat_at=now() - timedelta(hours=1), **used))
    late = consumers.full_worker_name(create_consumer("light", beat_at=now() - timedelta(seconds=9), **used))
    live = consumers.full_worker_name(create_consumer("light", **used))
    rows = [line.split() for line in flask("workers", "list").split("\n")[1:]]
    assert [row[:2] for row in rows] == [[live, "live"], [late, "late"], [lost, "lost"], [gone, "stopped"]]
    assert rows[0][2:7] == ["2", "0", "70", "MB", "3"]
    assert rows[3][2:6] == ["2", "–", "–", "–"]


def test_times_in_tables_are_to_the_second(flask: RunFlask) -> None:
    flask("operator", "create", "ann@example.org", "--role", "viewer")
    flask("token", "create", "x", "--role", "viewer")
    for row in AuditEntry.select():
        assert f"  {row.at:%Y-%m-%d %H:%M:%S}  " in flask("audit", "list")
    for words in (("operator", "list"), ("token", "list"), ("schedule", "list")):
        table = flask(*words)
        assert re.search(r"  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b", table), table
        assert not any(mark in table for mark in ("+00:00", "T0", "T1", "T2")), table
    flask("run-task", "get_cleanup_statistics")
    assert f"  {Run.get().enqueued_at:%Y-%m-%d %H:%M:%S}  " in flask("queues", "head", "light")


def test_pauses_and_snoozes_show_their_end_like_tables(flask: RunFlask) -> None:
    until = ("--until", "2099-01-01T00:00")
    paused = flask("schedule", "pause", "close_abandoned_sessions", *until)
    assert paused == (
        "Schedule of close_abandoned_sessions is paused until 2099-01-01 00:00:00 UTC."
        " Resume it with `dewey schedule resume close_abandoned_sessions`."
    )
    assert "until 2099-01-01 00:00:00" in flask("schedule", "list")


def test_broker_is_shown_without_blank_lines_and_with_a_rounded_ping(
    flask: RunFlask, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = broker_health.check_health
    monkeypatch.setattr(broker_health, "check_health", lambda queue: real(queue)._replace(ping_ms=0.02121199941029772))
    lines = flask("queues", "broker").split("\n")
    assert lines[0].split() == ["product", "sqlite"]
    assert "ping_ms       0.0212" in lines


def test_alert_sections_have_titles(flask: RunFlask) -> None:
    output = flask("alerts", "list", code=1)
    assert output.startswith("Rules:\nrule ") and "\n\nLatest notices:\nnone" in output


# --- commands ------------------------------------------------------------------------------------------------


def test_run_action_prints_a_sentence(flask: RunFlask, live_consumers: None) -> None:
    run = create_run("get_cleanup_statistics", "failed", ended_at=now())
    assert flask("runs", "retry", run.id) == f"Run {run.id} re-queued."
    assert flask("runs", "cancel", run.id) == f"Run {run.id} cancelled before it started."
    other = create_run(state="failed", ended_at=now())
    assert flask("runs", "delete", other.id, "--yes") == f"Run {other.id} deleted."


def test_help_explains_wait(flask: RunFlask) -> None:
    output = " ".join(flask("run-task", "--help").split())
    assert "Wait for the result, at most this long (60 without a number), and print it." in output


def test_unknown_parameter_error_lists_the_parameters(app: Flask) -> None:
    with pytest.raises(InvalidInput) as wrong:
        execute(local_admin(), "tasks.run", name="get_cleanup_statistics", kwargs={})
    expected = "kwargs: must be a parameter of tasks.run: arguments, args, eta, priority"
    assert wrong.value.description == expected
    headers = bearer_headers("admin")
    paths = ("statistics/runs?days=1", "statistics/sessions?days=1")
    answers = [app.test_client().get(f"/api/v1/admin/{path}", headers=headers).json["detail"] for path in paths]
    assert answers == [
        "days: must be a parameter of statistics.runs: hours",
        "days: must be left out: statistics.sessions has no parameters",
    ]
