"""`dewey migrate` and `dewey demo`."""

import click

from admin.cli.output import Command, local_admin, print_lines
from admin.operations.registry import execute
from engine.migrations import migrate as apply_migrations


@click.command(cls=Command)
def migrate() -> None:
    """Bring the database schema up to date."""
    for name in apply_migrations():
        print_lines(f"applied {name}")
    print_lines("The schema is up to date.")


@click.command(cls=Command)
def demo() -> None:
    """Load the sample library into an empty database that Dewey created."""
    for name, count in execute(local_admin(), "library.demo").items():
        print_lines(f"{count:>8,} {name}")
