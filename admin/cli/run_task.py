"""`dewey run-task`."""

import json

import click

from admin.cli.output import Command, fail, local_admin, print_json, print_lines
from admin.operations.registry import execute
from engine.control.runs import wait_for_result
from engine.database import release_connection


class RunTaskCommand(Command):
    """Read `--wait` without a number as 60 seconds. click would take the next argument as its value."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        for arg in args:
            if words and words[-1] == "--wait" and arg.replace(".", "", 1).isdigit():
                words[-1] = f"--wait={arg}"
            else:
                words.append(arg)
        return super().parse_args(context, ["--wait=60" if word == "--wait" else word for word in words])


@click.command("run-task", cls=RunTaskCommand)
@click.argument("name")
@click.argument("arguments", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--wait",
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    help="Wait for the result, at most this long (60 without a number), and print it.",
)
def run_task(name: str, arguments: tuple[str, ...], wait: float | None) -> None:
    """Enqueue a task and print the run's id, or with --wait the result as JSON.

    A VALUE that is valid JSON (24, true, [1, 2]) is read as JSON, any other as text. Exit code 1: the run failed or
    timed out.
    """
    run = execute(local_admin(), "tasks.run", name=name, arguments=dict(map(parse_argument, arguments)))
    if wait is None:
        print_lines(run.id)
        return
    release_connection()
    outcome = wait_for_result(run, wait)
    if outcome is None:
        fail(
            f"run {run.id} did not end within {wait:g} s. See `dewey why {run.id}`.",
            1,
        )
    if outcome.error and outcome.value is None:
        fail(f"run {run.id} failed: {outcome.error}", 1)
    print_json(outcome.value)
    raise SystemExit(bool(outcome.error))


def parse_argument(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{text!r} must be KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
