"""Small XML files of a book, such as its package document: one call per element, no tree, any fault forgiven."""

from lxml import etree

from reading.books.blocks import local_name
from reading.books.errors import BookError
from reading.books.findings import Findings
from reading.books.limits import MAX_DEPTH
from reading.books.markup import Cleaner, to_utf8


class Handler:
    """A parser's target. Subclasses receive local names and ask for the text when they need it."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.depth = 0

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """Handle the start of an element."""

    def finish(self, name: str) -> None:
        """Handle the end of an element."""

    def take_text(self) -> str:
        """Return the text since the last call, on one line."""
        text = " ".join("".join(self.text).split())
        self.text.clear()
        return text

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise BookError("too_deep", f"more than {MAX_DEPTH} elements are nested.")
        self.begin(local_name(tag), {local_name(key): value for key, value in attributes.items()})

    def end(self, tag: str) -> None:
        self.depth -= 1
        self.finish(local_name(tag))

    def data(self, text: str) -> None:
        self.text.append(text)

    def close(self) -> None: ...


def read_events(data: bytes, place: str, handler: Handler, findings: Findings) -> None:
    """Send the elements of a document to its handler. A document that is not well-formed is read as far as it goes."""
    utf8, _ = to_utf8(data, place, findings)
    utf8 = Cleaner(place, findings).clean_beginning(utf8)
    parser = etree.XMLParser(
        target=handler,
        encoding="utf-8",
        recover=True,
        huge_tree=True,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
    )
    try:
        parser.feed(utf8)
        parser.close()
    except etree.ParseError as error:
        findings.add("not_well_formed", f"{place} is not well-formed XML ({error}).")
    except BookError as error:
        raise BookError(error.code, f"{place}: {error.detail}") from None
