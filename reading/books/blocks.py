"""Blocks of text from the events of a parser: paragraphs with line breaks, white space collapsed, nothing joined."""

from typing import ClassVar

from reading.books.counting import count_letters
from reading.books.errors import BookError
from reading.books.limits import MAX_CHAPTER, MAX_DEPTH

#: A line break inside a block. Markup cannot contain this character.
LINE_BREAK = "\v"
SOFT_HYPHEN, BYTE_ORDER_MARK = "\u00ad", "\ufeff"
#: `split` would divide at a no-break space. Markup cannot contain its stand-in.
NO_BREAK_SPACE, STAND_IN = "\u00a0", "\0"

#: Kinds of elements. Those below PARAGRAPH are paragraphs with a meaning, such as the headings 1 to 6.
INLINE, PARAGRAPH, LINE, CELL, LEFT_OUT, UNREAD = 0, 10, 11, 12, 13, 14


def tidy(text: str) -> str:
    """Return the lines of a block without soft hyphens and without superfluous white space."""
    if SOFT_HYPHEN in text or BYTE_ORDER_MARK in text:
        text = text.replace(SOFT_HYPHEN, "").replace(BYTE_ORDER_MARK, "")
    if LINE_BREAK not in text:
        return collapse(text)
    return "\n".join(line for line in map(collapse, text.split(LINE_BREAK)) if line)


def collapse(text: str) -> str:
    """Make each run of white space one space. No-break spaces stay."""
    if "\n" not in text and "  " not in text and "\t" not in text and "\r" not in text:
        return text.strip()
    if NO_BREAK_SPACE not in text:
        return " ".join(text.split())
    words = text.replace(NO_BREAK_SPACE, STAND_IN).split()
    return " ".join(words).replace(STAND_IN, NO_BREAK_SPACE).strip()


class BlockTarget:
    """A parser's target: it receives start, end and data, and makes blocks. Subclasses know the vocabulary."""

    #: Local name → kind. Any other element is inline.
    KINDS: ClassVar[dict[str, int]] = {}

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.restart()

    def restart(self) -> None:
        self.blocks: list[str] = []
        self.left_out = 0  # letters that are deliberately no text of the book
        self.buffer: list[str] = []
        self.buffered = 0
        self.stack: list[int] = []
        self.left_out_at = 0  # depth of the outermost element that is left out
        self.counts_left_out = False
        self.watches = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = self.kinds.get(tag)
        if kind is None:
            name = self.names[tag] = self.name(tag)
            kind = self.kinds[tag] = self.KINDS.get(name, INLINE)
        stack = self.stack
        stack.append(kind)
        if len(stack) > MAX_DEPTH:
            raise BookError("too_deep", f"more than {MAX_DEPTH} elements are nested.")
        if self.left_out_at:
            return
        if kind:
            if kind >= LEFT_OUT:
                self.leave_out(counted=kind == LEFT_OUT)
                return
            self.separate(kind)
        if attributes or 0 < kind < PARAGRAPH:
            self.opened(tag, kind, attributes)

    def end(self, tag: str) -> None:
        kind = self.stack.pop()
        if self.left_out_at:
            if len(self.stack) < self.left_out_at:
                self.left_out_at = 0
            return
        if kind:
            self.separate(kind)
        if self.watches or 0 < kind < PARAGRAPH:
            self.closed(kind)

    def data(self, text: str) -> None:
        if self.left_out_at:
            if self.counts_left_out:
                self.left_out += count_letters(text)
            return
        self.buffer.append(text)
        self.buffered += len(text)
        if self.buffered > MAX_CHAPTER:
            self.flush_at_space()

    def close(self) -> None:
        self.flush()

    def name(self, tag: str) -> str:
        return local_name(tag)

    def opened(self, tag: str, kind: int, attributes: dict[str, str]) -> None:
        """Handle the start of an element that has attributes or a meaning."""

    def closed(self, kind: int) -> None:
        """Handle the end of an element that has a meaning, and of each one while `watches` is true."""

    def add_block(self, text: str) -> None:
        self.blocks.append(text)

    def leave_out(self, counted: bool) -> None:
        self.left_out_at, self.counts_left_out = len(self.stack), counted

    def separate(self, kind: int) -> None:
        if kind <= PARAGRAPH:
            if self.buffer:
                self.flush()
        else:
            self.buffer.append(LINE_BREAK if kind == LINE else " ")

    def flush(self) -> None:
        text = tidy("".join(self.buffer))
        self.buffer.clear()
        self.buffered = 0
        if text:
            self.add_block(text)

    def flush_at_space(self) -> None:
        """Turn a paragraph of the length of a chapter into blocks. Words stay whole."""
        text = "".join(self.buffer)
        end = max(text.rfind(" "), text.rfind("\n"), 0) or len(text)
        self.buffer = [text[:end]]
        self.flush()
        self.buffer, self.buffered = [text[end:]], len(text) - end


def local_name(tag: str) -> str:
    return tag.rpartition("}")[2].lower()
