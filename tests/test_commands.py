"""The commands that are made from the tables of actions and reads, as somebody types them."""

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

import pytest
from browsers import Flasks, bearer_headers
from flask import Flask
from installation import Installation
from library import run, session
from waiting import wait_until

from admin.cli.generated import GROUPS
from admin.operations.queries import READS
from config import ROOT
from engine.models import LogLine, Run, now
from models import ReadingSession


def test_runs_are_listed_with_the_filter_of_their_page(flask: Flasks) -> None:
    wanted = [run(state="failed", enqueued_at=now() - timedelta(minutes=place)).id for place in range(3)]
    run(state="succeeded")
    first = flask("runs", "list", "--state", "failed", "--limit", "2")
    assert [one for one in wanted if one in first] == wanted[:2]
    cursor = first.rpartition("more: --before ")[2]
    assert wanted[2] in flask("runs", "list", "--state", "failed", "--limit", "2", "--before", cursor)
    assert flask("runs", "list", "--q", "state:dead") == "none"


#: Nouns whose lists have commands of their own.
OTHERS = ("operators", "tokens", "audit", "errors")
#: Those that can be asked without a word, and whose commands are made from the table.
ALONE = [name for name, one in READS.items() if not one.in_path and one.noun not in OTHERS]


@pytest.mark.parametrize("name", [name for name in ALONE if name != "bulk.preflight"])
def test_json_in_the_terminal_is_json_of_the_api(app: Flask, flask: Flasks, name: str) -> None:
    run(state="failed", ended_at=now())
    session()
    noun, verb = READS[name].noun, READS[name].verb
    headers = bearer_headers("admin")

    def answer() -> dict[str, Any]:
        return app.test_client().get(f"/api/v1/admin{READS[name].path}", headers=headers).json

    # What begins at a full minute or is due next may change between two answers.
    before, told, after = answer(), json.loads(flask(GROUPS.get(noun, noun), verb, "--json")), answer()
    assert before.keys() == told.keys() == after.keys()
    for key in told.keys() - {"ping_ms", "views", "queues"}:
        assert told[key] in (before[key], after[key]), key


def test_one_run_is_shown_with_what_it_logged(flask: Flasks) -> None:
    one = run(state="failed", error="refused", ended_at=now())
    LogLine.create(run_id=one.id, delivery=1, number=1, at=now(), level="INFO", logger="x", text="half of it")
    assert "refused" in flask("runs", "show", one.id)
    assert "half of it" in flask("runs", "log", one.id)


def test_commands_do_what_they_say_and_print_what_comes_of_it(flask: Flasks) -> None:
    one, open_session = run("get_cleanup_statistics", "failed", kwargs={"hours": 5}, ended_at=now()), session()
    made = flask("runs", "again", one.id, "--arguments", '{"hours": 6}')
    assert Run.get_by_id(made).kwargs == {"hours": 6}
    assert json.loads(flask("runs", "again", one.id, "--json"))["result"].keys() == {"run_id"}
    assert flask("sessions", "close", str(open_session.id)) == "Done."
    assert not ReadingSession.get_by_id(open_session.id).is_active


def test_what_is_dangerous_is_asked_about_first(flask: Flasks) -> None:
    one = run(state="failed", ended_at=now())
    assert "sure?" in flask("runs", "delete", one.id, typed="n\n", code=1)
    assert Run.select().count() == 1
    flask("runs", "delete", one.id, "--yes")
    assert Run.select().count() == 0


def test_many_runs_are_retried_once_somebody_has_seen_how_many(flask: Flasks, served: None) -> None:
    one = run(state="failed", ended_at=now())
    asked = flask("bulk", "retry", "--search", "state:failed", typed="n\n", code=1)
    assert one.id in asked and "Retry 1 runs?" in asked
    assert flask("bulk", "list") == "none"
    flask("bulk", "retry", "--search", "state:failed", "--yes")
    assert "retry" in flask("bulk", "list")
    assert "no run matches" in flask("bulk", "retry", "--search", "state:dead", "--yes", code=1)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("runs show x", 1, "No run has this id"),
        ("runs list --state open", 2, "state: one of"),
        ("runs list --limit 0", 2, "--limit"),
        ("runs cancel x", 1, "There is no run of this id on record."),
        ("runs again x --args 5x", 2, "no JSON"),
        ("sessions close x", 2, "session_id"),
        ("bulk show x", 2, "bulk_id"),
        ("bulk retry --yes", 2, "search"),
        ("queues show nothing", 2, "nothing"),
    ],
)
def test_exit_codes_tell_a_no_from_wrong_usage(flask: Flasks, words: str, code: int, told: str) -> None:
    assert told in flask(*words.split(), code=code)


def test_the_status_is_watched_too(tmp_path: Path) -> None:
    with watched(tmp_path, "status") as seen:
        wait_until(lambda: seen().count("no live worker") >= 2 * 3)


def test_a_list_is_watched_until_ctrl_c_without_a_web_server(tmp_path: Path) -> None:
    with watched(tmp_path, "runs", "list") as seen:
        wait_until(lambda: seen().count("none") >= 2)
        made = Installation(tmp_path).flask("run-task", "get_cleanup_statistics").stdout.strip()
        wait_until(lambda: made in seen())


@contextmanager
def watched(tmp_path: Path, *words: str) -> Iterator[Callable[[], str]]:
    """The command with --watch, for the length of a block; gives what it has printed so far."""
    place = Installation(tmp_path)
    place.flask("migrate")
    output = tmp_path / "seen"
    with output.open("wb") as file:
        command = [sys.executable, "-m", "flask", *words, "--watch", "0.2"]
        # Whoever runs the tests in the background has them ignore Ctrl-C, and so would this.
        heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        environment = {**os.environ, **place.environment}
        watching = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, preexec_fn=heeding)
    try:
        yield output.read_text
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0


def test_a_shell_completes_nouns_verbs_and_queues(tmp_path: Path) -> None:
    place = Installation(tmp_path)

    def completed(line: str) -> list[str]:
        words = {"_FLASK_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        told = subprocess.run(
            [str(Path(sys.executable).parent / "flask")],
            cwd=ROOT,
            env={**os.environ, **place.environment, **words},
            capture_output=True,
            text=True,
        )
        return [one.partition(",")[2] for one in told.stdout.splitlines()]

    assert {"runs", "sessions", "status"} <= set(completed("flask "))
    assert {"list", "show", "cancel"} <= set(completed("flask runs "))
    assert completed("flask queues pause l") == ["light"]
