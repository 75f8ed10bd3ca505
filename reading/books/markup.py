"""Markup before it is parsed: UTF-8, no DOCTYPE, no entities, no control characters. The parser expands nothing."""

import re
from codecs import BOM_UTF8 as BYTE_ORDER_MARK
from collections.abc import Iterator
from html.entities import html5

from reading.books.counting import count_letters_of_bytes
from reading.books.encodings import declared_encoding, markup_encoding, text_sample, wide_encoding
from reading.books.errors import BookError
from reading.books.findings import Findings
from reading.books.limits import MAX_EXPANSION

#: Bytes that XML forbids. A form feed is a space.
FORBIDDEN = bytes(set(range(32)) - set(b"\t\n\r\f")) + b"\x7f"
FORM_FEED = bytes.maketrans(b"\f", b" ")
NON_CHARACTERS = ("\ufffe".encode(), "\uffff".encode())

XML_DECLARATION = re.compile(rb"<\?xml[^>]*\?>")
DOCTYPE = re.compile(
    rb"""<!DOCTYPE(?:[^\[>"']|"[^"]*+"|'[^']*+')*+(?:\[((?:[^\]"']|"[^"]*+"|'[^']*+')*+)\]\s*)?>""", re.IGNORECASE
)
#: The DOCTYPE begins within these bytes.
PROLOGUE = 4096
ENTITY = re.compile(
    rb"""<!ENTITY\s+([A-Za-z_][\w.-]*)\s+(?:(?:SYSTEM|PUBLIC)\b[^<>]*+|"([^"]*+)"|'([^']*+)')\s*>""", re.IGNORECASE
)
#: Every reference but the five of XML, and each `&` that begins none.
REFERENCE = re.compile(
    rb"&(?!(?:lt|gt|amp|quot|apos);)(?:#([0-9]{1,7});|#[xX]([0-9a-fA-F]{1,6});|([A-Za-z_][\w.-]{0,60});)?"
)
OWN_REFERENCE = re.compile(r"&([A-Za-z_][\w.-]*);")
ESCAPES = ((b"&", b"&amp;"), (b"<", b"&lt;"), (b">", b"&gt;"))

TAG = re.compile(rb"<[^<>]*+>")
UNREAD = re.compile(rb"<(head|script|style|title)(?=[\s/>])[^<>]*+>", re.IGNORECASE)
COMMENT = (b"<!--", b"-->")
CHARACTER_DATA = (b"<![CDATA[", b"]]>")
XML_REFERENCES = (b"&amp;", b"&lt;", b"&gt;", b"&quot;", b"&apos;")


def to_utf8(data: bytes, place: str, findings: Findings) -> tuple[bytes, str]:
    """Return the document in UTF-8 without a mark, and the encoding it had."""
    head = data[:PROLOGUE]
    if is_plain_utf8(data) and not wide_encoding(head):
        contradicts = declared_encoding(head) not in (None, "utf-8", "ascii") and not data.isascii()
        report_encoding("utf-8", contradicts, 0, place, findings)
        return data.removeprefix(BYTE_ORDER_MARK), "utf-8"
    encoding, contradicts = markup_encoding(head, text_sample(data))
    text = data.decode(encoding, "replace").removeprefix("\ufeff")
    report_encoding(encoding, contradicts, text.count("\ufffd") - data.count("\ufffd".encode()), place, findings)
    return text.encode("utf-8", "replace"), encoding


def is_plain_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def report_encoding(encoding: str, contradicts: bool, broken: int, place: str, findings: Findings) -> None:
    if contradicts:
        findings.add("wrong_encoding", f"{place} is not in its declared encoding. It was read as {encoding}.")
    if broken > 0:
        findings.add("undecodable", f"{place} has {broken} bytes that are not {encoding}.")


