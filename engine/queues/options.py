"""Validation of task declarations and calls. An unusable value is rejected by name."""

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard

from huey.api import Task

#: The database stores 32-bit integers. Longer times in seconds (68 years) overflow the calendar.
MAX_NUMBER = 2**31 - 1
ID = re.compile(r"[!-~]{1,64}")
#: History and limits use the part after the last dot of a dotted name. A header is split at spaces.
NAME = re.compile(r"[^\s.]{1,200}")


class InvalidOption(ValueError):
    """A value that a task or a call cannot have. The message names the field, the task and the value."""


def is_whole(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_NUMBER


def is_number(value: object) -> TypeGuard[float]:
    """True for a finite number within MAX_NUMBER. NaN compares as false."""
    return isinstance(value, int | float) and type(value) is not bool and -MAX_NUMBER <= value <= MAX_NUMBER


def is_seconds(value: object) -> bool:
    return is_number(value) and value >= 0


def or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


WHOLE = f"a whole number from 0 to {MAX_NUMBER:,}"
SECONDS = f"a number from 0 to {MAX_NUMBER:,}"

#: The options of a call. A declaration has them as `default_<option>`.
CALL_OPTIONS: dict[str, tuple[Callable[[object], bool], str]] = {
    "retries": (is_whole, WHOLE),
    "retry_delay": (is_seconds, SECONDS),
    "retry_backoff": (is_seconds, SECONDS),
    "priority": (or_none(is_number), f"a number from -{MAX_NUMBER:,} to {MAX_NUMBER:,}"),
    "timeout": (or_none(is_seconds), SECONDS),
}
DECLARATION_OPTIONS = {f"default_{name}": (name, *rest) for name, rest in CALL_OPTIONS.items()} | {
    "time_limit": ("time_limit", or_none(is_seconds), SECONDS)
}


def check_declaration(task: str, settings: Mapping[str, object]) -> None:
    """Raise InvalidOption for the name, or the first setting of a decorator, that a task cannot have."""
    if not NAME.fullmatch(task):
        raise bad_option("name", task, "1 to 200 characters without a space or a dot", task)
    for setting, (name, is_right, allowed) in DECLARATION_OPTIONS.items():
        if setting in settings and not is_right(settings[setting]):
            raise bad_option(name, task, allowed, settings[setting])


def check_call(task: Task) -> None:
    """Raise InvalidOption for the first invalid value of a new run or its followers."""
    for call in (task, *followers(task)):
        if not (isinstance(call.id, str) and ID.fullmatch(call.id)):
            raise bad_option("id", call.name, "1 to 64 printable ASCII characters without a space", call.id)
        for name, (is_right, allowed) in CALL_OPTIONS.items():
            if not is_right(value := getattr(call, name)):
                raise bad_option(name, call.name, allowed, value)


def followers(task: Task) -> Iterator[Task]:
    """Yield the calls inside this one: its pipeline, its error handler, the callback of its chord."""
    chord = task.chord_config
    for follower in (task.on_complete, task.on_error, chord and chord.callback):
        if follower is not None:
            yield follower
            yield from followers(follower)


def bad_option(name: str, task: str, allowed: str, value: object) -> InvalidOption:
    return InvalidOption(f"{name} of {task} must be {allowed}, not {reprlib.repr(value)}")
