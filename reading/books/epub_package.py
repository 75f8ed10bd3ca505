"""The package document of an EPUB: title, author, language, reading order, contents and cover."""

import posixpath
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from reading.books.archive import Archive
from reading.books.epub_contents import Entry, NavigationHandler, NCXHandler
from reading.books.errors import BookError
from reading.books.findings import Findings
from reading.books.html_text import SERVICE_TYPES
from reading.books.limits import MAX_PACKAGE
from reading.books.xml_events import Handler, read_events

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
NCX_TYPE = "application/x-dtbncx+xml"
DOCUMENT_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
#: Methods that hide only fonts.
FONT_METHODS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
#: Types of EPUB 2's guide with another name in EPUB 3.
GUIDE_TYPES = {"title-page": "titlepage", "other.copyright": "copyright-page"}


class Item(NamedTuple):
    href: str
    media_type: str
    properties: str


class Target(NamedTuple):
    """An entry of the table of contents, resolved to a document."""

    title: str
    level: int
    document: str
    anchor: str


@dataclass
class Package:
    title: str | None = None
    author: str | None = None
    language: str | None = None
    documents: list[str] = field(default_factory=list)  # in reading order, each once
    aside: set[str] = field(default_factory=set)  # documents outside the reading order, contents, copyright page
    contents: list[Target] = field(default_factory=list)
    cover: str | None = None


class PackageHandler(Handler):
    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, list[str]] = {"title": [], "creator": [], "language": []}
        self.items: dict[str, Item] = {}
        self.spine: list[tuple[str, bool]] = []  # idref, linear
        self.references: list[tuple[str, str]] = []  # type, href
        self.cover_id: str | None = None
        self.ncx_id: str | None = None

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name in self.facts:
            self.take_text()
        elif name == "item":
            item = Item(attributes.get("href", ""), attributes.get("media-type", ""), attributes.get("properties", ""))
            self.items.setdefault(attributes.get("id", ""), item)
        elif name == "itemref":
            self.spine.append((attributes.get("idref", ""), attributes.get("linear") != "no"))
        elif name == "reference":
            self.references.append((attributes.get("type", "").lower(), attributes.get("href", "")))
        elif name == "meta" and attributes.get("name") == "cover":
            self.cover_id = attributes.get("content")
        elif name == "spine":
            self.ncx_id = attributes.get("toc")

    def finish(self, name: str) -> None:
        if name in self.facts and (text := self.take_text()):
            self.facts[name].append(text)


class ContainerHandler(Handler):
    def __init__(self) -> None:
        super().__init__()
        self.packages: list[str] = []

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "rootfile":
            self.packages.append(attributes.get("full-path", ""))


class EncryptionHandler(Handler):
    """Collect what is encrypted by a method that is not one of fonts."""

    def __init__(self) -> None:
        super().__init__()
        self.method = ""
        self.references: list[str] = []

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "encrypteddata":
            self.method = ""
        elif name == "encryptionmethod" and not self.method:
            self.method = attributes.get("algorithm", "")
        elif name == "cipherreference" and self.method not in FONT_METHODS:
            self.references.append(attributes.get("uri", ""))


def read_package(archive: Archive, findings: Findings) -> Package:
    """Read the package document. Raises BookError for a file without one and for an encrypted book."""
    name = package_name(archive, findings)
    folder = posixpath.dirname(name)
    handler = PackageHandler()
    read_events(archive.read(name, MAX_PACKAGE), name, handler, findings)
    package = Package(
        title=next(iter(handler.facts["title"]), None),
        author=", ".join(dict.fromkeys(handler.facts["creator"])) or None,
        language=next(iter(handler.facts["language"]), None),
    )
    read_spine(archive, folder, handler, package, findings)
    check_encryption(archive, {name, *package.documents}, findings)
    read_contents(archive, folder, handler, package, findings)
    package.cover = find_cover(archive, folder, handler)
    return package


def package_name(archive: Archive, findings: Findings) -> str:
    """Return the first package document that the container names, else the only one there is."""
    container = archive.find("", CONTAINER)
    if container:
        handler = ContainerHandler()
        read_events(archive.read(container, MAX_PACKAGE), container, handler, findings)
        named = [name for path in handler.packages if (name := archive.find("", path))]
        if len(named) > 1:
            findings.add("several_books", f"{container} names {len(named)} packages. The first was read.")
        if named:
            return named[0]
    packages = [name for name in archive.entries if name.lower().endswith(".opf")]
    if len(packages) != 1:
        raise BookError("not_a_book", f"the zip file has no usable {CONTAINER} and {len(packages)} package documents.")
    findings.add("no_container", f"{CONTAINER} names no package document. {packages[0]} was read.")
    return packages[0]


