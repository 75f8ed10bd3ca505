"""`dewey schedule` and `dewey tasks`."""

from datetime import datetime, timedelta

import click

from admin.cli.output import Group, format_cell, json_option, local_admin, print_json, print_lines, print_table
from admin.cli.param_types import Instant, Length
from admin.cli.query import run_query
from admin.operations.arguments import JSONObject
from admin.operations.registry import execute
from engine.models import now

task_argument = click.argument("task")
reason_option = click.option("--reason", help="The reason, shown with the pause.")


@click.group(cls=Group)
def schedule() -> None:
    """List, pause, resume and run schedules. Times are UTC."""


@schedule.command("list")
@json_option
def list_schedules(as_json: bool) -> None:
    """List schedules with the next tick, missed ticks and pauses."""
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
@click.option("--for", "length", type=Length(), help="The duration, such as 30m, 4h or 2d.")
@click.option("--until", type=Instant(), help="The end, such as 2026-11-24T18:30. UTC without an offset.")
def pause_schedule(task: str, reason: str | None, length: timedelta | None, until: datetime | None) -> None:
    """Pause a schedule, without an end until it is resumed."""
    if length and until:
        raise click.UsageError("give either --for or --until")
    end = now() + length if length else until
    execute(local_admin(), "schedule.pause", task=task, reason=reason, until=end)
    until_text = f" until {format_cell(end)} UTC" if end else ""
    print_lines(f"Schedule of {task} is paused{until_text}. Resume it with `dewey schedule resume {task}`.")


@schedule.command("resume")
@task_argument
def resume_schedule(task: str) -> None:
    """Resume a paused schedule."""
    was_paused = execute(local_admin(), "schedule.resume", task=task)
    print_lines(f"Schedule of {task} {'resumed' if was_paused else 'was not paused'}.")


@schedule.command("run")
@task_argument
def run_now(task: str) -> None:
    """Run a scheduled task once, now, and print the run's id."""
    print_lines(execute(local_admin(), "schedule.run", task=task).id)


@schedule.command("catch-up")
@task_argument
def catch_up(task: str) -> None:
    """Run once for the newest missed tick and print the run's id."""
    print_lines(execute(local_admin(), "schedule.catch_up", task=task).id)


@click.group("tasks", cls=Group)
def tasks_group() -> None:
    """List, show, pause and resume tasks."""


@tasks_group.command("list")
@json_option
def list_tasks(as_json: bool) -> None:
    """List tasks with their queue, limits and pauses."""
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
    """Pause a task. Running tasks continue."""
    execute(local_admin(), "tasks.pause", name=task, reason=reason)
    print_lines(f"Task {task} is paused. Resume it with `dewey tasks resume {task}`.")


@tasks_group.command("resume")
@task_argument
def resume_task(task: str) -> None:
    """Resume a paused task."""
    was_paused = execute(local_admin(), "tasks.resume", name=task)
    print_lines(f"Task {task} resumed." if was_paused else f"Task {task} was not paused.")


COMMANDS = (schedule, tasks_group)
