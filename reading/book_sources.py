"""Sources of a book: its stored file, the reading app's chapters, or the file that the app names."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol
from uuid import UUID

from models import BookFile
from reading.app_library import AppBook, AppLibrary
from reading.books.book import Chapter, read_book
from reading.books.counting import count_words, reading_minutes
from reading.books.errors import BookError
from reading.books.findings import Warning
from reading.books.language import declared_language, detect_language
from reading.files import FileStore


class BookDeleted(Exception):
    """The book was deleted while it was processed, or never existed."""


class Source(Protocol):
    """The chapters of a book. They can be read more than once."""

    @property
    def format(self) -> str | None: ...
    @property
    def encoding(self) -> str | None: ...
    @property
    def language(self) -> str | None: ...
    @property
    def title(self) -> str | None: ...
    @property
    def author(self) -> str | None: ...
    @property
    def kept_share(self) -> float | None: ...
    @property
    def warnings(self) -> list[Warning]: ...
    def chapters(self) -> Iterator[Chapter]: ...


class AppChapters:
    """The chapters that the reading app has stored. Its file is not opened."""

    format = encoding = None
    kept_share = 1.0

    def __init__(self, library: AppLibrary, book_id: UUID, book: AppBook, words_per_minute: Mapping[str, int]) -> None:
        self.library, self.book_id = library, book_id
        self.title, self.author = book.title, book.author
        self.words_per_minute = words_per_minute
        self.warnings: list[Warning] = []
        self.language = declared_language(book.language) or self.detected_language()

    def detected_language(self) -> str | None:
        first = next(self.library.read_chapters(self.book_id), None)
        return detect_language(first.content) if first else None

    def chapters(self) -> Iterator[Chapter]:
        """Yield the chapters in the app's order, numbered from 1. Raises BookError at the end if none has text."""
        has_text = False
        for number, chapter in enumerate(self.library.read_chapters(self.book_id), 1):
            has_text = has_text or bool(chapter.content.strip())
            words = count_words(chapter.content)
            yield Chapter(
                number=number,
                title=chapter.title,
                level=1,
                content=chapter.content,
                words=words,
                minutes=reading_minutes(words, self.language, self.words_per_minute),
                is_service_page=chapter.is_service_page,
                source_ref=f"chapters/{chapter.number}",
            )
        if not has_text:
            raise BookError("empty", "the reading app's chapters of this book have no text.")


def open_source(book: BookFile, files: FileStore, library: AppLibrary, words_per_minute: Mapping[str, int]) -> Source:
    """Raise BookError if the book has no file, or one that cannot be read."""
    if book.sha256:
        return read_file(files.path(book.sha256), words_per_minute)
    app_book = library.find(book.book_id)
    if app_book is None:
        raise BookDeleted(f"book {book.book_id} is not in the reading app's table books")
    if app_book.has_chapters and not book.format:  # else Dewey has shared the chapters that it read from the file
        return AppChapters(library, book.book_id, app_book, words_per_minute)
    if not app_book.file_path:
        raise BookError("missing_file", "the reading app names no file of this book and has no chapters of it.")
    return read_file(Path(app_book.file_path), words_per_minute)


def read_file(path: Path, words_per_minute: Mapping[str, int]) -> Source:
    if not path.is_file():
        raise BookError("missing_file", f"{path} does not exist on this machine.")
    return read_book(path, words_per_minute=words_per_minute)


def adopt_book(book_id: UUID, library: AppLibrary) -> BookFile:
    """Create the record of a book that the reading app has added. Raises BookDeleted if it has no such book."""
    app_book = library.find(book_id)
    if app_book is None:
        raise BookDeleted(f"no book has the id {book_id}")
    path = Path(app_book.file_path or "")
    return BookFile.create(
        book_id=book_id,
        original_name=path.name or app_book.title,
        size_bytes=path.stat().st_size if path.is_file() else 0,
        title=app_book.title,
        author=app_book.author,
        state="queued",
        added_by="reading app",
    )
