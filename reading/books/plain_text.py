"""Chapters of plain text: headings on lines of their own, paragraphs without line breaks."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from reading.books.chapters import Part
from reading.books.counting import count_letters
from reading.books.cover import Cover
from reading.books.encodings import text_encoding, text_sample
from reading.books.findings import Findings
from reading.books.limits import MAX_CHAPTER
from reading.books.text_headings import heading_level, is_bare_heading, is_subtitle

READ = 1 << 18
#: Characters without a line break that are handled as a line.
LONGEST_LINE = 500_000
#: A line of this length continues in the next one.
WRAPPED_LINE = 55
#: Below this share of blank lines each line is a paragraph.
FEW_BLANK = 0.02
#: More headings than these without text between them are a list of contents.
MOST_TOGETHER = 3

CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\u00ad]")
SPACES = re.compile(r"[ \t]{2,}|\t")
NAMED = re.compile(r"^(Title|Author):[ \t]*(\S.*)$", re.MULTILINE)
LONGEST_TITLE = 80


class PlainText:
    format = "txt"
    declared_language: str | None = None

    def __init__(self, path: Path, findings: Findings) -> None:
        self.path, self.findings = path, findings
        self.raw_letters = self.broken = 0
        with path.open("rb") as file:
            head = file.read(READ)
        self.encoding = text_encoding(head[:READ], sample_beyond_ascii(path))
        beginning = next(self.texts(), "")
        self.title, self.author = read_names(beginning)
        lines = beginning.split("\n")
        self.a_line_is_a_paragraph = sum(not line.strip() for line in lines) < FEW_BLANK * len(lines)

    def parts(self) -> Iterator[Part]:
        """Yield the chapters: a heading and the text up to the next one."""
        self.raw_letters = self.broken = 0
        yield from parts_of(self.paragraphs(self.lines()))
        if self.broken > 0:
            self.findings.add("undecodable", f"the file has {self.broken} bytes that are not {self.encoding}.")

    def texts(self) -> Iterator[str]:
        """Yield the decoded file in pieces, with `\\n` as the end of a line."""
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        ends = newline_decoder()
        with self.path.open("rb") as file:
            while data := file.read(READ):
                if self.encoding.startswith("utf-8"):
                    self.broken -= data.count("\ufffd".encode())  # in the file, not made by decoding
                yield self.clean(ends.decode(decoder.decode(data)))
        yield self.clean(ends.decode(decoder.decode(b"", final=True), final=True))

    def clean(self, text: str) -> str:
        self.broken += text.count("\ufffd")
        return CONTROL.sub("", text).replace("\f", "\n")

    def lines(self) -> Iterator[str]:
        rest = ""
        for text in self.texts():
            self.raw_letters += count_letters(text)
            *lines, rest = (rest + text).split("\n")
            yield from lines
            while len(rest) > LONGEST_LINE:
                end = rest.rfind(" ", 0, LONGEST_LINE) + 1 or LONGEST_LINE
                yield rest[:end]
                rest = rest[end:]
        yield rest

    def paragraphs(self, lines: Iterable[str]) -> Iterator[str]:
        """Join the lines of a paragraph. A blank line, or a line that is indented, begins a new one."""
        parts: list[str] = []
        length = 0
        for line in lines:
            text = SPACES.sub(" ", line).strip()
            begins = self.a_line_is_a_paragraph or line[:1] in "\t " or length > MAX_CHAPTER or is_bare_heading(text)
            if begins and parts:
                yield "".join(parts)
                parts, length = [], 0
            if text:
                if parts:
                    parts.append(" " if len(parts[-1]) >= WRAPPED_LINE else "\n")
                parts.append(text)
                length += len(text)
        if parts:
            yield "".join(parts)

    def cover(self) -> Cover | None:
        return None


def newline_decoder() -> io.IncrementalNewlineDecoder:
    """Return a decoder that turns every end of a line into `\\n`."""
    return io.IncrementalNewlineDecoder(None, translate=True)


def sample_beyond_ascii(path: Path) -> bytes:
    """Return the first piece of a file that has bytes beyond ASCII, else nothing."""
    with path.open("rb") as file:
        while data := file.read(READ):
            if not data.isascii():
                return text_sample(data)
    return b""


def read_names(beginning: str) -> tuple[str | None, str | None]:
    """Return title and author: those that are named, else a first line that stands alone."""
    named = {name: value.strip() for name, value in reversed(NAMED.findall(beginning[:READ]))}
    first, _, after = beginning.lstrip().partition("\n")
    alone = 0 < len(first) <= LONGEST_TITLE and not after.split("\n")[0].strip() and not heading_level(first.strip())
    title = named.get("Title") or (first.strip() if alone and first.strip()[-1:] not in ".,;:!?" else None)
    return title, named.get("Author")


class Collector:
    """Build chapters from paragraphs."""

    def __init__(self) -> None:
        self.finished: list[Part] = []
        self.part = Part(None, 1, "line 1")
        self.length = 0
        self.headings: list[tuple[str, int]] = []  # without text since
        self.subtitle: str | None = None
        self.count = 0

    def add(self, paragraph: str) -> None:
        self.count += 1
        level = heading_level(paragraph)
        if level and not self.subtitle:
            self.headings.append((paragraph, level))
        elif self.headings and not self.subtitle and is_bare_heading(self.headings[-1][0]) and is_subtitle(paragraph):
            self.subtitle = paragraph
        else:
            self.begin_chapter()
            if level:
                self.headings.append((paragraph, level))
            else:
                self.append(paragraph)

    def append(self, paragraph: str) -> None:
        if self.length > MAX_CHAPTER:
            self.begin(self.part.title, self.part.level)
        if not self.part.blocks and self.part.title is None and len(paragraph) <= LONGEST_TITLE:
            self.part.title = paragraph.replace("\n", " ")
        self.part.blocks.append(paragraph)
        self.length += len(paragraph)

    def begin_chapter(self) -> None:
        """Begin a chapter with the headings that wait. Many headings together are a list of contents."""
        if not self.headings:
            return
        if len(self.headings) > MOST_TOGETHER:
            self.begin(self.headings[0][0], 1)
            self.part.blocks = [text for text, _ in self.headings[:-1]]
            self.part.is_service_page = True
            self.headings = self.headings[-1:]
        texts = [text for text, _ in self.headings] + ([self.subtitle] if self.subtitle else [])
        title = ". ".join(text.rstrip(".") for text in texts[:-1]) + (". " if texts[1:] else "") + texts[-1]
        self.begin(title, min(level for _, level in self.headings))
        self.part.blocks = texts
        self.headings, self.subtitle = [], None

    def begin(self, title: str | None, level: int) -> None:
        self.finish()
        self.part = Part(title, level, f"paragraph {self.count}")
        self.length = 0

    def finish(self) -> None:
        if self.part.blocks:
            self.part.is_service_page |= self.part.has_service_title()
            self.finished.append(self.part)

    def take_finished(self) -> list[Part]:
        parts, self.finished = self.finished, []
        return parts


def parts_of(paragraphs: Iterable[str]) -> Iterator[Part]:
    collector = Collector()
    for paragraph in paragraphs:
        collector.add(paragraph)
        yield from collector.take_finished()
    collector.begin_chapter()
    collector.finish()
    yield from collector.take_finished()
