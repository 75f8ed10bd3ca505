"""`dewey books`: commands that need a file. Others are generated."""

from pathlib import Path
from typing import Any

import click

import tasks
from admin.cli.output import Group, fail, json_option, local_admin, print_facts, print_json, print_table
from admin.display.book_problems import remedy_of
from admin.operations import books as operations
from admin.operations.schemas import to_data
from engine.control.runs import find_result, wait_for_result
from engine.database import release_connection
from reading.books.book import Book, Chapter, read_book
from reading.books.errors import BookError
from reading.files import book_files

WAIT_SECONDS = 3600.0


@click.group(cls=Group)
def books() -> None:
    """Add, check, list, show, process and delete books."""


@books.command("add")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--wait", is_flag=True, help="Wait until the books are processed. Exit code 1 if one fails.")
@json_option
def add(files: tuple[Path, ...], wait: bool, as_json: bool) -> None:
    """Add books and enqueue their processing. A file that is already there is named as a duplicate."""
    for file in files:
        require_file(file)
    added = [add_path(file) for file in files]
    if wait:
        release_connection()
        added = [book._replace(book=wait_for_end(book)) for book in added]
    if as_json:
        print_json([to_data(book) for book in added])
    else:
        rows = [
            [str(book.book.id), book.book.title, book.book.state, "yes" if book.duplicate else "no", book.run_id]
            for book in added
        ]
        print_table(("id", "title", "state", "duplicate", "run_id"), rows)
    failed = [book.book for book in added if book.book.state == "failed"]
    if wait and failed:
        fail("\n".join(map(failure_text, failed)), 1)


def failure_text(book: operations.BookRow) -> str:
    code, detail = book.error or ("", None)
    return f"book {book.id} failed: {detail or code} {remedy_of(code)}".rstrip()


def require_file(path: Path) -> None:
    if not path.is_file():
        fail(f"{path} is not a file. Name an EPUB, FB2 or text file.", 2)


def add_path(path: Path) -> operations.AddedBook:
    with book_files.receive() as incoming, path.open("rb") as source:
        incoming.copy(source)
        return operations.add_file(local_admin(), incoming, path.name)


def wait_for_end(added: operations.AddedBook) -> operations.BookRow:
    if added.run_id and added.book.state in ("queued", "processing"):
        wait_for_result(find_result(tasks.heavy, added.run_id), WAIT_SECONDS)
    return operations.show_book(added.book.id)


@books.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--content", "with_content", is_flag=True, help="Print the text of each chapter too.")
@json_option
def check(file: Path, with_content: bool, as_json: bool) -> None:
    """Read a book and store nothing. Exit code 1 if its processing would fail."""
    require_file(file)
    report = check_file(file, with_content)
    if as_json:
        print_json(report)
    else:
        print_facts(report)
    if report["error"]:
        fail(f"{file.name}: {report['error']['detail']} {remedy_of(report['error']['code'])}", 1)


def check_file(path: Path, with_content: bool) -> dict[str, Any]:
    """Return the book without its text, unless `with_content`. `error` is None for a book that can be processed."""
    book: Book | None = None
    chapters: list[dict[str, Any]] = []
    error = None
    try:
        book = read_book(path)
        for chapter in book.chapters():
            chapters.append(chapter_data(chapter, with_content))
    except BookError as refused:
        error = {"code": refused.code, "detail": refused.detail}
    return {
        "format": book and book.format,
        "encoding": book and book.encoding,
        "language": book and book.language,
        "title": book and book.title,
        "author": book and book.author,
        "chapters": chapters,
        "words": sum(chapter["words"] for chapter in chapters),
        "kept_share": book and book.kept_share,
        "warnings": book.warnings if book else [],
        "error": error,
    }


def chapter_data(chapter: Chapter, with_content: bool) -> dict[str, Any]:
    facts = {
        "number": chapter.number,
        "title": chapter.title,
        "level": chapter.level,
        "characters": chapter.characters,
        "words": chapter.words,
    }
    return {**facts, "content": chapter.content} if with_content else facts
