"""The commands that are generated from the tables of actions and reads."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import fork_server
import pytest
from browsers import RunFlask, bearer_headers
from consumers import BIN
from factories import create_run, create_session
from flask import Flask
from installation import Installation
from waiting import wait_until

from admin.cli.generated import GROUPS
from admin.operations.queries import QUERIES
from config import ROOT
from engine.models import LogLine, Run, now
from models import ReadingSession


def test_runs_list_has_the_filters_of_its_page(flask: RunFlask) -> None:
    expected = [create_run(state="failed", enqueued_at=now() - timedelta(minutes=number)).id for number in range(3)]
    create_run(state="succeeded")
    first = flask("runs", "list", "--state", "failed", "--limit", "2")
    assert [run_id for run_id in expected if run_id in first] == expected[:2]
    cursor = first.rpartition("more: --before ")[2]
    assert expected[2] in flask("runs", "list", "--state", "failed", "--limit", "2", "--before", cursor)
    assert flask("runs", "list", "--q", "state:dead") == "none"


#: Nouns whose lists have handwritten commands.
OTHER_NOUNS = ("operators", "tokens", "audit", "errors")
#: Reads without arguments, whose commands are generated from the table.
READS_WITHOUT_PATH = [name for name, read in QUERIES.items() if not read.path_params and read.noun not in OTHER_NOUNS]


@pytest.mark.parametrize("name", [name for name in READS_WITHOUT_PATH if name != "bulk.preflight"])
def test_json_output_equals_the_api(app: Flask, flask: RunFlask, name: str) -> None:
    create_run(state="failed", ended_at=now())
    create_session()
    noun, verb = QUERIES[name].noun, QUERIES[name].verb
    headers = bearer_headers("admin")

    def answer() -> dict[str, Any]:
        return app.test_client().get(f"/api/v1/admin{QUERIES[name].path}", headers=headers).json

    # Values of the current minute, or of the next due run, may change between two responses.
    before, printed, after = answer(), json.loads(flask(GROUPS.get(noun, noun), verb, "--json")), answer()
    assert before.keys() == printed.keys() == after.keys()
    for key in printed.keys() - {"ping_ms", "views", "queues"}:
        assert printed[key] in (before[key], after[key]), key


def test_runs_show_and_log_print_one_run(flask: RunFlask) -> None:
    run = create_run(state="failed", error="refused", ended_at=now())
    LogLine.create(run_id=run.id, delivery=1, number=1, at=now(), level="INFO", logger="x", text="half of it")
    assert "refused" in flask("runs", "show", run.id)
    assert "half of it" in flask("runs", "log", run.id)


def test_commands_perform_their_action_and_print_the_result(flask: RunFlask) -> None:
    failed_run, open_session = (
        create_run("get_cleanup_statistics", "failed", kwargs={"hours": 5}, ended_at=now()),
        create_session(),
    )
    made = flask("runs", "again", failed_run.id, "--arguments", '{"hours": 6}')
    assert Run.get_by_id(made).kwargs == {"hours": 6}
    assert json.loads(flask("runs", "again", failed_run.id, "--json"))["result"].keys() == {"run_id"}
    assert flask("sessions", "close", str(open_session.id)) == "Done."
    assert not ReadingSession.get_by_id(open_session.id).is_active


def test_dangerous_command_asks_for_confirmation(flask: RunFlask) -> None:
    run = create_run(state="failed", ended_at=now())
    assert "Continue?" in flask("runs", "delete", run.id, typed="n\n", code=1)
    assert Run.select().count() == 1
    flask("runs", "delete", run.id, "--yes")
    assert Run.select().count() == 0


def test_bulk_retry_shows_the_count_and_asks_for_confirmation(flask: RunFlask, live_consumers: None) -> None:
    run = create_run(state="failed", ended_at=now())
    result = flask("bulk", "retry", "--search", "state:failed", typed="n\n", code=1)
    assert run.id in result and "Retry 1 runs?" in result
    assert flask("bulk", "list") == "none"
    flask("bulk", "retry", "--search", "state:failed", "--yes")
    assert "retry" in flask("bulk", "list")
    assert "no run matches" in flask("bulk", "retry", "--search", "state:dead", "--yes", code=1)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("runs show x", 1, "No run with this id"),
        ("runs list --state open", 2, "state: must be one of"),
        ("runs list --limit 0", 2, "--limit"),
        ("runs cancel x", 1, "No run with this id. The history may have removed it."),
        ("runs again x --args 5x", 2, "must be JSON"),
        ("sessions close x", 2, "session_id"),
        ("bulk show x", 2, "bulk_id"),
        ("bulk retry --yes", 2, "search"),
        ("queues show nothing", 2, "nothing"),
    ],
)
def test_exit_codes_distinguish_failure_from_wrong_usage(flask: RunFlask, words: str, code: int, expected: str) -> None:
    assert expected in flask(*words.split(), code=code)


def test_status_is_watched(tmp_path: Path) -> None:
    with watch_command(tmp_path, "status") as seen:
        wait_until(lambda: seen().count("no live worker") >= 2 * 3)


def test_list_is_watched_until_ctrl_c_without_a_web_server(tmp_path: Path) -> None:
    with watch_command(tmp_path, "runs", "list") as seen:
        wait_until(lambda: seen().count("none") >= 2)
        made = Installation(tmp_path).flask("run-task", "get_cleanup_statistics").stdout.strip()
        wait_until(lambda: made in seen())


@contextmanager
def watch_command(tmp_path: Path, *words: str) -> Iterator[Callable[[], str]]:
    """Run the command with --watch for the length of a block. Yield a function that returns its output so far."""
    installation = Installation(tmp_path)
    installation.flask("migrate")
    output = tmp_path / "seen"
    with output.open("wb") as file:
        command = [sys.executable, "-m", "flask", *words, "--watch", "0.2"]
        # If the tests run in the background, they ignore Ctrl-C, and this child would inherit that.
        heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        environment = {**os.environ, **installation.environment}
        watching = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, preexec_fn=heeding)
    try:
        yield output.read_text
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0


def test_shell_completes_nouns_verbs_and_queues(tmp_path: Path) -> None:
    installation = Installation(tmp_path)

    def completed(line: str) -> list[str]:
        words = {"_FLASK_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        environment = {**os.environ, **installation.environment, **words}
        result = fork_server.run_to_end([str(BIN / "flask")], cwd=ROOT, env=environment)
        return [line_text.partition(",")[2] for line_text in result.stdout.splitlines()]

    assert {"runs", "sessions", "status"} <= set(completed("flask "))
    assert {"list", "show", "cancel"} <= set(completed("flask runs "))
    assert completed("flask queues pause l") == ["light"]
