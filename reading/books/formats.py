"""The format of a file, judged by its content and never by its name."""

import re
import zipfile
from pathlib import Path

from reading.books.archive import Archive
from reading.books.encodings import marked_encoding, wide_encoding
from reading.books.epub import EPUB
from reading.books.errors import BookError
from reading.books.fb2 import FictionBook
from reading.books.findings import Findings
from reading.books.plain_text import PlainText

HEAD = 64 * 1024
ZIP = b"PK"
#: Formats that are not read, by their first bytes.
UNSUPPORTED = (
    (b"%PDF", "PDF"),
    (b"{\\rtf", "RTF"),
    (b"\xd0\xcf\x11\xe0", "Microsoft Word"),
    (b"AT&TFORM", "DjVu"),
    (b"ITSF", "CHM"),
)
MOBI = (b"BOOKMOBI", b"TEXtREAd")
FICTION_BOOK = re.compile(rb"<FictionBook[\s>]")
#: The beginning of other markup. A book may mention it, but does not begin with it.
MARKUP = re.compile(rb"[\s\xef\xbb\xbf\xff\xfe]*<(?:\?xml|!DOCTYPE|html[\s>])", re.IGNORECASE)
CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1a\x1b")) + b"\x7f"
#: Share of control characters above which a file is no text.
BINARY_SHARE = 0.02


Source = EPUB | FictionBook | PlainText


def open_source(path: Path, findings: Findings) -> Source:
    """Return the file as a source of chapters. Raises BookError for what is no book."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.strip(b"\0 \t\r\n"):
        raise BookError("empty", "the file is empty.")
    if head.startswith(ZIP):
        return open_zip(path, findings)
    if is_fiction_book(narrow(head)):
        return FictionBook(path, None, findings)
    check_supported(head)
    if zipfile.is_zipfile(path):  # with something before the zip file
        return open_zip(path, findings)
    check_text(head)
    return PlainText(path, findings)


def open_zip(path: Path, findings: Findings) -> EPUB | FictionBook:
    with Archive(path) as archive:
        names = list(archive.entries)
        books = [name for name in names if name.lower().endswith(".fb2") and not is_hidden(name)]
        if archive.find("", "META-INF/container.xml") or any(name.lower().endswith(".opf") for name in names):
            return EPUB(path, archive, findings)
    if not books:
        raise BookError("not_a_book", "the zip file holds neither an EPUB nor a FictionBook.")
    if len(books) > 1:
        findings.add("several_books", f"the zip file holds {len(books)} books. {books[0]} was read.")
    return FictionBook(path, books[0], findings)


def is_fiction_book(head: bytes) -> bool:
    """Return true if the file begins with markup and its first part has the root of a FictionBook."""
    return head.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<") and FICTION_BOOK.search(head) is not None


def is_hidden(name: str) -> bool:
    """Return true for a file that macOS adds beside the real one."""
    return name.rpartition("/")[2].startswith("._") or name.startswith("__MACOSX/")


def check_supported(head: bytes) -> None:
    kind = next((kind for signature, kind in UNSUPPORTED if head.startswith(signature)), None)
    if head[60:68] in MOBI:
        kind = "MOBI"
    if not kind and MARKUP.match(narrow(head)):
        kind = "HTML or other markup"
    if kind:
        raise BookError("unsupported", f"the file is {kind}, which is not read.")


def check_text(head: bytes) -> None:
    if marked_encoding(head) or wide_encoding(head):
        return
    control = len(head) - len(head.translate(None, CONTROL))
    if control > BINARY_SHARE * len(head):
        raise BookError("not_a_book", "the file is neither text nor a known book format.")


def narrow(head: bytes) -> bytes:
    """Return the head with one byte a character, also if it is UTF-16."""
    return head.replace(b"\0", b"")
