"""Files that are made to take time, memory or secrets from the program that reads them."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from book_files import build_epub, build_fb2, build_zip, document

MB = 1 << 20
LAUGHS = (
    '<!DOCTYPE html [<!ENTITY a "lollollollollollollollollollol">'
    + "".join(f'<!ENTITY {chr(98 + at)} "{f"&{chr(97 + at)};" * 10}">' for at in range(9))
    + "]>"
)
QUADRATIC = f'<!DOCTYPE html [<!ENTITY a "{"a" * 200_000}">]>'
AMONG_MANY = "<!DOCTYPE html [<!ENTITY a '&amp;'>" + "".join(f"<!ENTITY e{at} 'x'>" for at in range(20_000)) + "]>"


def epub(body: str, doctype: str = "", doctype_of_package: str = "", **options: str) -> Callable[[Path], Path]:
    documents = {"c.xhtml": document(body, doctype)}
    return lambda path: build_epub(path, documents, doctype=doctype_of_package, **options)


def fb2(bodies: str, doctype: str = "") -> Callable[[Path], Path]:
    return lambda path: build_fb2(path, bodies, doctype=doctype)


def declared_size(megabytes: int, name: str) -> Callable[[Path], Path]:
    """Build an EPUB with an entry that unpacks to this size, by its headers."""

    def build(path: Path) -> Path:
        build_epub(path, {"c.xhtml": document("<p>text</p>" * 1000)}, more={"OEBPS/p.png": bytes(3333)})
        return patch_size(path, megabytes * MB, name)

    return build


def lying_size(path: Path) -> Path:
    """Build an entry that unpacks to 100 times the size in its headers."""
    build_epub(path, {"c.xhtml": document("<p>" + "text " * 200_000 + "</p>")})
    return patch_size(path, 10_000, "OEBPS/c.xhtml")


def patch_size(path: Path, size: int, name: str) -> Path:
    with zipfile.ZipFile(path) as archive:
        true = struct.pack("<I", archive.getinfo(name).file_size)
    path.write_bytes(path.read_bytes().replace(true, struct.pack("<I", size)))
    return path


def many_entries(count: int) -> Callable[[Path], Path]:
    """Build a zip file that lists the same entry many times."""

    def build(path: Path) -> Path:
        data = build_zip(path, {"META-INF/container.xml": ""}).read_bytes()
        start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
        directory = data[start:end] * count
        tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), start, 0)  # it claims one entry
        path.write_bytes(data[:start] + directory + tail)
        return path

    return build


def encrypted_entry(path: Path) -> Path:
    """Build an EPUB whose chapter has the flag of zip's own encryption."""
    build_epub(path, {"c.xhtml": document("<p>text</p>")})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 1)
    path.write_bytes(data)
    return path


def half(build: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def cut(path: Path) -> Path:
        data = build(path).read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return path

    return cut


def content(data: bytes) -> Callable[[Path], Path]:
    def build(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return build


#: Name → builder and the code of the error. None: the text "text" is read.
HOSTILE: dict[str, tuple[Callable[[Path], Path], str | None]] = {
    "billion laughs": (epub("<p>&j;</p>", LAUGHS), "entity_bomb"),
    "billion laughs in the package": (epub("<p>text</p>", title="&j;", doctype_of_package=LAUGHS), "entity_bomb"),
    "quadratic entities": (epub("<p>" + "&a;" * 20_000 + "</p>", QUADRATIC), "entity_bomb"),
    "billion laughs in FB2": (fb2("<body><p>&j;</p></body>", LAUGHS), "entity_bomb"),
    "endless entity": (epub("<p>&a;</p>", '<!DOCTYPE html [<!ENTITY a "x &a; y">]>'), "entity_bomb"),
    "bomb of all entries": (declared_size(520, "OEBPS/p.png"), "zip_bomb"),
    "bomb of a document": (declared_size(40, "OEBPS/c.xhtml"), "zip_bomb"),
    "size that is wrong": (lying_size, "truncated"),
    "many entries": (many_entries(21_000), "too_many_entries"),
    "endless directory": (many_entries(100_000), "too_many_entries"),
    "200,000 levels": (epub("<div>" * 200_000 + "x" + "</div>" * 200_000), "too_deep"),
    "200,000 levels in FB2": (fb2("<body>" + "<section>" * 100_000 + "<p>x</p>"), "too_deep"),
    "20,000 repetitions": (epub("<p>text</p>", spine_items='<itemref idref="d0"/>' * 20_000), None),
    "container outside the file": (
        lambda path: build_zip(
            path, {"META-INF/container.xml": '<rootfile full-path="../../../etc/passwd"/>', "a.txt": "text"}
        ),
        "not_a_book",
    ),
    "encrypted entry": (encrypted_entry, "encrypted"),
    "half a zip file": (half(epub("<p>text</p>" * 9)), "truncated"),
    "many attributes": (epub("<p " + " ".join(f'a{at}="1"' for at in range(100_000)) + ">text</p>"), None),
    "open comments": (epub("<p>text</p>" + "<!--" * 500_000), None),
    "open tags": (epub("<p>text</p>" + "<" * 300_000), None),
    "open references": (epub("<p>text</p><p>" + "&" * 100_000 + "</p>"), None),
    "open scripts": (epub("<p>text</p>" + "<script>" * 20_000), None),
    "open DOCTYPE": (epub("<p>text</p>", "<!DOCTYPE html [" + "'\"<" * 300_000), None),
    "open DOCTYPEs": (epub("<p>text</p>", "<!DOCTYPE a " * 20_000 + "["), None),
    "open entities": (epub("<p>text</p>", "<!DOCTYPE html [" + "<!ENTITY a SYSTEM " * 20_000 + "]>"), None),
    "entity among many": (epub("<p>" + "&a;" * 20_000 + "</p>", AMONG_MANY), None),
    "spaces": (lambda path: build_epub(path, {"c.xhtml": "<p>text</p>" + " " * 200_000 + "<p/>"}), None),
    "20,000 headings": (epub("<h1>x</h1>" * 20_000), None),
    "long name in FB2": (fb2("<body><p>text</b></p><" + "a" * 300_000 + "></body>"), None),
    "empty file": (content(b""), "empty"),
    "blank file": (content(b" \n" * 1000), "empty"),
    "no words": (epub("<p>…</p><p>— — —</p>"), "empty"),
    "no text": (epub('<img src="x.png" alt="all of it"/>'), "empty"),
    "picture": (content(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 100), "not_a_book"),
    "document of Word": (lambda path: build_zip(path, {"word/document.xml": "<w/>"}), "not_a_book"),
    "old document of Word": (content(b"\xd0\xcf\x11\xe0" + bytes(600)), "unsupported"),
    "page of HTML": (content(b"<?xml version='1.0'?>\n<!DOCTYPE html><html><body>text</body></html>"), "unsupported"),
    "text about FB2": (content(b"The root is <FictionBook>. It has a text."), None),
    "PDF": (content(b"%PDF-1.7\n" + bytes(range(256)) * 4), "unsupported"),
    "MOBI": (content(b"Title".ljust(60, b"\0") + b"BOOKMOBI" + bytes(500)), "unsupported"),
}
