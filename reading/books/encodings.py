"""The encoding of text and of markup: byte-order mark, declaration, trial, detector."""

import codecs
import re

from charset_normalizer import from_bytes

SAMPLE = 64 * 1024

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
DECLARATION = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})["']""")
HTML_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)

#: Codecs that a declaration may name. Others, such as punycode, are no encodings of books.
USUAL = re.compile(r"ascii|utf|cp\d|iso8859|koi8|mac|gb|big5|euc|shift_jis|hz|johab")
#: A declaration that contradicts its own bytes: single bytes cannot spell `<?xml`.
WIDE = re.compile(r"utf-(16|32)")

#: Punctuation of Mac Roman. The same bytes in Windows-1252 are capitals with accents.
MAC_PUNCTUATION = frozenset(b"\xc9\xca\xd0\xd1\xd2\xd3\xd4\xd5")
HIGH = re.compile(rb"[\x80-\xff]")
ASCII = bytes(range(128))

#: Share of characters beyond ASCII that may be broken in text that is UTF-8 all the same.
MOSTLY = 0.1


def text_encoding(head: bytes, sample: bytes) -> str:
    """Return the codec of plain text that begins with `head`. `sample` has characters beyond ASCII, if any."""
    return marked_encoding(head) or wide_encoding(head) or utf8_or_single_byte(sample)


def markup_encoding(head: bytes, sample: bytes) -> tuple[str, bool]:
    """Return the codec of XML or HTML that begins with `head`, and true if its declaration is wrong."""
    marked = marked_encoding(head) or wide_encoding(head)
    if marked:
        return marked, False
    declared = declared_encoding(head)
    if not sample.translate(None, ASCII):  # nothing in the sample depends on it
        return declared or "utf-8", False
    if is_utf8(sample, MOSTLY):
        return "utf-8", declared not in (None, "utf-8", "ascii")
    if declared and not declared.startswith("utf") and declared != "ascii":
        return declared, False
    return utf8_or_single_byte(sample), declared is not None


def marked_encoding(sample: bytes) -> str | None:
    return next((name for mark, name in BYTE_ORDER_MARKS if sample.startswith(mark)), None)


def wide_encoding(sample: bytes) -> str | None:
    """Return the codec of UTF-16 without a byte-order mark: each second byte is that of Latin or Cyrillic."""
    even, odd = (sample[start : len(sample) & ~1 : 2] for start in (0, 1))
    if not odd:
        return None
    even_share, odd_share = ((part.count(0) + part.count(4)) / len(part) for part in (even, odd))
    if odd_share > 0.8 and even_share < 0.4:
        return "utf-16-le"
    return "utf-16-be" if even_share > 0.8 and odd_share < 0.4 else None


def declared_encoding(sample: bytes) -> str | None:
    match = DECLARATION.search(sample, 0, 1024) or HTML_CHARSET.search(sample, 0, 4096)
    name = codec_name(match[1].decode("ascii", "replace")) if match else None
    return None if name and WIDE.match(name) else name


def codec_name(name: str) -> str | None:
    """Return Python's name of a usual encoding. None for an unknown one."""
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        return None
    return codec if USUAL.match(codec) else None


def utf8_or_single_byte(sample: bytes) -> str:
    if is_utf8(sample, MOSTLY):
        return "utf-8"
    high = set(sample.translate(None, ASCII))
    if high <= MAC_PUNCTUATION:
        return "mac-roman"
    best = from_bytes(sample).best()
    return codec_name(best.encoding) or "cp1252" if best else "cp1252"


def is_utf8(sample: bytes, broken_share: float) -> bool:
    """Return true if at most this share of the characters beyond ASCII is broken. The sample may end in one."""
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(sample)
    broken = text.count("\ufffd") - sample.count("\ufffd".encode())
    beyond = len(text.encode("utf-8", "replace").translate(None, ASCII + bytes(range(0x80, 0xC0))))
    return broken <= broken_share * beyond


def text_sample(data: bytes) -> bytes:
    """Return a sample that begins just before the first byte beyond ASCII, or the beginning."""
    match = HIGH.search(data)
    if not match:
        return data[:SAMPLE]
    start = max(0, match.start() - 200) & ~1
    return data[start : start + SAMPLE]
