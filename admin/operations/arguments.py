"""Parse arguments of actions from JSON, forms and the terminal."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NewType
from uuid import UUID

from flask_babel import gettext as _

from admin.problems import InvalidInput

#: A parameter that is never shown, stored or logged.
Secret = NewType("Secret", str)

#: Parsed JSON.
JSONObject = dict[str, Any]
JSONList = list[Any]

#: Most characters of a text, such as a reason, a name or an id.
MAX_TEXT = 500

#: Largest absolute value that both databases and the broker can store.
MAX_INTEGER = 999_999_999


def parse_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(name, _("must be text"))
    if "\0" in value:
        raise InvalidInput(name, _("must not contain NUL characters"))
    if len(value) > MAX_TEXT:
        raise InvalidInput(name, _("must be at most %(most)s characters long", most=MAX_TEXT))
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
    raise InvalidInput(name, _("must be a whole number"))


def parse_number(name: str, value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and type(value) is not bool and abs(value) <= MAX_INTEGER):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,6})?", value):
        return float(value)
    raise InvalidInput(name, _("must be a number"))


def parse_instant(name: str, value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        if at is None or (isinstance(at, datetime) and at.tzinfo):
            return at and at.astimezone(UTC)
    except (ValueError, OverflowError):  # outside years 1 to 9999 in UTC
        pass
    raise InvalidInput(name, _("must be a time with an offset, such as 2026-11-24T12:00:00+00:00"))


def parse_needed_instant(name: str, value: object) -> datetime:
    if (at := parse_instant(name, value)) is None:
        raise InvalidInput(name, _("must be a time"))
    return at


def parse_row_number(name: str, value: object) -> int:
    if (number := parse_whole(name, value)) is None:
        raise InvalidInput(name, _("must be a whole number"))
    return number


def parse_flag(name: str, value: object) -> bool:
    if type(value) is bool:
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise InvalidInput(name, _("must be true or false"))


def parse_uuid(name: str, value: object) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(parse_text(name, value))
    except ValueError as error:
        raise InvalidInput(name, _("must be an id such as 8b6ed5c7-2a4f-4d57-9f0a-5a4f7c1f3b52")) from error


def parse_arguments(name: str, value: object) -> JSONObject | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidInput(name, _("must be a JSON object"))
    return value


def parse_list(name: str, value: object) -> JSONList | None:
    if value is None or isinstance(value, list):
        return value
    raise InvalidInput(name, _("must be a list"))


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
