"""Builders of small books: EPUB, FB2 and hostile files."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from reading.books.book import Book, Chapter, read_book

CONTAINER = """<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="{}" media-type="application/oebps-package+xml"/></rootfiles></container>"""
PACKAGE = """<?xml version="1.0" encoding="utf-8"?>{doctype}<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title><dc:creator>Anna</dc:creator>
<dc:language>en</dc:language>{metadata}</metadata><manifest>{manifest}</manifest><spine{spine_attributes}>{spine}</spine>
<guide>{guide}</guide></package>"""
DOCUMENT = """<?xml version="1.0" encoding="utf-8"?>{doctype}<html xmlns="http://www.w3.org/1999/xhtml"
xmlns:epub="http://www.idpf.org/2007/ops"><head><title>ignored</title></head><body>{body}</body></html>"""
NAVIGATION = '<nav epub:type="toc"><ol>{}</ol></nav>'
FICTION = """<?xml version="1.0" encoding="{encoding}"?>{doctype}
<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0" xmlns:l="http://www.w3.org/1999/xlink"><description>
<title-info><author><first-name>Лев</first-name><last-name>Толстой</last-name></author>
<book-title>Война и мир</book-title><lang>ru</lang>{info}</title-info></description>{bodies}</FictionBook>"""
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def document(body: str, doctype: str = "") -> str:
    return DOCUMENT.format(body=body, doctype=doctype)


def build_epub(
    path: Path,
    documents: Mapping[str, str | bytes],
    *,
    contents: str | None = None,
    items: str = "",
    spine: Sequence[str] | None = None,
    spine_items: str = "",
    more: Mapping[str, str | bytes] | None = None,
    title: str = "A book",
    **package: str,
) -> Path:
    """Write an EPUB. `documents`: name to XHTML, in reading order. `contents`: the items of the navigation list."""
    names = list(documents)
    manifest = "".join(
        f'<item id="d{at}" href="{name}" media-type="application/xhtml+xml"/>' for at, name in enumerate(names)
    )
    files = dict(documents)
    if contents is not None:
        manifest += '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
        files["nav.xhtml"] = document(NAVIGATION.format(contents))
    idrefs = spine if spine is not None else [f"d{at}" for at in range(len(names))]
    text = PACKAGE.format_map(
        {
            "doctype": "",
            "metadata": "",
            "guide": "",
            "spine_attributes": "",
            **package,
            "title": title,
            "manifest": manifest + items,
            "spine": "".join(f'<itemref idref="{idref}"/>' for idref in idrefs) + spine_items,
        }
    )
    all_files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER.format("OEBPS/book.opf"),
        "OEBPS/book.opf": text,
        **{f"OEBPS/{name}": content for name, content in files.items()},
        **(more or {}),
    }
    return build_zip(path, all_files)


def build_zip(path: Path, files: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def build_fb2(
    path: Path, bodies: str, *, encoding: str = "utf-8", declared: str = "", info: str = "", doctype: str = ""
) -> Path:
    """Write a FictionBook in `encoding` that declares `declared`, else the same."""
    text = FICTION.format(encoding=declared or encoding, bodies=bodies, info=info, doctype=doctype)
    path.write_bytes(text.encode(encoding, "xmlcharrefreplace"))
    return path


def read(path: Path) -> tuple[Book, list[Chapter]]:
    book = read_book(path)
    return book, list(book.chapters())


def codes(book: Book) -> set[str]:
    return {warning["code"] for warning in book.warnings}


def lines(chapter: Chapter) -> list[str]:
    return [line for line in chapter.content.split("\n") if line]
