"""`dewey migrate` and `dewey demo`."""

import click

from admin.cli.output import Command, local_admin
from admin.operations.registry import execute
from engine.migrations import migrate as apply_migrations


@click.command(cls=Command)
def migrate() -> None:
    """Bring the database schema up to date."""
    for name in apply_migrations():
        click.echo(f"applied {name}")
    click.echo("The schema is up to date.")


@click.command(cls=Command)
def demo() -> None:
    """Load the sample library into an empty database that Dewey created."""
    for name, count in execute(local_admin(), "library.demo").items():
        click.echo(f"{count:>8,} {name}")
