"""The chapters of a FictionBook from the events of a parser. Finished chapters are taken while it reads."""

from typing import ClassVar

from reading.books.blocks import CELL, LINE, PARAGRAPH, UNREAD, BlockTarget, local_name
from reading.books.chapters import CHAPTER_LEVELS, Part
from reading.books.limits import MAX_CHAPTER

PARAGRAPHS = """annotation author cite date empty-line epigraph fictionbook history p poem stanza subtitle
    table text-author title"""
TITLE, SECTION, BODY = 1, 2, 3
NOTE_BODIES = ("notes", "comments", "footnotes")


class FictionTarget(BlockTarget):
    """Collect parts. A section begins a chapter if it is at the top, or titled and at most CHAPTER_LEVELS deep."""

    KINDS: ClassVar[dict[str, int]] = {
        **dict.fromkeys(PARAGRAPHS.split(), PARAGRAPH),
        **dict.fromkeys(("v", "tr"), LINE),
        **dict.fromkeys(("td", "th"), CELL),
        "title": TITLE,
        "section": SECTION,
        "body": BODY,
        **dict.fromkeys(("description", "binary", "stylesheet"), UNREAD),
    }

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self.prefix = prefix
        self.finished: list[Part] = []
        self.notes = Part(None, 1, "notes", is_service_page=True)
        self.part = Part(None, 1, "body")
        self.length = 0
        self.in_notes = False
        self.titled: list[bool] = []  # by open section
        self.sections = 0
        self.title_lines: list[str] | None = None
        self.only_title = True

    def name(self, tag: str) -> str:
        name = local_name(tag)
        return name.removeprefix(self.prefix) if name.startswith(self.prefix) else ""

    def opened(self, tag: str, kind: int, attributes: dict[str, str]) -> None:
        if kind == BODY:
            self.in_notes = attributes.get("name") in NOTE_BODIES
            self.begin_part("body")
        elif kind == SECTION:
            self.begin_section(attributes.get("id"))
        elif kind == TITLE:
            self.begin_title()
        elif attributes.get("type") == "note":
            self.leave_out(counted=True)

    def closed(self, kind: int) -> None:
        if kind == TITLE:
            self.end_title()
        elif kind == SECTION and self.titled:
            self.titled.pop()

    def begin_section(self, anchor: str | None) -> None:
        self.sections += 1
        self.titled.append(False)
        self.place = f"#{anchor}" if anchor else f"section {self.sections}"
        if len(self.titled) == 1:
            self.begin_part(self.place)

    def begin_title(self) -> None:
        self.title_lines = []
        if self.in_notes or not self.titled or self.titled[-1]:
            return
        self.titled[-1] = True
        level = sum(self.titled)
        if level <= CHAPTER_LEVELS and len(self.titled) > 1:
            self.begin_part(self.place)
        if level <= CHAPTER_LEVELS:
            self.part.level = level

    def end_title(self) -> None:
        title = " ".join(" ".join(self.title_lines or ()).split())
        self.title_lines = None
        if self.in_notes:
            if not self.titled:
                self.notes.title = self.notes.title or title
        elif title and self.only_title and not self.part.title:
            self.part.title = title

    def add_block(self, text: str) -> None:
        if self.title_lines is not None:
            self.title_lines.append(text)
        elif not self.in_notes:
            self.only_title = False
        if self.in_notes:
            self.notes.notes.append(text)
            return
        self.part.blocks.append(text)
        self.length += len(text)
        if self.length > MAX_CHAPTER:
            self.begin_part(self.part.source_ref, self.part.title, self.part.level)

    def begin_part(self, ref: str, title: str | None = None, level: int = 1) -> None:
        """Finish the part if it has text. A part that is only a book's title is a title page."""
        self.finish_part()
        self.part = Part(title, level, ref)
        self.length, self.only_title = 0, title is None

    def finish_part(self) -> None:
        if self.part.blocks:
            self.part.is_service_page = self.part.has_service_title() or (
                self.only_title and self.part.source_ref == "body"
            )
            self.finished.append(self.part)

    def take_finished(self) -> list[Part]:
        parts, self.finished = self.finished, []
        return parts

    def close(self) -> None:
        super().close()
        self.finish_part()
        if self.notes.notes:
            self.finished.append(self.notes)
