"""Text that every broker and database can store: valid UTF-8, without NUL, up to a limit.

An error or a log line may contain megabytes or a file name that is not UTF-8. An exception's `__str__` may raise. None
of this may prevent a run from being settled. Secret arguments of the run are masked.
"""

import re
import traceback
from collections.abc import Callable

from engine.secret_texts import mask_text

#: Maximum bytes of an error or a traceback, and of a log line.
MAX_ERROR, MAX_LINE = 64 << 10, 8 << 10


#: Control characters, line separators, marks that reverse the direction of text, and what UTF-8 cannot represent.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_controls(text: str) -> str:
    """Return one line that changes nothing but itself in a log or a terminal: a line break becomes `\\n`."""
    if text.isascii() and text.isprintable():
        return text
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def storable(text: str, limit: int = MAX_ERROR) -> str:
    """Mask secrets, escape what UTF-8 cannot represent, and cut the middle of more than `limit` bytes.

    A cut text states its full length. The beginning keeps three quarters, as errors say most at both ends.
    """
    text = mask_text(text)
    if text.isascii() and len(text) <= limit and "\0" not in text:
        return text
    data = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    beginning, end = data[: limit * 3 // 4], data[-(limit // 4) :]
    return f"{beginning.decode(errors='ignore')}\n… cut: {len(data):,} bytes in all …\n{end.decode(errors='ignore')}"


def error_text(error: BaseException) -> str:
    """Return `ValueError: message`, also for an exception that cannot describe itself."""
    return storable(f"{type(error).__name__}: {attempt_text(error, str)}")


def error_repr(error: BaseException) -> str:
    """Return `ValueError('message')`, as Huey stores it with a result."""
    return storable(attempt_text(error, repr))


def attempt_text(error: BaseException, convert: Callable[[object], str]) -> str:
    try:
        return convert(error)
    except BaseException as failure:
        return f"<{type(error).__name__}, whose __{convert.__name__}__ raised {type(failure).__name__}>"


def traceback_text(error: BaseException) -> str:
    try:
        return storable("".join(traceback.format_exception(error)))
    except BaseException as failure:
        return f"{error_text(error)}\n(the traceback cannot be shown: {type(failure).__name__})"
