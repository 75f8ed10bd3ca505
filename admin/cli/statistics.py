"""`dewey statistics`: the figures of the charts as tables."""

from collections.abc import Mapping

import click

from admin.cli.output import Group, json_option, print_facts, print_json, print_lines, print_table
from admin.cli.query import run_query
from admin.operations.arguments import JSONObject

OUTCOMES = ("succeeded", "failed", "dead", "cancelled", "expired", "retried")
PERCENTILES = ("p50", "p95", "p99")


@click.group(cls=Group)
def statistics() -> None:
    """Show figures of runs and reading sessions over time. Times are UTC."""


@statistics.command("runs")
@click.option("--hours", type=click.Choice(["1", "24", "168"]), default="24", show_default=True, help="The period.")
@json_option
def show_runs(hours: str, as_json: bool) -> None:
    """Show how runs ended, waited and ran over an hour, a day or a week."""
    answer = run_query("statistics.runs", parameters={"hours": hours})
    if as_json:
        print_json(answer)
        return
    print_facts({"hours": answer["hours"], "step (s)": answer["step_seconds"]})
    print_lines("")
    steps = [(step["start"], *outcome_counts(step["counts"])) for step in answer["steps"]]
    print_table(("start", *OUTCOMES), [*steps, ("total", *outcome_counts(answer["counts"]))])
    durations = [(name, *map(answer[name].get, PERCENTILES)) for name in ("waited", "ran") if answer[name]]
    if durations:
        print_lines("", "Durations in ms:")
        print_table(("", *PERCENTILES), durations)


def outcome_counts(counts: Mapping[str, int]) -> list[int]:
    return [counts.get(name, 0) for name in OUTCOMES]


@statistics.command("sessions")
@json_option
def show_sessions(as_json: bool) -> None:
    """Show sessions by hour, by cleanup, and the start hours of abandoned ones."""
    answer = run_query("statistics.sessions")
    if as_json:
        print_json(answer)
        return
    print_facts(answer["now"])
    for title, name, columns in (
        ("Closed by hour:", "by_hour", ("start", "closed", "average_minutes", "no_progress")),
        ("Cleanups:", "cleanups", ("run_id", "instant_at", "closed_count")),
        ("Abandoned sessions by start hour and device:", "abandoned", ("hour", "device", "count")),
    ):
        rows: list[JSONObject] = answer[name]
        print_lines("", f"{title}")
        print_table(columns, [[row[column] for column in columns] for row in rows])


COMMANDS = (statistics,)
