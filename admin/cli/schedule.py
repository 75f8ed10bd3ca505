"""The commands about schedules and tasks: `flask schedule` and `flask tasks`."""

from datetime import datetime, timedelta

import click

from admin.cli.output import Group, format_cell, json_option, local_admin, print_json, print_table
from admin.cli.param_types import Instant, Length
from admin.cli.query import run_query
from admin.operations.arguments import JSONObject
from admin.operations.registry import execute
from engine.models import now

task_argument = click.argument("task")
reason_option = click.option("--reason", help="Shown wherever the pause is.")


@click.group(cls=Group)
def schedule() -> None:
    """What the clock starts. Times are UTC."""


@schedule.command("list")
@json_option
def list_schedules(as_json: bool) -> None:
    """Each schedule: when it is due next, who holds it back, and what it missed."""
    if as_json:
        print_json(run_query("schedule.list"))
        return
    schedules = run_query("schedule.list")["schedules"]
    titles = ("task", "queue", "expression", "words", "next", "missed", "paused")
    print_table(titles, [[format_schedule_cell(row, title) for title in titles] for row in schedules])


def format_schedule_cell(row: JSONObject, title: str) -> object:
    if title == "next":
        return row["next"][0] if row["next"] else None
    if title == "paused" and (pause := row["paused"]):
        end = f"until {format_cell(pause['until'])}" if pause["until"] else "until resumed"
        return ", ".join(filter(None, [pause["by"], end, pause["reason"]]))
    return row[title]


@schedule.command("pause")
@task_argument
@reason_option
@click.option("--for", "length", type=Length(), help="How long, such as 30m, 4h or 2d.")
@click.option("--until", type=Instant(), help="The end, such as 2026-11-24T18:30; UTC unless it says otherwise.")
def pause_schedule(task: str, reason: str | None, length: timedelta | None, until: datetime | None) -> None:
    """Let the clock start nothing of a task; without an end, until it is resumed."""
    if length and until:
        raise click.UsageError("--for and --until exclude each other")
    end = now() + length if length else until
    execute(local_admin(), "schedule.pause", task=task, reason=reason, until=end)
    click.echo(f"The schedule of {task} is paused{f' until {format_cell(end)}' if end else ''}.")


@schedule.command("resume")
@task_argument
def resume_schedule(task: str) -> None:
    """Let the clock start a task again."""
    was_paused = execute(local_admin(), "schedule.resume", task=task)
    click.echo(f"The schedule of {task} {'goes on' if was_paused else 'was not paused'}.")


@schedule.command("run")
@task_argument
def run_now(task: str) -> None:
    """Run a scheduled task once, now; prints its run's id."""
    click.echo(execute(local_admin(), "schedule.run", task=task).id)


@schedule.command("catch-up")
@task_argument
def catch_up(task: str) -> None:
    """Run once for the newest tick that was missed; prints its run's id."""
    click.echo(execute(local_admin(), "schedule.catch_up", task=task).id)


@click.group("tasks", cls=Group)
def tasks_group() -> None:
    """The registered tasks."""


@tasks_group.command("list")
@json_option
def list_tasks(as_json: bool) -> None:
    """Each task: its queue, its limits, and who holds it back."""
    if as_json:
        print_json(run_query("tasks.list"))
        return
    tasks = run_query("tasks.list")["tasks"]
    titles = ("task", "queue", "priority", "retries", "schedule", "rate_limit", "paused")
    rows = [[row[title] if title != "paused" else pause_author(row["paused"]) for title in titles] for row in tasks]
    print_table(titles, rows)


def pause_author(info: JSONObject | None) -> str | None:
    return ", ".join(filter(None, [info["by"], info["reason"]])) if info else None


@tasks_group.command("pause")
@task_argument
@reason_option
def pause_task(task: str, reason: str | None) -> None:
    """Hand out no more runs of a task; what runs goes on."""
    execute(local_admin(), "tasks.pause", name=task, reason=reason)
    click.echo(f"{task} is paused.")


@tasks_group.command("resume")
@task_argument
def resume_task(task: str) -> None:
    """Hand out a paused task's runs again."""
    was_paused = execute(local_admin(), "tasks.resume", name=task)
    click.echo(f"{task} goes on." if was_paused else f"{task} was not paused.")


COMMANDS = (schedule, tasks_group)
