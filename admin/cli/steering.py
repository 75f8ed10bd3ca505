"""The commands that steer: pause, resume, purge, cancel, retry, dead."""

import click

import tasks
from admin.cli.output import Command, Group, json_option, local_admin, print_json, print_table
from admin.cli.query import run_query
from admin.operations.registry import execute

queue_argument = click.argument("queue", type=click.Choice(list(tasks.queues)))
run_argument = click.argument("run_id", metavar="ID")


@click.command(cls=Command)
@queue_argument
@click.option("--reason", help="Shown wherever the pause is.")
def pause(queue: str, reason: str | None) -> None:
    """Hand out nothing more of a queue; what runs goes on."""
    execute(local_admin(), "queues.pause", queue=queue, reason=reason)
    click.echo(f"{queue} is paused.")


@click.command(cls=Command)
@queue_argument
def resume(queue: str) -> None:
    """Hand out a paused queue's runs again."""
    was_paused = execute(local_admin(), "queues.resume", queue=queue)
    click.echo(f"{queue} goes on." if was_paused else f"{queue} was not paused.")


@click.command(cls=Command)
@queue_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(queue: str, yes: bool) -> None:
    """Cancel everything that waits in a queue."""
    waiting = tasks.queues[queue].pending_count()
    if not yes:
        click.confirm(f"Cancel {waiting:,} waiting in {queue}?", abort=True)
    click.echo(f"{execute(local_admin(), 'queues.purge', queue=queue):,} cancelled.")


#: What is said of a run that was cancelled.
CANCELLED = {"removed": "It will not run.", "running": "It is being interrupted."}


@click.command(cls=Command)
@run_argument
def cancel(run_id: str) -> None:
    """Take a waiting run out of its queue, or interrupt a running one."""
    click.echo(CANCELLED[execute(local_admin(), "runs.cancel", run_id=run_id)])


@click.command(cls=Command)
@run_argument
def retry(run_id: str) -> None:
    """Re-queue a run that has ended, under its own id."""
    execute(local_admin(), "runs.retry", run_id=run_id)
    click.echo("It is back in its queue.")


@click.group(cls=Group)
def dead() -> None:
    """Runs that took down too many workers, or whose message cannot be read."""


@dead.command("list")
@json_option
def list_dead(as_json: bool) -> None:
    """The dead runs of all queues, newest first, with the reason."""
    answer = run_query("dead.list", parameters={"limit": 200})
    if as_json:
        print_json(answer)
        return
    titles = ("id", "queue", "task", "deliveries", "error")
    print_table(titles, [[row[title] for title in titles] for row in answer["dead"]])
    if answer["next"]:
        click.echo(f"and {answer['total'] - len(answer['dead']):,} more", err=True)


@dead.command("requeue")
@run_argument
def requeue_dead(run_id: str) -> None:
    """Give a dead run another chance."""
    execute(local_admin(), "dead.requeue", run_id=run_id)
    click.echo("It is back in its queue.")


@dead.command("discard")
@run_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard_dead(run_id: str, yes: bool) -> None:
    """Give up a dead run for good."""
    if not yes:
        click.confirm("Its message cannot be brought back. Discard it?", abort=True)
    execute(local_admin(), "dead.discard", run_id=run_id)
    click.echo("Discarded.")


COMMANDS = (pause, resume, purge, cancel, retry, dead)
