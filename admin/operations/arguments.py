"""Reads the arguments of an action into their types, from JSON, forms and the terminal."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NewType
from uuid import UUID

from flask_babel import gettext as _

from admin.problems import InvalidInput

#: A parameter that is never shown, stored or logged.
Secret = NewType("Secret", str)

#: As they came in JSON: nothing more is known of the values within.
JSONObject = dict[str, Any]
JSONList = list[Any]

#: Of numbers, either way: what every database and the broker can hold.
MAX_INTEGER = 999_999_999


def parse_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(name, _("text is needed"))
    if "\0" in value:
        raise InvalidInput(name, _("text without NUL is needed"))
    return value


def parse_optional_text(name: str, value: object) -> str | None:
    return None if value is None else parse_text(name, value)


def parse_secret(name: str, value: object) -> Secret:
    return Secret(parse_text(name, value))


def parse_optional_secret(name: str, value: object) -> Secret | None:
    return None if value is None else parse_secret(name, value)


def parse_whole(name: str, value: object) -> int | None:
    if value is None or (type(value) is int and abs(value) <= MAX_INTEGER):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    raise InvalidInput(name, _("a whole number is needed"))


def parse_number(name: str, value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and type(value) is not bool and abs(value) <= MAX_INTEGER):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,6})?", value):
        return float(value)
    raise InvalidInput(name, _("a number is needed"))


def parse_instant(name: str, value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        if at is None or (isinstance(at, datetime) and at.tzinfo):
            return at and at.astimezone(UTC)
    except (ValueError, OverflowError):  # the first and the last hours there are, in some zones
        pass
    raise InvalidInput(name, _("an instant with its offset is needed, such as 2026-11-24T12:00:00+00:00"))


def parse_needed_instant(name: str, value: object) -> datetime:
    if (at := parse_instant(name, value)) is None:
        raise InvalidInput(name, _("an instant is needed"))
    return at


def parse_row_number(name: str, value: object) -> int:
    if (number := parse_whole(name, value)) is None:
        raise InvalidInput(name, _("a whole number is needed"))
    return number


def parse_flag(name: str, value: object) -> bool:
    if type(value) is bool:
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise InvalidInput(name, _("true or false is needed"))


def parse_uuid(name: str, value: object) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(parse_text(name, value))
    except ValueError as error:
        raise InvalidInput(name, _("an id such as 8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52 is needed")) from error


def parse_arguments(name: str, value: object) -> JSONObject | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidInput(name, _("an object of names and values is needed"))
    return value


def parse_list(name: str, value: object) -> JSONList | None:
    if value is None or isinstance(value, list):
        return value
    raise InvalidInput(name, _("a list of values is needed"))


PARSERS: dict[Any, Callable[[str, object], object]] = {
    str: parse_text,
    str | None: parse_optional_text,
    Secret: parse_secret,
    Secret | None: parse_optional_secret,
    int: parse_row_number,
    int | None: parse_whole,
    bool: parse_flag,
    float | None: parse_number,
    datetime: parse_needed_instant,
    datetime | None: parse_instant,
    UUID: parse_uuid,
    JSONObject | None: parse_arguments,
    JSONList | None: parse_list,
}
