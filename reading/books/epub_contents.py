"""The table of contents of an EPUB: the navigation document of EPUB 3 or the NCX of EPUB 2."""

from typing import NamedTuple

from reading.books.xml_events import Handler


class Entry(NamedTuple):
    """An entry of the table of contents. `level` 1 is the outermost."""

    title: str
    level: int
    href: str
    types: str = ""


class NavigationHandler(Handler):
    """Collect the entries of `toc`, of `landmarks` and of a list without a type."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[str, list[Entry]] = {}
        self.entries: list[Entry] | None = None
        self.linked: list[bool] = []  # by open list item: its own entry has a link
        self.link: tuple[str, str] | None = None

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "nav":
            types = [*attributes.get("type", "").split(), attributes.get("role", "").removeprefix("doc-")]
            kind = next((kind for kind in types if kind in ("toc", "landmarks")), "" if not any(types) else "other")
            self.entries = self.lists.setdefault(kind, [])
        elif name == "li":
            self.linked.append(False)
        elif name == "a" and self.entries is not None:
            self.take_text()
            self.link = attributes.get("href", ""), attributes.get("type", "")

    def finish(self, name: str) -> None:
        if name == "nav":
            self.entries = None
        elif name == "li" and self.linked:
            self.linked.pop()
        elif name == "a" and self.entries is not None and self.link:
            if self.linked:
                self.linked[-1] = True
            level = max(1, sum(self.linked))
            self.entries.append(Entry(self.take_text(), level, *self.link))
            self.link = None


class NCXHandler(Handler):
    """Collect the entries of the navigation map."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self.level = 0
        self.title = ""

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "navpoint":
            self.level += 1
            self.title = ""
        elif name == "navlabel":
            self.take_text()
        elif name == "content" and self.level:
            self.entries.append(Entry(self.title, self.level, attributes.get("src", "")))

    def finish(self, name: str) -> None:
        if name == "navpoint":
            self.level -= 1
        elif name == "navlabel":
            self.title = self.take_text()
