"""The commands of `flask`: the same questions and the same table of actions as the pages. No web server is needed."""

import json
from typing import Any

import click
from flask import Flask

from admin import (
    alerts_cli,
    audit_cli,
    bulk_cli,
    commands,
    errors_cli,
    people_cli,
    schedule_cli,
    steering,
    workers_cli,
)
from admin.listings import inspect_group, status
from admin.perform import perform
from admin.reasons import why_command
from admin.start import start
from admin.terminal import Command, fail, me, print_json
from admin.watching import watch_command
from engine.control import wait_for
from engine.database import release
from engine.migrations import migrate as apply_migrations


def register(app: Flask) -> None:
    asking = (status, inspect_group, why_command)
    steer = (
        *steering.COMMANDS,
        *schedule_cli.COMMANDS,
        *errors_cli.COMMANDS,
        *audit_cli.COMMANDS,
        *people_cli.COMMANDS,
        *workers_cli.COMMANDS,
        *alerts_cli.COMMANDS,
        bulk_cli.bulk,
    )
    for command in (start, watch_command, migrate, demo, run_task, *asking, *steer):
        app.cli.add_command(command)
    commands.add_to(app.cli)


@click.command(cls=Command)
def migrate() -> None:
    """Bring the database's schema up to date."""
    for name in apply_migrations():
        click.echo(f"applied {name}")
    click.echo("The schema is up to date.")


@click.command(cls=Command)
def demo() -> None:
    """Load the sample library into an empty database of our own."""
    for name, count in perform(me(), "library.demo").items():
        click.echo(f"{count:>8,} {name}")


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


def argument_of(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{text!r} is not key=value")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
