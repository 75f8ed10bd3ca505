"""`flask run-task`."""

import json

import click

from admin.cli.output import Command, fail, local_admin, print_json
from admin.operations.registry import execute
from engine.control.runs import wait_for_result
from engine.database import release_connection


class RunTaskCommand(Command):
    """`--wait` alone means 60 seconds; click would take the argument after it for its value."""

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
    help="Wait for the result, at most so many seconds (60 without a number), and print it.",
)
def run_task(name: str, arguments: tuple[str, ...], wait: float | None) -> None:
    """Enqueue a task and print its run's id, or with --wait its result as JSON.

    A VALUE is JSON where it can be read as that (24, true, [1, 2]), text otherwise. Exit code 1: the run failed, or had
    not ended when the time was up.
    """
    run = execute(local_admin(), "tasks.run", name=name, arguments=dict(map(parse_argument, arguments)))
    if wait is None:
        click.echo(run.id)
        return
    release_connection()
    outcome = wait_for_result(run, wait)
    if outcome is None:
        fail(f"run {run.id} has not ended within {wait:g} s; it goes on, or waits for a worker", 1)
    if outcome.error and outcome.value is None:
        fail(f"run {run.id} failed: {outcome.error}", 1)
    print_json(outcome.value)
    raise SystemExit(bool(outcome.error))


def parse_argument(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{text!r} is not key=value")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
