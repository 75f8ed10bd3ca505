"""Arguments on the wire.

The callback of a chord gets a list of results: values, Huey's errors, and `skipped`. The last two are sent as
dictionaries with one key. A caller's own dictionary with such a key gets an extra `$`.
"""

import re
from collections.abc import Iterable
from typing import TypeGuard

from huey.utils import SKIPPED, Error

from engine.text import error_repr

ERROR, SKIP = "$error", "$skipped"
KEY = re.compile(r"\$+(error|skipped)")


class Outcome(dict[str, object]):
    """An error or `skipped` as the history shows it. It can be sent again unchanged."""


def outcome_to_json(value: object) -> object:
    """Return the JSON form of Huey's own argument types. Raises TypeError."""
    if isinstance(value, Exception):  # the argument of an error handler, sent as text
        return error_repr(value)
    if isinstance(value, Error):
        return {ERROR: value.metadata}
    if value is SKIPPED:
        return {SKIP: True}
    raise TypeError(f"{type(value).__name__} is not JSON")


def args_to_json(args: Iterable[object]) -> list[object]:
    return [escaped_items(arg) for arg in args]


def escaped_items(arg: object) -> object:
    if (type(arg) is list or type(arg) is tuple) and any(map(looks_like_outcome, arg)):
        return list(map(escape_key, arg))
    return arg


def parse_args(args: list[object]) -> tuple[object, ...]:
    return tuple(list(map(parse_outcome, arg)) if isinstance(arg, list) else arg for arg in args)


def recorded_args(args: list[object] | None) -> list[object] | None:
    return args and [list(map(printable_outcome, arg)) if isinstance(arg, list) else arg for arg in args]


def looks_like_outcome(value: object) -> TypeGuard[dict[str, object]]:
    """True for a caller's dictionary that looks like an outcome, escaped or not."""
    if not isinstance(value, dict) or len(value) != 1 or isinstance(value, Outcome):
        return False
    return bool(KEY.fullmatch(str(*value)))


def escape_key(value: object) -> object:
    return {f"${key}": content for key, content in value.items()} if looks_like_outcome(value) else value


def parse_outcome(value: object) -> object:
    if not looks_like_outcome(value):
        return value
    ((key, content),) = value.items()
    if key == ERROR:
        return Error(content)
    return SKIPPED if key == SKIP else {key[1:]: content}


def printable_outcome(value: object) -> object:
    if not looks_like_outcome(value):
        return value
    ((key, content),) = value.items()
    return Outcome(value) if key in (ERROR, SKIP) else {key[1:]: content}