class Cleaner:
    """Clean the parts of one document. Entities of its DOCTYPE are kept from part to part."""

    def __init__(self, place: str, findings: Findings) -> None:
        self.place, self.findings = place, findings
        self.entities: dict[str, str | None] = {}  # None: external
        self.expanded = 0

    def clean(self, data: bytes) -> bytes:
        """Return markup that means the same to a parser without a DTD."""
        data = data.translate(FORM_FEED, FORBIDDEN)
        for character in NON_CHARACTERS:
            data = data.replace(character, b"")
        data = escape_character_data(data)
        return REFERENCE.sub(self.resolve, data) if b"&" in data else data

    def clean_beginning(self, data: bytes) -> bytes:
        """Like `clean`, for the first part: also take the XML declaration and the DOCTYPE away."""
        data = data.lstrip()
        declaration = XML_DECLARATION.search(data, 0, PROLOGUE)
        if declaration:
            data = data[: declaration.start()] + data[declaration.end() :]
        start = data[:PROLOGUE].lower().find(b"<!doctype")
        doctype = DOCTYPE.match(data, start) if start >= 0 else None
        if doctype:
            self.declare(doctype[1] or b"")
            data = data[:start] + data[doctype.end() :]
        return self.clean(data)

    def declare(self, subset: bytes) -> None:
        for match in ENTITY.finditer(subset):
            value = match[2] if match[2] is not None else match[3]
            name = match[1].decode()
            self.entities.setdefault(name, None if value is None else value.decode("utf-8", "replace"))

    def resolve(self, match: re.Match[bytes]) -> bytes:
        if match[1] or match[2]:
            return escape(character(int(match[1] or match[2], 10 if match[1] else 16)))
        return self.resolve_name(match[3].decode("ascii", "replace")) if match[3] else b"&amp;"

    def resolve_name(self, name: str) -> bytes:
        if name in self.entities:
            return escape(self.expand(name))
        text = html5.get(f"{name};")
        if text is not None:
            return escape(text)
        self.findings.add("unknown_entity", f"{self.place} uses the undefined entity &{name};. Its name was kept.")
        return f"&amp;{name};".encode()

    def expand(self, name: str) -> str:
        """Return the text of an own entity. Raises BookError if entities in entities multiply."""
        value = self.entities[name]
        if value is None:
            self.findings.add("external_entity", f"{self.place} refers to the outside with &{name};. It was left out.")
            return ""
        if any(other in self.entities for other in OWN_REFERENCE.findall(value)):
            raise BookError("entity_bomb", f"{self.place}: the entity &{name}; is made of other entities.")
        self.expanded += len(value)
        if self.expanded > MAX_EXPANSION:
            raise BookError("entity_bomb", f"{self.place}: entities add more than {MAX_EXPANSION} characters.")
        return TAG.sub(b"", value.encode()).decode()


def character(number: int) -> str:
    """Return the character. Nothing for one that XML forbids."""
    forbidden = number < 32 and number not in (9, 10, 13)
    if forbidden or number > 0x10FFFF or 0xD800 <= number < 0xE000 or number in (0xFFFE, 0xFFFF):
        return ""
    return chr(number)


def escape(text: str) -> bytes:
    data = text.encode()
    for plain, escaped in ESCAPES:
        data = data.replace(plain, escaped)
    return data


def escape_character_data(data: bytes) -> bytes:
    """Turn CDATA sections into text."""
    if CHARACTER_DATA[0] not in data:
        return data
    parts, end = [], 0
    for start, stop in spans(data, *CHARACTER_DATA):
        inner = data[start + len(CHARACTER_DATA[0]) : stop - len(CHARACTER_DATA[1])]
        parts += [data[end:start], escape(inner.decode("utf-8", "replace"))]
        end = stop
    return b"".join([*parts, data[end:]])


def spans(data: bytes, opening: bytes, closing: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of each pair. An opening without an end begins none."""
    start = data.find(opening)
    while start >= 0:
        end = data.find(closing, start + len(opening))
        if end < 0:
            return
        yield start, end + len(closing)
        start = data.find(opening, end)


def strip_tags(data: bytes) -> bytes:
    """Return the text of cleaned markup by a linear scan, without a parser: no tags, comments, head and scripts."""
    data = cut(data, list(spans(data, *COMMENT)))
    return TAG.sub(b"\n", cut(data, list(unread_spans(data))))


def cut(data: bytes, pieces: list[tuple[int, int]]) -> bytes:
    if not pieces:
        return data
    starts = [0, *(end for _, end in pieces)]
    ends = [*(start for start, _ in pieces), len(data)]
    return b"".join(data[start:end] for start, end in zip(starts, ends, strict=True))


def unread_spans(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the elements whose text is not the book's. One that is never closed is none."""
    end, unclosed = 0, set[bytes]()
    for match in UNREAD.finditer(data):
        name = match[1].lower()
        if match.start() < end or name in unclosed or match[0].endswith(b"/>"):
            continue
        closing = re.compile(rb"</" + name + rb"\s*>", re.IGNORECASE).search(data, match.end())
        if closing:
            end = closing.end()
            yield match.start(), end
        else:
            unclosed.add(name)


def count_raw_letters(data: bytes) -> int:
    """Count the letters of cleaned HTML outside tags, independently of the parser."""
    return count_letters_of_text(strip_tags(data))


def count_raw_letters_of_xml(data: bytes) -> int:
    """Count the letters of cleaned XML whose elements all have text of the book."""
    return count_letters_of_text(TAG.sub(b"\n", cut(data, list(spans(data, *COMMENT)))))


def count_letters_of_text(text: bytes) -> int:
    if b"&" in text:
        for reference in XML_REFERENCES:
            text = text.replace(reference, b"")
    return count_letters_of_bytes(text)
