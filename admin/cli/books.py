"""`dewey books`: the commands that need a file. Others are generated."""

from pathlib import Path

import click
from huey.api import Task

import tasks
from admin.cli.output import Group, fail, json_option, local_admin, print_json, print_table
from admin.operations import books as operations
from admin.operations.schemas import to_data
from engine.control.runs import Result, wait_for_result
from engine.database import release_connection
from reading.files import book_files

WAIT_SECONDS = 3600.0


@click.group(cls=Group)
def books() -> None:
    """Add, check, list, show, process and delete books."""


@books.command("add")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False))
@click.option("--wait", is_flag=True, help="Wait until the books are processed. Exit code 1 if one fails.")
@json_option
def add(files: tuple[str, ...], wait: bool, as_json: bool) -> None:
    """Add books and enqueue their processing. A file that is already there is named as a duplicate."""
    added = [add_path(Path(file)) for file in files]
    if wait:
        release_connection()
        added = [book._replace(book=wait_for_end(book)) for book in added]
    if as_json:
        print_json([to_data(book) for book in added])
    else:
        rows = [
            [book.book.id, book.book.title, book.book.state, "yes" if book.duplicate else "", book.run_id]
            for book in added
        ]
        print_table(("id", "title", "state", "duplicate", "run_id"), rows)
    if wait and any(book.book.state == "failed" for book in added):
        fail("a book failed. See `dewey books show ID`.", 1)


def add_path(path: Path) -> operations.AddedBook:
    with book_files.receive() as incoming, path.open("rb") as source:
        incoming.copy(source)
        return operations.add_file(local_admin(), incoming, path.name)


def wait_for_end(added: operations.AddedBook) -> operations.BookRow:
    if added.run_id and added.book.state in ("queued", "processing"):
        wait_for_result(Result(tasks.heavy, Task(id=added.run_id)), WAIT_SECONDS)
    return operations.show_book(added.book.id)
