"""Chapters of an EPUB: its documents in reading order, each read once."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from reading.books.archive import Archive
from reading.books.chapters import Part
from reading.books.cover import Cover, picture_type
from reading.books.document_cuts import cut_document
from reading.books.epub_package import Package, Target, read_package
from reading.books.findings import Findings
from reading.books.html_text import DocumentReader
from reading.books.limits import MAX_COVER, MAX_DOCUMENT
from reading.books.markup import to_utf8

#: Above this number of documents a page that has only a heading, such as a part's title, joins the next chapter.
MAX_CHAPTERS = 2_000


class EPUB:
    format = "epub"
    encoding = "utf-8"

    def __init__(self, path: Path, archive: Archive, findings: Findings) -> None:
        """Read the package. `archive`: the same file, open."""
        self.path, self.findings = path, findings
        self.raw_letters = 0
        self.package: Package = read_package(archive, findings)
        self.title, self.author = self.package.title, self.package.author
        self.declared_language = self.package.language

    def parts(self) -> Iterator[Part]:
        """Yield the chapters. Only one document is in memory."""
        targets = defaultdict[str, list[Target]](list)
        for target in self.package.contents:
            targets[target.document].append(target)
        joins = len(self.package.documents) > MAX_CHAPTERS
        before: list[str] = []
        reader = DocumentReader(self.findings)
        with Archive(self.path) as archive:
            for name in self.package.documents:
                parts = self.read(archive, reader, name, targets[name])
                if joins and len(parts) == 1 and is_title_page(parts[0]):
                    before += parts[0].blocks
                    continue
                for part in parts:
                    part.blocks[:0] = before
                    before = []
                    yield part
        if before:
            yield Part(None, 1, self.package.documents[-1], before)

    def read(self, archive: Archive, reader: DocumentReader, name: str, targets: list[Target]) -> list[Part]:
        data, encoding = to_utf8(archive.read(name, MAX_DOCUMENT), name, self.findings)
        if encoding not in ("utf-8", "ascii"):
            self.encoding = encoding
        anchors = {target.anchor for target in targets if target.anchor}
        text = reader.read(data, name, anchors)
        self.raw_letters += text.raw_letters
        if not text.blocks and not text.notes:
            return []
        parts = cut_document(text, name, targets, bool(self.package.contents))
        for part in parts:
            part.is_service_page |= name in self.package.aside or part.has_service_title() or not part.blocks
        return parts

    def cover(self) -> Cover | None:
        """Return the picture that the package names as cover."""
        if not self.package.cover:
            return None
        with Archive(self.path) as archive:
            data = archive.read(self.package.cover, MAX_COVER)
        media_type = picture_type(data)
        return Cover(data, media_type) if media_type else None


def is_title_page(part: Part) -> bool:
    return len(part.blocks) == 1 and not part.notes and part.blocks[0].replace("\n", " ") == part.title
