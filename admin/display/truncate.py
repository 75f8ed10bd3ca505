"""Truncate long texts on a page."""

from bisect import bisect_right
from typing import NamedTuple

from markupsafe import escape


class Truncated(NamedTuple):
    """`shown` is visible and `rest` unfolds. `beyond`: the text is longer than both."""

    shown: str
    rest: str
    beyond: bool
    size: int  # bytes of the whole text


def truncate(text: str, shown: int, folded: int = 0, *, lines: int = 1000) -> Truncated:
    """Split off at most `shown` bytes in `lines` lines, then `folded` bytes, counted as HTML."""
    first = fit_bytes("".join(text[:shown].splitlines(keepends=True)[:lines]), shown)
    rest = fit_bytes(text[len(first) :], folded)
    return Truncated(first, rest, len(first) + len(rest) < len(text), len(text.encode("utf-8", "replace")))


def shorten(text: str, limit: int = 140) -> str:
    """Cut a text to `limit` bytes of HTML."""
    parts = truncate(text, limit)
    return f"{parts.shown}…" if parts.beyond else text


def fit_bytes(text: str, limit: int) -> str:
    """Return the longest prefix of at most `limit` bytes of HTML."""
    text = text[:limit]
    if html_size(text) <= limit:
        return text
    return text[: bisect_right(range(len(text)), limit, key=lambda length: html_size(text[:length])) - 1]


def html_size(text: str) -> int:
    return len(escape(text).encode("utf-8", "replace"))
