"""`dewey pause`, `resume`, `purge`, `cancel`, `retry` and `dead`."""

import click

import tasks
from admin.cli.output import Command, Group, json_option, local_admin, print_json, print_lines, print_table
from admin.cli.query import run_query
from admin.operations.registry import execute

queue_argument = click.argument("queue", type=click.Choice(list(tasks.queues)))
run_argument = click.argument("run_id", metavar="ID")


@click.command(cls=Command)
@queue_argument
@click.option("--reason", help="The reason, shown with the pause.")
def pause(queue: str, reason: str | None) -> None:
    """Pause a queue. Running tasks continue."""
    execute(local_admin(), "queues.pause", queue=queue, reason=reason)
    print_lines(f"Queue {queue} is paused. Resume it with `dewey resume {queue}`.")


@click.command(cls=Command)
@queue_argument
def resume(queue: str) -> None:
    """Resume a paused queue."""
    was_paused = execute(local_admin(), "queues.resume", queue=queue)
    print_lines(f"Queue {queue} resumed." if was_paused else f"Queue {queue} was not paused.")


@click.command(cls=Command)
@queue_argument
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
def purge(queue: str, yes: bool) -> None:
    """Cancel every waiting run of a queue."""
    waiting = tasks.queues[queue].pending_count()
    if not yes:
        click.confirm(f"Cancel the waiting runs in {queue} ({waiting:,})?", abort=True)
    print_lines(f"Waiting runs cancelled in {queue}: {execute(local_admin(), 'queues.purge', queue=queue):,}.")


def cancelled_text(result: str, run_id: str) -> str:
    """Return the sentence for a result of `runs.cancel`: `removed` or `running`."""
    return f"Run {run_id} " + {"removed": "cancelled before it started.", "running": "is being interrupted."}[result]


@click.command(cls=Command)
@run_argument
def cancel(run_id: str) -> None:
    """Cancel a run: remove it from its queue, or interrupt it."""
    print_lines(cancelled_text(execute(local_admin(), "runs.cancel", run_id=run_id), run_id))


@click.command(cls=Command)
@run_argument
def retry(run_id: str) -> None:
    """Re-queue an ended run under the same id."""
    execute(local_admin(), "runs.retry", run_id=run_id)
    print_lines(f"Run {run_id} re-queued.")


@click.group(cls=Group)
def dead() -> None:
    """List, re-queue and discard dead runs."""


@dead.command("list")
@json_option
def list_dead(as_json: bool) -> None:
    """List dead runs of all queues, newest first, with the reason."""
    answer = run_query("dead.list", parameters={"limit": 200})
    if as_json:
        print_json(answer)
        return
    titles = ("id", "queue", "task", "deliveries", "error")
    print_table(titles, [[row[title] for title in titles] for row in answer["dead"]])
    if answer["next"]:
        print_lines(f"and {answer['total'] - len(answer['dead']):,} more", err=True)


@dead.command("requeue")
@run_argument
def requeue_dead(run_id: str) -> None:
    """Re-queue a dead run."""
    execute(local_admin(), "dead.requeue", run_id=run_id)
    print_lines(f"Run {run_id} re-queued.")


@dead.command("discard")
@run_argument
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
def discard_dead(run_id: str, yes: bool) -> None:
    """Discard a dead run and its message for good."""
    if not yes:
        click.confirm(f"Discard dead run {run_id}? Its message cannot be restored.", abort=True)
    execute(local_admin(), "dead.discard", run_id=run_id)
    print_lines(f"Dead run {run_id} discarded.")


COMMANDS = (pause, resume, purge, cancel, retry, dead)
