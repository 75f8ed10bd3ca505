"""The positions in an EPUB document at which chapters begin."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from reading.books.chapters import CHAPTER_LEVELS, Part
from reading.books.epub_package import Target
from reading.books.html_text import DocumentText

#: Characters of a document that is divided at its headings, although the contents do not divide it.
LONG_DOCUMENT = 200_000


@dataclass
class Cut:
    """A position in a document at which a chapter begins."""

    position: int
    title: str | None
    level: int
    anchor: str = ""


def cut_document(text: DocumentText, name: str, targets: list[Target], has_contents: bool) -> list[Part]:
    """Return the chapters of a document. `targets`: the entries of the contents that point into it."""
    cuts = contents_cuts(text, targets)
    if len(cuts) < 2 and (not has_contents or sum(map(len, text.blocks)) > LONG_DOCUMENT):
        cuts = merge_cuts([*cuts, *heading_cuts(text)])
    cuts = with_beginning(text, cuts)
    ends = [*(cut.position for cut in cuts[1:]), None]
    return [make_part(text, name, cut, end) for cut, end in zip(cuts, ends, strict=True)]


def contents_cuts(text: DocumentText, targets: list[Target]) -> list[Cut]:
    """Return the entries as positions. An unknown anchor is the document's beginning. A lone anchor does not cut."""
    if not targets:
        return []
    deepest = max(CHAPTER_LEVELS, min(target.level for target in targets))
    cuts = [
        Cut(text.anchors.get(target.anchor, 0), target.title, target.level, target.anchor)
        for target in targets
        if target.level <= deepest
    ]
    if len({cut.position for cut in cuts}) == 1:
        cuts = [Cut(0, cuts[0].title, cuts[0].level)]
    return merge_cuts(cuts)


def heading_cuts(text: DocumentText) -> list[Cut]:
    """Return the headings of the two highest levels that occur."""
    highest = min((level for _, level, _ in text.headings), default=0)
    levels = range(highest, highest + CHAPTER_LEVELS)
    return [Cut(position, title, level - highest + 1) for position, level, title in text.headings if level in levels]


def merge_cuts(cuts: Iterable[Cut]) -> list[Cut]:
    """Return the cuts in the order of the text. The first of those at one position counts."""
    first: dict[int, Cut] = {}
    for cut in cuts:
        first.setdefault(cut.position, cut)
    return [first[position] for position in sorted(first)]


def with_beginning(text: DocumentText, cuts: list[Cut]) -> list[Cut]:
    """Return cuts that begin at 0. Headings alone before the first entry belong to it, any other text is a chapter."""
    if cuts and cuts[0].position == 0:
        return cuts
    headings = {position for position, _, _ in text.headings}
    if cuts and headings.issuperset(range(cuts[0].position)):
        return [Cut(0, cuts[0].title, cuts[0].level, cuts[0].anchor), *cuts[1:]]
    return [Cut(0, None, 1), *cuts]


def make_part(text: DocumentText, name: str, cut: Cut, end: int | None) -> Part:
    stop = len(text.blocks) if end is None else end
    headings = text.headings[first_at(text.headings, cut.position) : first_at(text.headings, stop)]
    highest = min(headings, key=itemgetter(1), default=(0, 0, None))
    notes = text.notes[first_at(text.notes, cut.position) : None if end is None else first_at(text.notes, end)]
    return Part(
        title=cut.title or highest[2],
        level=cut.level,
        source_ref=f"{name}#{cut.anchor}" if cut.anchor else name,
        blocks=text.blocks[cut.position : stop],
        notes=[note for _, note in notes],
        is_service_page=0 < stop <= text.service_end,
    )


def first_at(entries: Sequence[tuple[Any, ...]], position: int) -> int:
    """Return the index of the first entry at or after a position. Entries are in the order of the text."""
    return bisect_left(entries, position, key=itemgetter(0))
