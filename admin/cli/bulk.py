"""`dewey bulk`: retry, cancel or delete many runs, after a preflight."""

import click

from admin.cli.output import (
    Command,
    Group,
    fail,
    json_option,
    local_admin,
    print_facts,
    print_json,
    print_lines,
    print_table,
)
from admin.cli.query import run_query
from admin.operations.arguments import JSONObject
from admin.operations.bulk import select_runs
from admin.operations.registry import execute
from engine.control import bulk as many

SAMPLE_SIZE = 10


@click.group(cls=Group)
def bulk() -> None:
    """Retry, cancel or delete many runs at once."""


@bulk.command("preflight")
@click.option("--search", help="Search for the runs, as in the search box.")
@click.option("--run", "runs", multiple=True, help="Id of a run, instead of a search.")
@json_option
def preflight(search: str | None, runs: tuple[str, ...], as_json: bool) -> None:
    """Show which runs a bulk action would affect: their number, states and the newest ones."""
    answer = run_query("bulk.preflight", parameters={"search": search, "run": runs})
    if as_json:
        print_json(answer)
        return
    states = ", ".join(f"{state} {count:,}" for state, count in answer["states"].items())
    print_facts({"runs": f"{answer['total']:,}", "states": states or None, "fingerprint": answer["fingerprint"]})
    print_lines("", "Newest runs:")
    titles = ("id", "task", "queue", "state", "enqueued_at")
    print_table(titles, [[run[title] for title in titles] for run in answer["sample"]])


def make_command(verb: str, help_text: str) -> click.Command:
    @click.command(verb, cls=Command, help=help_text)
    @click.argument("runs", metavar="[ID]...", nargs=-1)
    @click.option("--search", help="Search for the runs, as in the search box.")
    @click.option("--fingerprint", help="The fingerprint of the preflight. Refuse if the runs have changed since.")
    @click.option("--yes", is_flag=True, help="Skip the confirmation.")
    @json_option
    def command(runs: tuple[str, ...], search: str | None, fingerprint: str | None, yes: bool, as_json: bool) -> None:
        try:
            chosen_runs = many.preflight(select_runs(search, list(runs)), SAMPLE_SIZE)
        except many.TooManyItems:
            fail(f"more than {many.MAX_ITEMS:,} runs match", 1)
        if not chosen_runs.total:
            fail("no run matches", 1)
        if not yes:
            confirm_bulk(verb, chosen_runs)
        selection: JSONObject = {"runs": list(runs)} if runs else {"search": search}
        number = execute(local_admin(), f"bulk.{verb}", fingerprint=fingerprint or chosen_runs.fingerprint, **selection)
        if as_json:
            print_json({"result": number})
        else:
            print_lines(f"Bulk action {number} started. Show it with `dewey bulk show {number}`.")

    return command


def confirm_bulk(verb: str, preflight: many.Preflight) -> None:
    print_table(("id", "task", "state"), [(run.id, run.task, run.state) for run in preflight.sample])
    remaining = preflight.total - len(preflight.sample)
    print_lines(f"… and {remaining:,} more" if remaining > 0 else "", err=True)
    click.confirm(f"{verb.capitalize()} {preflight.total:,} runs?", abort=True)


bulk.add_command(make_command("retry", "Re-queue the runs."))
bulk.add_command(make_command("cancel", "Cancel the runs."))
bulk.add_command(make_command("delete", "Delete the runs from the history."))
