"""`read_book`: a file to a book and its chapters."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reading.books.chapters import PARAGRAPH_BREAK, Part, split_long
from reading.books.counting import WORDS_PER_MINUTE, count_letters, count_words, reading_minutes
from reading.books.cover import Cover
from reading.books.errors import BookError
from reading.books.findings import Findings, Warning
from reading.books.formats import open_source
from reading.books.language import SAMPLE, declared_language, detect_language

#: Changes when the same file would give other chapters.
PARSER_VERSION = 1

#: Share of the letters that must reach a chapter: below the first a warning, below the second an error.
WARN_BELOW, FAIL_BELOW = 0.98, 0.80

#: Titles of chapters without one, by language.
UNTITLED = {"ru": "Без названия"}
TEXT = re.compile(r"[^\W_]")


@dataclass(frozen=True)
class Chapter:
    number: int
    title: str
    level: int
    content: str
    words: int
    minutes: int
    is_service_page: bool
    source_ref: str

    @property
    def characters(self) -> int:
        return len(self.content)


class Book:
    """A book whose chapters are read one at a time. `kept_share` and `warnings` are complete after the last one."""

    def __init__(self, path: Path, words_per_minute: Mapping[str, int]) -> None:
        self.findings = Findings()
        self.source = open_source(path, self.findings)
        self.of_file = self.findings.copy()
        self.words_per_minute = words_per_minute
        self.format, self.title, self.author = self.source.format, self.source.title, self.source.author
        self.language = declared_language(self.source.declared_language) or detect_language(self.sample())
        self.kept_share: float | None = None

    @property
    def encoding(self) -> str:
        return self.source.encoding

    @property
    def warnings(self) -> list[Warning]:
        return self.findings.warnings()

    def chapters(self) -> Iterator[Chapter]:
        """Yield the chapters in reading order. Raises BookError, also after the last chapter if text was lost."""
        self.kept_share = None
        self.findings.replace(self.of_file)
        self.source.raw_letters = kept = number = 0
        has_text = False
        for part in self.source.parts():
            for piece in split_long(part):
                number += 1
                chapter = self.make_chapter(number, piece)
                kept += count_letters(chapter.content)
                has_text = has_text or TEXT.search(chapter.content) is not None
                yield chapter
        self.check(kept, self.source.raw_letters, has_text)

    def make_chapter(self, number: int, part: Part) -> Chapter:
        body = PARAGRAPH_BREAK.join(part.blocks)
        words = count_words(body)
        return Chapter(
            number=number,
            title=part.title or UNTITLED.get(self.language or "", "Untitled"),
            level=part.level,
            content=PARAGRAPH_BREAK.join([*([body] if body else []), *part.notes]),
            words=words,
            minutes=reading_minutes(words, self.language, self.words_per_minute),
            is_service_page=part.is_service_page,
            source_ref=part.source_ref,
        )

    def check(self, kept: int, raw: int, has_text: bool) -> None:
        """Raise BookError if the book has no text or lost too much of it."""
        self.kept_share = min(1.0, kept / raw) if raw else float(has_text)
        lost = f"{self.kept_share:.1%} of the letters of the file reached a chapter ({kept} of {raw})."
        if raw and self.kept_share < FAIL_BELOW:
            raise BookError("incomplete", lost)
        if not has_text:
            raise BookError("empty", "the book has no text.")
        if self.kept_share < WARN_BELOW:
            self.findings.add("lost_text", lost)

    def sample(self) -> str:
        """Return the beginning of the text, for the language."""
        texts, length = list[str](), 0
        for part in self.source.parts():
            texts += part.blocks
            length += part.length()
            if length > SAMPLE:
                break
        return "\n".join(texts)

    def cover(self) -> Cover | None:
        """Return the cover inside the file, if any."""
        return self.source.cover()


def read_book(path: Path, *, words_per_minute: Mapping[str, int] = WORDS_PER_MINUTE) -> Book:
    """Open a book. Raises BookError if the file cannot become one. `words_per_minute`: language code to speed."""
    return Book(path, words_per_minute)
