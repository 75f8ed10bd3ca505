"""Chapters of a FictionBook, read as a stream: a section at a time, never the whole tree."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from lxml import etree

from reading.books.archive import READ, Archive
from reading.books.chapters import Part
from reading.books.cover import Cover, picture_type
from reading.books.encodings import markup_encoding, text_sample
from reading.books.errors import BookError
from reading.books.fb2_stream import Recoder, find_binary, whole_tags, without_binaries
from reading.books.fb2_text import FictionTarget
from reading.books.findings import Findings
from reading.books.html_text import PARSERS
from reading.books.limits import MAX_UNPACKED, MB
from reading.books.markup import PROLOGUE, Cleaner, count_raw_letters_of_xml, report_encoding
from reading.books.xml_events import Handler, read_events

BODY = re.compile(rb"<body[\s>]")
#: The description of a book ends within these bytes.
LONGEST_DESCRIPTION = 1 * MB
#: Put before the names of a file that is not well-formed, so that the HTML parser gives them no meaning of its own.
PREFIX = "fb-"
NAME = re.compile(rb"<(/?)(?=[A-Za-z])")
EMPTY = re.compile(rb"<([A-Za-z][\w:-]*+)([^<>]*)/>")


class FictionBook:
    def __init__(self, path: Path, entry: str | None, findings: Findings) -> None:
        """Open a file, or an entry of a zip file."""
        self.path, self.entry, self.findings = path, entry, findings
        self.format = "fb2.zip" if entry else "fb2"
        self.raw_letters = 0
        self.in_body = False
        self.place = entry or "the file"
        with self.chunks() as chunks:
            first = next(chunks, b"")
        self.encoding, self.contradicts = markup_encoding(first[:PROLOGUE], text_sample(first))
        description = self.read_description()
        self.title, self.author = description.title, description.author()
        self.declared_language = description.language
        self.cover_id = description.cover_id

    @contextmanager
    def chunks(self) -> Iterator[Iterator[bytes]]:
        """Give the bytes of the file."""
        if self.entry:
            with Archive(self.path) as archive:
                yield archive.chunks(self.entry, MAX_UNPACKED)
        else:
            with self.path.open("rb") as file:
                yield iter(lambda: file.read(READ), b"")

    def read_description(self) -> "DescriptionHandler":
        data = b""
        with self.chunks() as chunks:
            for chunk in Recoder(self.encoding).recode(chunks):
                data += chunk
                if b"</description" in chunk or len(data) > LONGEST_DESCRIPTION:
                    break
        handler = DescriptionHandler()
        read_events(data.partition(b"<body")[0], self.place, handler, Findings())
        return handler

    def parts(self) -> Iterator[Part]:
        """Yield the chapters, that of the notes last. Raises BookError if elements are nested too deep."""
        prefix = PREFIX if self.fault else ""
        if self.fault:
            self.findings.add(
                "not_well_formed", f"{self.place} is not well-formed XML ({self.fault}). It was read all the same."
            )
        target = FictionTarget(prefix)
        parser = PARSERS["html" if prefix else "xml"](target)
        recoder = Recoder(self.encoding)
        self.in_body = False
        try:
            for data in self.cleaned(recoder, self.findings):
                self.raw_letters += self.count_raw(data)
                parser.feed(name_with_prefix(data) if prefix else data)
                yield from target.take_finished()
            parser.close()
        except BookError as error:
            raise BookError(error.code, f"{self.place}: {error.detail}") from None
        self.raw_letters -= target.left_out
        report_encoding(self.encoding, self.contradicts, recoder.broken, self.place, self.findings)
        yield from target.take_finished()

    @cached_property
    def fault(self) -> str | None:
        """The first error of the XML. None for a well-formed file."""
        parser = PARSERS["xml"](Nothing())
        try:
            for data in self.cleaned(Recoder(self.encoding), Findings()):
                parser.feed(data)
            parser.close()
        except etree.ParseError as error:
            return str(error)
        return None

    def cleaned(self, recoder: Recoder, findings: Findings) -> Iterator[bytes]:
        cleaner = Cleaner(self.place, findings)
        clean = cleaner.clean_beginning
        with self.chunks() as chunks:
            for data in without_binaries(whole_tags(recoder.recode(chunks))):
                if data:
                    yield clean(data)
                    clean = cleaner.clean

    def count_raw(self, data: bytes) -> int:
        """Count the letters of the bodies. The description comes before them."""
        if not self.in_body:
            body = BODY.search(data)
            if not body:
                return 0
            self.in_body, data = True, data[body.start() :]
        return count_raw_letters_of_xml(data)

    def cover(self) -> Cover | None:
        if not self.cover_id:
            return None
        with self.chunks() as chunks:
            data = find_binary(whole_tags(Recoder(self.encoding).recode(chunks)), self.cover_id)
        media_type = picture_type(data or b"")
        return Cover(data, media_type) if data and media_type else None


class Nothing:
    """A parser's target that receives nothing, so that the parser only checks."""

    def close(self) -> None: ...


class DescriptionHandler(Handler):
    """Collect title, authors, language and cover of `title-info`."""

    def __init__(self) -> None:
        super().__init__()
        self.title: str | None = None
        self.language: str | None = None
        self.cover_id: str | None = None
        self.authors: list[dict[str, str]] = []
        self.inside: list[str] = []

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        self.inside.append(name)
        self.take_text()
        if "title-info" in self.inside:
            if name == "author":
                self.authors.append({})
            elif name == "image" and "coverpage" in self.inside and not self.cover_id:
                self.cover_id = attributes.get("href", "").lstrip("#")

    def finish(self, name: str) -> None:
        self.inside.pop()
        text = self.take_text()
        if "title-info" not in self.inside or not text:
            return
        if name == "book-title":
            self.title = self.title or text
        elif name == "lang":
            self.language = self.language or text
        elif "author" in self.inside and self.authors:
            self.authors[-1].setdefault(name, text)

    def author(self) -> str | None:
        """Return the authors as people write them: first, middle and last name."""
        names = [
            " ".join(author[part] for part in ("first-name", "middle-name", "last-name") if part in author)
            or author.get("nickname", "")
            for author in self.authors
        ]
        return ", ".join(name for name in names if name) or None


def name_with_prefix(data: bytes) -> bytes:
    """Return markup whose elements mean nothing to an HTML parser. Empty elements get an end."""
    data = EMPTY.sub(rb"<\1\2></\1>", data)
    return NAME.sub(rb"<\1" + PREFIX.encode(), data)
