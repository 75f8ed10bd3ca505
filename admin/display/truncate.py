"""Long texts on a page: as much as it has room for, the rest on demand, and what is too much elsewhere."""

from bisect import bisect_right
from typing import NamedTuple

from markupsafe import escape


class Truncated(NamedTuple):
    """`shown` stands on the page and `rest`, which goes on from there, folds out; `beyond`: there is still more."""

    shown: str
    rest: str
    beyond: bool
    size: int  # bytes of the whole


def truncate(text: str, shown: int, folded: int = 0, *, lines: int = 1000) -> Truncated:
    """At most `shown` bytes in so many lines, and `folded` bytes more, counted as they are sent."""
    first = fit_bytes("".join(text[:shown].splitlines(keepends=True)[:lines]), shown)
    rest = fit_bytes(text[len(first) :], folded)
    return Truncated(first, rest, len(first) + len(rest) < len(text), len(text.encode("utf-8", "replace")))


def shorten(text: str, limit: int = 140) -> str:
    """Of a text in a list, as much as a row has room for: so many bytes."""
    parts = truncate(text, limit)
    return f"{parts.shown}…" if parts.beyond else text


def fit_bytes(text: str, limit: int) -> str:
    """As much of its beginning as takes no more than `most` bytes in HTML."""
    text = text[:limit]
    if html_size(text) <= limit:
        return text
    return text[: bisect_right(range(len(text)), limit, key=lambda length: html_size(text[:length])) - 1]


def html_size(text: str) -> int:
    return len(escape(text).encode("utf-8", "replace"))
