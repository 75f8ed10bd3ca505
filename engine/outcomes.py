"""Arguments on the wire.

The callback of a chord gets a list of results: values, Huey's errors, and `skipped`. The last two travel as
dictionaries of one key. A caller's own dictionary of such a key gets a `$` more.
"""

import re
from collections.abc import Iterable
from typing import Any

from huey.utils import SKIPPED, Error

from engine.text import error_repr

ERROR, SKIP = "$error", "$skipped"
KEY = re.compile(r"\$+(error|skipped)")


class Outcome(dict[str, Any]):
    """An error or `skipped` as a record shows it. It can be sent again as what it is."""


def outcome_to_json(value: Any) -> Any:
    """Return what JSON does not know of the arguments that Huey makes itself. Raises TypeError."""
    if isinstance(value, Exception):  # the argument of an error's handler; as text, for it cannot travel
        return error_repr(value)
    if isinstance(value, Error):
        return {ERROR: value.metadata}
    if value is SKIPPED:
        return {SKIP: True}
    raise TypeError(f"{type(value).__name__} is not JSON")


def args_to_json(args: Iterable[Any]) -> list[Any]:
    return [list(map(escaped, one)) if type(one) in (list, tuple) and any(map(is_alike, one)) else one for one in args]


def args_of_json(args: list[Any]) -> tuple[Any, ...]:
    """Return the arguments of a message as its task takes them."""
    return tuple(list(map(outcome_of_json, one)) if isinstance(one, list) else one for one in args)


def args_of_record(args: list[Any] | None) -> list[Any] | None:
    """Return the arguments of a message as their caller gave them."""
    return args and [list(map(outcome_shown, one)) if isinstance(one, list) else one for one in args]


def is_alike(value: Any) -> bool:
    """True for a caller's dictionary that looks like an outcome, however often it was escaped already."""
    if not isinstance(value, dict) or len(value) != 1 or isinstance(value, Outcome):
        return False
    return bool(KEY.fullmatch(str(*value)))


def escaped(value: Any) -> Any:
    return {f"${key}": rest for key, rest in value.items()} if is_alike(value) else value


def outcome_of_json(value: Any) -> Any:
    if not is_alike(value):
        return value
    ((key, rest),) = value.items()
    if key == ERROR:
        return Error(rest)
    return SKIPPED if key == SKIP else {key[1:]: rest}


def outcome_shown(value: Any) -> Any:
    if not is_alike(value):
        return value
    ((key, rest),) = value.items()
    return Outcome(value) if key in (ERROR, SKIP) else {key[1:]: rest}
