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
MARKERS = {"noteref"}
NO_NAMES: set[str] = set()
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

    def __init__(self) -> None:
        super().__init__()
        self.begin((), False)

    def begin(self, anchors: Collection[str], with_hidden: bool) -> None:
        """Prepare for a document."""
        self.restart()
        self.wanted, self.with_hidden = anchors, with_hidden
        self.text = DocumentText(self.blocks)
        self.note_at = 0  # depth of the element that is a footnote
        self.service_at = 0
        self.heading_start = 0

    def opened(self, tag: str, kind: int, attributes: dict[str, str]) -> None:
        if 0 < kind < PARAGRAPH:
            self.heading_start = len(self.blocks)
        anchor = attributes.get("id") or attributes.get("name")
        if anchor in self.wanted:
            self.text.anchors.setdefault(str(anchor), len(self.blocks))
        if len(attributes) > 1 or "class" not in attributes:
            self.read_meaning(attributes)

    def read_meaning(self, attributes: dict[str, str]) -> None:
        """Begin a footnote or a service page, and leave out markers and what is hidden."""
        types = attributes.get(EPUB_TYPE[0]) or attributes.get(EPUB_TYPE[1]) or ""
        role = attributes.get("role")
        names = {*types.split(), *(role.replace("doc-", "").split() if role else ())} if types or role else NO_NAMES
        if names & NOTES:
            self.begin_note()
        elif names & MARKERS or (is_hidden(attributes) and not self.with_hidden and not self.note_at):
            self.leave_out(counted=True)
        elif names & SERVICE_TYPES and not self.blocks and not self.service_at:
            self.service_at = len(self.stack)
            self.watches = True

    def begin_note(self) -> None:
        if not self.note_at:
            self.flush()
            self.note_at = len(self.stack)
            self.watches = True

    def closed(self, kind: int) -> None:
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
        self.watches = bool(self.note_at or self.service_at)

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


class DocumentReader:
    """Read documents one after the other. The parsers are used again, since their construction takes time."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.targets = {name: HTMLTarget() for name in PARSERS}
        self.parsers = {name: PARSERS[name](target) for name, target in self.targets.items()}

    def read(self, data: bytes, place: str, anchors: Collection[str]) -> DocumentText:
        """Return the text of a document in UTF-8: as XML, else as HTML, else without its tags."""
        data = Cleaner(place, self.findings).clean_beginning(data)
        raw = count_raw_letters(data)
        best, most = DocumentText(), -1
        too_deep: BookError | None = None
        for name in PARSERS:
            try:
                text = self.parse(data, name, anchors)
            except BookError as error:  # elements without an end look nested to the XML parser
                too_deep = BookError(error.code, f"{place}: {error.detail}")
                continue
            letters = text.letters() if text else -1
            if text and letters > most:
                best, most = text, letters
                best.raw_letters = raw - self.targets[name].left_out
            if text and letters >= ENOUGH * best.raw_letters:
                return best
        if too_deep and most < 0:
            raise too_deep
        if most < ENOUGH * best.raw_letters:
            self.findings.add("no_structure", f"{place} could not be parsed. Its text was kept without structure.")
            best = DocumentText(plain_blocks(data), raw_letters=raw)
        return best

    def parse(self, data: bytes, name: str, anchors: Collection[str]) -> DocumentText | None:
        """Return the text, None if the parser gives up. A text that is hidden as a whole is the text."""
        target = self.targets[name]
        for with_hidden in (False, True):
            target.begin(anchors, with_hidden)
            if not feed(self.parsers[name], data):
                return None
            if not target.left_out or target.text.letters():
                break
        return target.text


def feed(parser: etree.XMLParser, data: bytes) -> bool:
    """Return false if the parser gives up."""
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
