"""The commands of `dewey` and `flask`. They use the queries and actions of the pages and need no web server."""

from flask import Flask

from admin.cli import alerts, audit, books, bulk, errors, generated, people, schedule, statistics, steering, workers
from admin.cli.database import demo, migrate
from admin.cli.run_task import run_task
from admin.cli.start import start
from admin.cli.status import inspect_group, status
from admin.cli.watch import watch_command
from admin.cli.why import why_command


def register(app: Flask) -> None:
    queries = (status, inspect_group, why_command)
    steer = (
        *steering.COMMANDS,
        *schedule.COMMANDS,
        *errors.COMMANDS,
        *audit.COMMANDS,
        *people.COMMANDS,
        *workers.COMMANDS,
        *alerts.COMMANDS,
        *statistics.COMMANDS,
        books.books,
        bulk.bulk,
    )
    for command in (start, watch_command, migrate, demo, run_task, *queries, *steer):
        app.cli.add_command(command)
    generated.add_commands(app.cli)
