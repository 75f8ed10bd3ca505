"""`dewey books`: commands that need a file."""

from pathlib import Path
from typing import Any

import click

from admin.cli.output import Group, fail, json_option, print_facts, print_json
from admin.display.book_problems import remedy_of
from reading.books.book import Book, Chapter, read_book
from reading.books.errors import BookError


@click.group(cls=Group)
def books() -> None:
    """Add, check, list, show, process and delete books."""


@books.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--content", "with_content", is_flag=True, help="Print the text of each chapter too.")
@json_option
def check(file: Path, with_content: bool, as_json: bool) -> None:
    """Read a book and store nothing. Exit code 1 if its processing would fail."""
    if not file.is_file():
        fail(f"{file} is not a file. Name an EPUB, FB2 or text file.", 2)
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
