"""The text of an XHTML or HTML document, with its headings, anchors and footnotes."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar

from lxml import etree

from reading.books.blocks import CELL, LEFT_OUT, LINE, PARAGRAPH, UNREAD, BlockTarget, tidy
from reading.books.counting import count_letters
from reading.books.errors import BookError
from reading.books.findings import Findings
from reading.books.markup import Cleaner, count_raw_letters, strip_tags

PARAGRAPHS = """address article aside blockquote body caption center details dialog dir div dl fieldset figcaption
    figure footer form header hgroup hr html legend main menu nav ol optgroup p pre section summary table ul"""
#: Ruby readings, notes to a formula, and what stands in for media.
LEFT_OUT_NAMES = "annotation annotation-xml audio canvas datalist desc iframe metadata rp rt rtc template video"

EPUB_TYPE = ("{http://www.idpf.org/2007/ops}type", "epub:type")
NOTES = {"footnote", "footnotes", "endnote", "endnotes", "rearnote", "rearnotes"}
MARKERS = {"noteref", "doc-noteref"}
#: Parts of a book that are no reading matter.
SERVICE_TYPES = {
    "toc",
    "landmarks",
    "loi",
    "lot",
    "cover",
    "titlepage",
    "copyright-page",
    "colophon",
    "imprint",
    "index",
}

PARSERS = {
    "xml": lambda target: etree.XMLParser(
        target=target, encoding="utf-8", huge_tree=True, resolve_entities=False, no_network=True, load_dtd=False
    ),
    "html": lambda target: etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True, no_network=True),
}
FED = 1 << 18
#: Share of a document's letters that a parser must deliver, else the next one is tried.
ENOUGH = 0.98


@dataclass
class DocumentText:
    """The text of a document. Positions are indexes into `blocks`."""

    blocks: list[str] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    headings: list[tuple[int, int, str]] = field(default_factory=list)  # position, level, text
    anchors: dict[str, int] = field(default_factory=dict)
    service_end: int = 0  # the blocks before it are a contents or copyright page
    raw_letters: int = 0

    def letters(self) -> int:
        return count_letters("".join(self.blocks)) + sum(count_letters(text) for _, text in self.notes)


class HTMLTarget(BlockTarget):
    KINDS: ClassVar[dict[str, int]] = {
        **dict.fromkeys(PARAGRAPHS.split(), PARAGRAPH),
        **dict.fromkeys(("br", "dd", "dt", "li", "option", "tr"), LINE),
        **dict.fromkeys(("td", "th"), CELL),
        **{f"h{level}": level for level in range(1, 7)},
        **dict.fromkeys(LEFT_OUT_NAMES.split(), LEFT_OUT),
        **dict.fromkeys(("head", "script", "style", "title"), UNREAD),
    }

    def __init__(self, anchors: Collection[str], with_hidden: bool = False) -> None:
        super().__init__()
        self.wanted, self.with_hidden = anchors, with_hidden
        self.text = DocumentText(self.blocks)
        self.note_at = 0  # depth of the element that is a footnote
        self.service_at = 0
        self.heading_start = 0

    def opened(self, tag: str, kind: int, attributes: dict[str, str]) -> None:
        if 0 < kind < PARAGRAPH:
            self.heading_start = len(self.blocks)
        if attributes:
            self.read_attributes(attributes)

    def read_attributes(self, attributes: dict[str, str]) -> None:
        anchor = attributes.get("id") or attributes.get("name")
        if anchor in self.wanted:
            self.text.anchors.setdefault(str(anchor), len(self.blocks))
        types = attributes.get(EPUB_TYPE[0]) or attributes.get(EPUB_TYPE[1])
        names = {*(types or "").split(), *attributes.get("role", "").replace("doc-", "").split()}
        if names & NOTES:
            self.begin_note()
        elif names & MARKERS or (is_hidden(attributes) and not self.with_hidden and not self.note_at):
            self.leave_out(counted=True)
        elif names & SERVICE_TYPES and not self.blocks and not self.service_at:
            self.service_at = len(self.stack)

    def begin_note(self) -> None:
        if not self.note_at:
            self.flush()
            self.note_at = len(self.stack)

    def closed(self, tag: str, kind: int) -> None:
        depth = len(self.stack)
        if self.note_at and depth < self.note_at:
            self.flush()
            self.note_at = 0
        elif 0 < kind < PARAGRAPH and not self.note_at:
            title = " ".join(" ".join(self.blocks[self.heading_start :]).split())
            if title:
                self.text.headings.append((self.heading_start, kind, title))
        if self.service_at and depth < self.service_at:
            self.flush()
            self.service_at, self.text.service_end = 0, len(self.blocks)

    def add_block(self, text: str) -> None:
        if self.note_at:
            self.text.notes.append((len(self.blocks), text))
        else:
            self.blocks.append(text)


def is_hidden(attributes: dict[str, str]) -> bool:
    if attributes.get("hidden", "until-found") != "until-found":
        return True
    style = attributes.get("style")
    return style is not None and "display:none" in style.replace(" ", "").lower()


def read_document(data: bytes, place: str, anchors: Collection[str], findings: Findings) -> DocumentText:
    """Return the text of a document in UTF-8: as XML, else as HTML, else without its tags."""
    data = Cleaner(place, findings).clean_beginning(data)
    raw = count_raw_letters(data)
    best, most = DocumentText(), -1
    too_deep: BookError | None = None
    for name in PARSERS:
        try:
            text = parse(data, name, anchors)
        except BookError as error:  # elements without an end look nested to the XML parser
            too_deep = BookError(error.code, f"{place}: {error.detail}")
            continue
        letters = text.letters() if text else -1
        if text and letters > most:
            best, most = text, letters
            best.raw_letters = raw - text.raw_letters
        if text and letters >= ENOUGH * best.raw_letters:
            return best
    if too_deep and most < 0:
        raise too_deep
    if most < ENOUGH * best.raw_letters:
        findings.add("no_structure", f"{place} could not be parsed. Its text was kept without structure.")
        best = DocumentText(plain_blocks(data), raw_letters=raw)
    return best


def parse(data: bytes, name: str, anchors: Collection[str]) -> DocumentText | None:
    """Return the text, with the letters that were left out as `raw_letters`. None if the parser gives up."""
    target = HTMLTarget(anchors)
    if not feed(data, name, target):
        return None
    if target.left_out and not target.text.letters():  # a text that is hidden as a whole is the text
        target = HTMLTarget(anchors, with_hidden=True)
        feed(data, name, target)
    target.text.raw_letters = target.left_out
    return target.text


def feed(data: bytes, name: str, target: HTMLTarget) -> bool:
    """Return false if the parser gives up."""
    parser = PARSERS[name](target)
    try:
        for start in range(0, len(data), FED):
            parser.feed(data[start : start + FED])
        parser.close()
    except etree.ParseError:
        return False
    return True


def plain_blocks(data: bytes) -> list[str]:
    text = strip_tags(data).decode("utf-8", "replace")
    for escaped, plain in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")):
        text = text.replace(escaped, plain)
    return [line for line in map(tidy, text.split("\n")) if line]
