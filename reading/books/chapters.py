"""The rule that cuts a book into chapters.

A chapter is a document of an EPUB, or an entry of the contents inside it, at most CHAPTER_LEVELS deep. A document that
the contents do not divide is cut at its headings if there are no contents or if it is long. FB2 sections follow the
same depth. No text is lost: text before the first entry is a chapter too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from reading.books.limits import MAX_CHAPTER

#: Levels of the contents that begin chapters. Deeper entries stay inside their chapter.
CHAPTER_LEVELS = 2
PARAGRAPH_BREAK = "\n\n"

#: Titles of pages that are no reading matter. The whole title must match.
SERVICE_TITLES = frozenset(
    """contents; table of contents; the contents; list of illustrations; list of tables; list of figures; copyright;
    copyright page; copyright notice; legal notice; title page; half title; cover; cover page; colophon; imprint; index;
    footnotes; endnotes; landmarks;
    содержание; оглавление; список иллюстраций; список таблиц; авторские права; авторское право; копирайт;
    выходные данные; титульный лист; титул; обложка; колофон; указатель; алфавитный указатель; предметный указатель;
    примечания; сноски; об издании""".replace("\n", " ").replace("    ", " ").split(";")
)  # fmt: skip


@dataclass
class Part:
    """A chapter before it is counted: the blocks of its text and the footnotes at its end."""

    title: str | None
    level: int
    source_ref: str
    blocks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_service_page: bool = False

    def has_service_title(self) -> bool:
        return normal_title(self.title or "") in SERVICE_NAMES

    def length(self) -> int:
        return sum(map(len, self.blocks)) + sum(map(len, self.notes))


def normal_title(title: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", title.lower()).split())


SERVICE_NAMES = frozenset(map(normal_title, SERVICE_TITLES))


def split_long(part: Part) -> Iterator[Part]:
    """Yield the part in pieces of at most MAX_CHAPTER characters. Each ends after a block."""
    if part.length() <= MAX_CHAPTER:
        yield part
        return
    for name in ("blocks", "notes"):
        for blocks in pieces(getattr(part, name)):
            piece = Part(part.title, part.level, part.source_ref, is_service_page=part.is_service_page)
            setattr(piece, name, blocks)
            yield piece


def pieces(blocks: list[str]) -> Iterator[list[str]]:
    taken, length = list[str](), 0
    for block in blocks:
        if taken and length + len(block) > MAX_CHAPTER:
            yield taken
            taken, length = [], 0
        taken.append(block)
        length += len(block)
    if taken:
        yield taken
