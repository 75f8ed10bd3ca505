"""The bytes of a FictionBook as a stream of UTF-8 that splits no tag and carries no pictures."""

import base64
import binascii
import codecs
import re
from collections.abc import Iterable, Iterator

from reading.books.limits import MAX_COVER, MB

#: Bytes of a tag or a reference that is waited for.
LONGEST_TAG = 1 * MB
LONGEST_REFERENCE = 64
BINARY = re.compile(rb"<binary\b[^<>]*+>", re.IGNORECASE)
#: A picture ends at its end tag, else before any other tag.
BINARY_END = re.compile(rb"</binary\s*>|(?=<)", re.IGNORECASE)
IDENTIFIER = re.compile(rb"""\bid\s*=\s*["']([^"']*)["']""")
NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")


class Recoder:
    """Decode chunks and encode them in UTF-8. Undecodable bytes become U+FFFD and are counted."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.broken = 0

    def recode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        beginning = True
        for chunk in chunks:
            text = decoder.decode(chunk)
            self.broken += max(0, text.count("\ufffd") - chunk.count("\ufffd".encode()))
            if beginning and text:
                text, beginning = text.removeprefix("\ufeff"), False
            yield text.encode("utf-8", "replace")
        yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def whole_tags(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in chunks that end neither inside a tag nor inside a reference."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        end = tag_end(data)
        if len(data) - end > LONGEST_TAG:
            end = len(data)
        rest = data[end:]
        yield data[:end]
    yield rest


def tag_end(data: bytes) -> int:
    after = data.rfind(b">") + 1
    opened = data.find(b"<", after)
    if opened >= 0:
        return opened
    reference = data.rfind(b"&", max(after, len(data) - LONGEST_REFERENCE))
    return len(data) if reference < 0 else reference


def without_binaries(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Leave out the content of `binary` elements. They are most of a file."""
    inside = False
    for chunk in chunks:
        kept, at = list[bytes](), 0
        while at < len(chunk):
            match = (BINARY_END if inside else BINARY).search(chunk, at)
            if not inside:
                kept.append(chunk[at : match.start() if match else None])
            if not match:
                break
            at = match.end()
            inside = not inside and not match[0].endswith(b"/>")
        yield b"".join(kept)


def find_binary(chunks: Iterable[bytes], identifier: str) -> bytes | None:
    """Return the picture with this id. None if it is missing, too big or no base64."""
    collected: list[bytes] | None = None
    length = 0
    for chunk in chunks:
        if collected is None:
            match = next((match for match in BINARY.finditer(chunk) if has_id(match[0], identifier)), None)
            if not match:
                continue
            collected, chunk = [], chunk[match.end() :]
        end = chunk.find(b"<")
        collected.append(chunk[: end if end >= 0 else None])
        length += len(collected[-1])
        if length > MAX_COVER * 4 // 3:
            return None
        if end >= 0:
            return decode_base64(b"".join(collected))
    return None


def has_id(tag: bytes, identifier: str) -> bool:
    match = IDENTIFIER.search(tag)
    return match is not None and match[1] == identifier.encode()


def decode_base64(data: bytes) -> bytes | None:
    try:
        return base64.b64decode(NO_BASE64.sub(b"", data))
    except binascii.Error:
        return None
