"""Text that every broker and database can store: valid UTF-8, without NUL, up to a limit.

An error or a log line may contain megabytes or a file name that is not UTF-8. An exception's `__str__` may raise. None
of this may prevent a run from being settled.
"""

import traceback
from collections.abc import Callable

#: Maximum bytes of an error or a traceback, and of a log line.
MAX_ERROR, MAX_LINE = 64 << 10, 8 << 10


def storable(text: str, limit: int = MAX_ERROR) -> str:
    """Escape what UTF-8 cannot represent, and cut the middle of more than `limit` bytes.

    A cut text states its full length. The beginning keeps three quarters, as errors say most at both ends.
    """
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
