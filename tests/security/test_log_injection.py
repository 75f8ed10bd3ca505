"""Hostile text neither forges a log line nor reaches a terminal as a command to it."""

import json
import logging
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import RunFlask
from consumers import consumer, share_with_consumers
from factories import create_attempt, create_consumer, create_run
from flask import Flask
from secret_tasks import shout, vault

import admin.cli
import tasks
from engine.broker.messages import Requester
from engine.control.queues import pause_queue
from engine.log_format import JSONLines, ShortLines, TextLines
from engine.models import ErrorGroup, LogLine, now
from engine.text import escape_controls

FORGED = "[2026-11-28 10:00:00,000: INFO/web] FORGED"
EVIL = (
    f"x\r\n{FORGED}\n2026-11-28 10:00:00,000 FORGED\nFORGED\x0b\x0c\x85{FORGED}\u2028{FORGED}"
    "\x1b]0;PWN\x07\x1b[31m\x9b31m\x7f\x00\u202egnp.exe\u2066\u200f"
)
BIDIRECTIONAL = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
#: What Python's own lines of a traceback begin with.
OWN_LINE = re.compile(r" |Traceback |The above|During handling|(Key|Value)Error: |ExceptionGroup|$")


def unsafe(text: str) -> set[str]:
    """Return the characters, line breaks apart, that change more than themselves."""
    return {character for character in text if character != "\n" and is_unsafe(character)}


def is_unsafe(character: str) -> bool:
    is_control = unicodedata.category(character) in ("Cc", "Zl", "Zp")
    return is_control or unicodedata.bidirectional(character) in BIDIRECTIONAL


def forged_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"(\[2026-11-28|2026-11-28|FORGED)", line)]


def record_of(error: BaseException | None = None) -> logging.LogRecord:
    try:
        if error:
            raise error
    except BaseException:
        return logging.LogRecord("books", logging.ERROR, "", 0, "Reading %s", (EVIL,), sys.exc_info())
    return logging.LogRecord("books", logging.INFO, "", 0, "Reading %s", (EVIL,), None)


@pytest.mark.parametrize("formatter", [TextLines(), ShortLines(), JSONLines()])
def test_message_is_one_line(formatter: logging.Formatter) -> None:
    line = formatter.format(record_of())
    assert (unsafe(line), len(line.splitlines())) == (set(), 1)
    assert "FORGED" in line


def hostile_errors() -> Iterator[BaseException]:
    yield ValueError(EVIL)
    noted = ValueError("a")
    noted.add_note(EVIL)
    yield noted
    caused = ValueError(EVIL)
    caused.__cause__ = noted
    yield caused
    yield ExceptionGroup(EVIL, [ValueError(EVIL), noted])


@pytest.mark.parametrize("formatter", [TextLines(), ShortLines()])
@pytest.mark.parametrize("error", list(hostile_errors()), ids=["message", "note", "cause", "group"])
def test_traceback_keeps_its_own_lines_only(formatter: logging.Formatter, error: BaseException) -> None:
    text = formatter.format(record_of(error))
    head, *lines = text.splitlines()
    assert "Reading x" in head
    assert len([line for line in lines if "Traceback (most recent call last):" in line]) >= 1
    assert [line for line in lines if not OWN_LINE.match(line)] == []
    assert (unsafe(text), forged_lines(text)) == (set(), [])
    assert text.count("FORGED") >= 10


def test_consumer_writes_no_forged_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        share_with_consumers(vault, tmp_path) as environment,
        consumer("secret_tasks.vault", "-k", "process", "-n", "-v", environment=environment, log=log) as running,
    ):
        running.logged(f"{shout(EVIL).id}] failed in")
    text = log.read_text()
    assert "FORGED" in text
    assert (unsafe(text), forged_lines(text)) == (set(), [])


def test_terminal_obeys_no_stored_text(app: Flask, flask: RunFlask) -> None:
    evil = EVIL.replace("\x00", "")  # which no database takes
    run = create_run("shout", "failed", args=[evil], kwargs={evil: evil}, error=evil, worker=evil, asked_by=evil,
                     asked_by_kind="operator", progress_text=evil, result=evil, error_group="0123456789ab")  # fmt: skip
    dead = create_run("shout", "cancelled", error=evil)
    create_attempt(run, 1, "failed", error=evil, traceback=evil, worker=evil)
    LogLine.create(run_id=run.id, delivery=1, number=1, at=now(), level="INFO", logger=evil, text=evil)
    group = {"id": "0123456789ab", "exception": evil, "place": evil, "code": evil, "message": evil}
    ErrorGroup.create(**group, task="shout", state="open", first_seen_at=now(), last_seen_at=now())
    worker = create_consumer("light", host=evil, code_version=evil)
    pause_queue(tasks.light, by=Requester("operator", "ann"), reason=evil)
    commands = [
        ("why", run.id), ("why", dead.id), ("runs", "list"), ("runs", "show", run.id), ("runs", "log", run.id),
        ("errors", "list"), ("errors", "show", "0123456789ab"), ("workers", "list"), ("workers", "show", worker.id),
        ("queues", "list"), ("queues", "show", "light"), ("status",), ("audit", "list"),
    ]  # fmt: skip
    with app.app_context():
        for command in [*commands, *((*command, "--json") for command in commands)]:
            text = app.test_cli_runner().invoke(args=command).output
            assert text
            assert (command, unsafe(text), forged_lines(text)) == (command, set(), [])
    assert json.loads(flask("runs", "show", run.id, "--json"))["error"] == evil


def test_failure_in_the_terminal_is_one_line(flask: RunFlask) -> None:
    for command in (
        ("run-task", EVIL),
        ("runs", "show", EVIL.replace("\x00", "")),
        ("errors", "resolve", EVIL.replace("\x00", "")),
    ):
        result = flask(*command, code=2 if command[0] == "run-task" else 1)
        assert (unsafe(result), forged_lines(result)) == (set(), [])


def test_every_command_prints_through_one_place() -> None:
    folder = Path(admin.cli.__file__).parent
    printing = {
        file.name for file in folder.glob("*.py") if re.search(r"\becho\(|\bprint\(|stdout\.write", file.read_text())
    }
    assert printing == {"output.py"}


def test_plain_text_is_unchanged() -> None:
    for text in ("", "an ordinary line", "строка «ёлки» – 100 %", "emoji 👩‍🚀", "back\\slash"):
        assert escape_controls(text) == text
