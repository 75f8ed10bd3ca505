"""`flask run-task`."""

import json

import click

from admin.cli.output import Command, fail, me, print_json
from admin.operations.registry import perform
from engine.control.runs import wait_for
from engine.database import release


class RunTask(Command):
    """`--wait` alone means 60 seconds; click would take the argument after it for its value."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        for arg in args:
            if words and words[-1] == "--wait" and arg.replace(".", "", 1).isdigit():
                words[-1] = f"--wait={arg}"
            else:
                words.append(arg)
        return super().parse_args(context, ["--wait=60" if word == "--wait" else word for word in words])


@click.command("run-task", cls=RunTask)
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
    run = perform(me(), "tasks.run", name=name, arguments=dict(map(argument_of, arguments)))
    if wait is None:
        click.echo(run.id)
        return
    release()
    outcome = wait_for(run, wait)
    if outcome is None:
        fail(f"run {run.id} has not ended within {wait:g} s; it goes on, or waits for a worker", 1)
    if outcome.error and outcome.value is None:
        fail(f"run {run.id} failed: {outcome.error}", 1)
    print_json(outcome.value)
    raise SystemExit(bool(outcome.error))


def argument_of(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{text!r} is not key=value")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
