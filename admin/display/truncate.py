"""Long texts on a page: as much as it has room for, the rest on demand, and what is too much elsewhere."""

from bisect import bisect_right
from typing import NamedTuple

from markupsafe import escape


class Cut(NamedTuple):
    """`shown` stands on the page and `rest`, which goes on from there, folds out; `beyond`: there is still more."""

    shown: str
    rest: str
    beyond: bool
    size: int  # bytes of the whole


def cut(text: str, shown: int, folded: int = 0, *, lines: int = 1000) -> Cut:
    """At most `shown` bytes in so many lines, and `folded` bytes more, counted as they are sent."""
    first = fitting("".join(text[:shown].splitlines(keepends=True)[:lines]), shown)
    rest = fitting(text[len(first) :], folded)
    return Cut(first, rest, len(first) + len(rest) < len(text), len(text.encode("utf-8", "replace")))


def brief(text: str, limit: int = 140) -> str:
    """Of a text in a list, as much as a row has room for: so many bytes."""
    parts = cut(text, limit)
    return f"{parts.shown}…" if parts.beyond else text


def fitting(text: str, limit: int) -> str:
    """As much of its beginning as takes no more than `most` bytes in HTML."""
    text = text[:limit]
    if weight(text) <= limit:
        return text
    return text[: bisect_right(range(len(text)), limit, key=lambda length: weight(text[:length])) - 1]


def weight(text: str) -> int:
    return len(escape(text).encode("utf-8", "replace"))
