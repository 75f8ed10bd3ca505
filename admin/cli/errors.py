"""`dewey errors`: error groups."""

from datetime import datetime, timedelta

import click

from admin.cli.output import (
    Group,
    format_cell,
    json_option,
    local_admin,
    print_facts,
    print_json,
    print_lines,
    print_listing,
    print_table,
)
from admin.cli.param_types import Instant, Length
from admin.cli.query import query_rows, run_query
from admin.operations.errors import MAX_EXAMPLES, STATES
from admin.operations.registry import execute
from engine.models import now

#: Columns of the older failures.
OLDER_HINT = ("run_id", "attempt", "ended_at", "worker", "error")

error_argument = click.argument("error_id")


@click.group(cls=Group)
def errors() -> None:
    """List, show, resolve and snooze error groups. Times are UTC."""


@errors.command("list")
@click.option("--state", type=click.Choice(STATES), default="open", show_default=True)
@click.option("--task", help="Only this task.")
@click.option("--limit", type=click.IntRange(1, 1000), default=10 * MAX_EXAMPLES, show_default=True)
@json_option
def list_errors(state: str, task: str | None, limit: int, as_json: bool) -> None:
    """List error groups, the latest failure first."""
    rows = query_rows("errors.list", limit, {"state": state, "task": task})
    titles = ("id", "state", "task", "exception", "place", "hour", "day", "week", "last_seen_at", "message")
    print_listing(rows, as_json, titles, [[format_error_cell(row, title) for title in titles] for row in rows])


def format_error_cell(row: dict[str, object], title: str) -> object:
    return first_text_line(row[title]) if title == "message" else row[title] or None


@errors.command("show")
@error_argument
@json_option
def show_error(error_id: str, as_json: bool) -> None:
    """Show a group with its latest failures, the newest in full."""
    answer = run_query("errors.show", {"error_id": error_id})
    if as_json:
        print_json(answer)
        return
    print_facts(answer["error"])
    for newest in answer["examples"][:1]:
        print_lines("", "Newest failure:")
        print_facts(newest)
    if older := answer["examples"][1:]:
        print_lines("", "Earlier failures:")
        print_table(OLDER_HINT, [[first_text_line(attempt[title]) for title in OLDER_HINT] for attempt in older])


def first_text_line(value: object) -> object:
    return value.partition("\n")[0][:80] if isinstance(value, str) else value


@errors.command("resolve")
@error_argument
def resolve(error_id: str) -> None:
    """Mark a group as resolved. A new failure reopens it."""
    execute(local_admin(), "errors.resolve", error_id=error_id)
    print_lines(f"Error group {error_id} resolved.")


@errors.command("reopen")
@error_argument
def reopen(error_id: str) -> None:
    """Reopen a resolved or snoozed group."""
    execute(local_admin(), "errors.reopen", error_id=error_id)
    print_lines(f"Error group {error_id} reopened.")


@errors.command("snooze")
@error_argument
@click.option("--for", "length", type=Length(), help="The duration, such as 30m, 4h or 2d.")
@click.option("--until", type=Instant(), help="The end, such as 2026-11-24T18:30. UTC without an offset.")
def snooze(error_id: str, length: timedelta | None, until: datetime | None) -> None:
    """Hide a group from the open ones for a while."""
    if bool(length) == bool(until):
        raise click.UsageError("give either --for or --until")
    end = until or now() + (length or timedelta())
    execute(local_admin(), "errors.snooze", error_id=error_id, until=end)
    print_lines(f"Error group {error_id} snoozed until {format_cell(end)} UTC.")


COMMANDS = (errors,)
