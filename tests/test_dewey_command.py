"""The command `dewey`, started as an operator starts it: a link to `bin/dewey`, from another folder."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from flask import Flask
from installation import Installation

from admin.cli.examples import example
from admin.cli.main import PROGRAM, SECTIONS, Dewey
from config import ROOT


class Shell:
    """A folder that is not the project's, with a migrated database and a link to the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, **Installation(folder).environment}
        (folder / "bin").mkdir()
        (folder / "bin" / "project").symlink_to(ROOT / "bin" / "dewey")
        self.command = folder / "bin" / PROGRAM
        self.command.symlink_to("project")
        # A file of the current folder must not replace a module of the program.
        (folder / "tasks.py").write_text("raise SystemExit('the wrong module')")
        (folder / "click.py").write_text("raise SystemExit('the wrong module')")

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **environment}
        return subprocess.run(
            [str(self.command), *words], cwd=self.folder, env=environment, capture_output=True, text=True
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    made = Shell(tmp_path_factory.mktemp("elsewhere"))
    assert made.run("migrate").returncode == 0
    return made


def test_help_presents_dewey_in_sections_without_commands_of_flask(shell: Shell) -> None:
    result = shell.run("--help")
    assert result.returncode == 0 and result.stdout.startswith("Usage: dewey [OPTIONS] COMMAND")
    lines = result.stdout.splitlines()
    assert [line.removesuffix(":") for line in lines if line.removesuffix(":") in SECTIONS] == list(SECTIONS)
    assert "Other:" not in lines
    names = [line.split()[0] for line in lines if line.startswith("  ") and line.split()[0].islower()]
    assert {"runs", "status", "statistics", "operator"} <= set(names)
    assert not {"run", "shell", "routes"} & set(names)
    assert shell.run("shell").returncode == 2


def test_listing_is_that_of_flask(shell: Shell) -> None:
    listed = shell.run("queues", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert [queue["name"] for queue in json.loads(listed.stdout)["queues"]] == ["heavy", "normal", "light"]


def test_exit_codes_are_0_1_and_2(shell: Shell) -> None:
    assert shell.run("runs", "list").returncode == 0
    refused = shell.run("retry", "no-such-run")
    assert refused.returncode == 1 and refused.stderr.startswith("dewey: ")
    wrong = shell.run("runs", "list", "--no-such-option")
    assert wrong.returncode == 2 and "Usage: dewey runs list" in wrong.stderr
    setting = shell.run("status", PORT="none")
    assert setting.returncode == 2 and "PORT" in setting.stderr


def test_shell_completes_dewey(shell: Shell) -> None:
    script = shell.run(_DEWEY_COMPLETE="bash_source")
    assert script.returncode == 0 and "_DEWEY_COMPLETE=bash_complete" in script.stdout

    def completed(line: str) -> list[str]:
        words = {"_DEWEY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return [text.partition(",")[2] for text in shell.run(**words).stdout.splitlines()]

    assert {"runs", "sessions", "status"} <= set(completed("dewey "))
    assert "routes" not in completed("dewey ")
    assert completed("dewey queues pause l") == ["light"]


def test_watch_once_prints_what_it_found(shell: Shell) -> None:
    result = shell.run("watch", "--once")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "Notices sent: 0"
    assert any("light" in line for line in result.stdout.splitlines())


def commands(group: click.Group, context: click.Context) -> Iterator[click.Context]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        below = click.Context(command, parent=context, info_name=name)
        if isinstance(command, click.Group):
            yield from commands(command, below)
        else:
            yield below


def test_every_command_has_an_example_that_it_accepts(app: Flask) -> None:
    dewey = Dewey(app)
    with click.Context(dewey, info_name=PROGRAM) as root:
        found = list(commands(dewey, root))
        assert len(found) > 80
        for context in found:
            line = example(context)
            assert context.get_help().rstrip().endswith(f"Example:\n  {line}"), line
            path = context.command_path.split()
            words = shlex.split(line)
            assert words[: len(path)] == path
            context.command.make_context(context.info_name, words[len(path) :], parent=context.parent)