def read_spine(archive: Archive, folder: str, handler: PackageHandler, package: Package, findings: Findings) -> None:
    spine = handler.spine
    if not any(idref in handler.items for idref, _ in spine):
        findings.add("no_spine", "the package has no reading order. That of its manifest was taken.")
        spine = [(key, True) for key, item in handler.items.items() if item.media_type in DOCUMENT_TYPES]
    documents: dict[str, bool] = {}
    for idref, linear in spine:
        item = handler.items.get(idref)
        name = archive.find(folder, item.href) if item and not is_remote(item.href) else None
        if name is None:
            findings.add(
                "missing_document", f"the reading order names {item.href if item else idref}, which is missing."
            )
        elif name in documents and item and "#" not in item.href:
            findings.add("repeated_document", f"{name} appears again in the reading order. It was read once.")
        if name and is_document(item, name):
            documents[name] = documents.get(name, False) or linear
    package.documents = list(documents)
    package.aside = {name for name, linear in documents.items() if not linear}
    for item in handler.items.values():
        if item.href and not is_remote(item.href) and not archive.find(folder, item.href):
            findings.add("missing_file", f"the manifest names {item.href}, which is missing.")


def is_remote(href: str) -> bool:
    return "://" in href


def is_document(item: Item | None, name: str) -> bool:
    """Return true for a text. A spine may also name a picture."""
    return item is None or item.media_type in DOCUMENT_TYPES or name.lower().endswith(("html", ".htm", ".xml"))


def check_encryption(archive: Archive, read: set[str], findings: Findings) -> None:
    name = archive.find("", ENCRYPTION)
    if not name:
        return
    handler = EncryptionHandler()
    read_events(archive.read(name, MAX_PACKAGE), name, handler, findings)
    for reference in handler.references:
        if archive.find("", reference) in read:
            raise BookError("encrypted", f"{ENCRYPTION} says that {reference} is encrypted (DRM).")


def read_contents(archive: Archive, folder: str, handler: PackageHandler, package: Package, findings: Findings) -> None:
    """Fill contents and aside: the navigation document first, the NCX if that lists nothing."""
    navigation = [item for item in handler.items.values() if "nav" in item.properties.split()]
    ncx = handler.items.get(handler.ncx_id or "")
    ncx_items = [ncx, *(item for item in handler.items.values() if item.media_type == NCX_TYPE)]
    lists: dict[str, list[Entry]] = {}
    base = folder
    if navigation and (name := archive.find(folder, navigation[0].href)):
        package.aside.add(name)
        reader, base = NavigationHandler(), posixpath.dirname(name)
        read_leniently(archive, name, reader, findings)
        lists = reader.lists
    for entry in lists.get("landmarks", []):
        mark_aside(archive.find(base, entry.href), entry.href, entry.types.split(), package)
    for kind, href in handler.references:
        mark_aside(archive.find(folder, href), href, [GUIDE_TYPES.get(kind, kind)], package)
    entries = lists.get("toc")
    if not entries and (name := next((archive.find(folder, item.href) for item in ncx_items if item), None)):
        ncx_reader = NCXHandler()
        read_leniently(archive, name, ncx_reader, findings)
        entries, base = ncx_reader.entries, posixpath.dirname(name) if ncx_reader.entries else base
    package.contents = resolve(archive, base, entries or lists.get("", []), package, findings)


def read_leniently(archive: Archive, name: str, handler: Handler, findings: Findings) -> None:
    """Read contents. A damaged table of contents costs titles, not text."""
    try:
        read_events(archive.read(name, MAX_PACKAGE), name, handler, findings)
    except BookError as error:
        if error.code in ("entity_bomb", "zip_bomb"):
            raise
        findings.add("bad_contents", f"the table of contents was left out: {error.detail}")


def mark_aside(document: str | None, href: str, types: list[str], package: Package) -> None:
    if document and "#" not in href and SERVICE_TYPES.intersection(types):
        package.aside.add(document)


def resolve(archive: Archive, base: str, entries: list[Entry], package: Package, findings: Findings) -> list[Target]:
    known, targets = set(package.documents), list[Target]()
    by_file_name = unique_file_names(package.documents)
    for entry in entries:
        document = archive.find(base, entry.href) if entry.href and not is_remote(entry.href) else None
        if document not in known:
            document = by_file_name.get(posixpath.basename(entry.href.partition("#")[0]))
        if document in known:
            targets.append(Target(entry.title, entry.level, str(document), entry.href.partition("#")[2]))
        else:
            findings.add(
                "broken_contents", f"the contents name {entry.href or 'nothing'} for “{entry.title}”, not in the book."
            )
    return targets


def unique_file_names(documents: list[str]) -> dict[str, str]:
    """Return the documents by name without folder, for contents whose folders are wrong."""
    names = [posixpath.basename(document) for document in documents]
    counts = Counter(names)
    return {name: document for name, document in zip(names, documents, strict=True) if counts[name] == 1}


def find_cover(archive: Archive, folder: str, handler: PackageHandler) -> str | None:
    pictures = {key: item for key, item in handler.items.items() if item.media_type.startswith("image/")}
    named = [item for item in pictures.values() if "cover-image" in item.properties.split()]
    by_id = pictures.get(handler.cover_id or "")
    likely = [item for key, item in pictures.items() if "cover" in f"{key} {item.href}".lower()]
    candidates = [*named, *([by_id] if by_id else []), *likely]
    return next((name for item in candidates if (name := archive.find(folder, item.href))), None)
