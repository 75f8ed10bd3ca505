"""`dewey why <id>`: the diagnosis of a run."""

import click

import tasks
from admin.cli.output import Command, fail, json_option, print_json, print_lines
from admin.operations.runs import cause_data, cause_text
from engine.models import Run
from engine.monitor.diagnosis import diagnose


@click.command("why", cls=Command)
@click.argument("run_id", metavar="ID")
@json_option
def why_command(run_id: str, as_json: bool) -> None:
    """Explain why a run is not running, the main cause first."""
    run = Run.get_or_none(Run.id == run_id)
    if run is None:
        fail(f"no run with the id {run_id}. The history may have removed it.", 1)
    causes = diagnose(tasks.queues, run)
    if as_json:
        print_json([cause_data(cause) for cause in causes])
        return
    for cause in causes:
        print_lines(cause_text(cause))
