"""A form for a task's arguments: texts from an earlier call, arguments from typed texts."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import orjson
from flask_babel import gettext as _

from admin.forms.fields import JSON_KINDS, MISSING, VARIADIC, Field, field_text
from admin.problems import InvalidInput

#: A longer value is not editable in the form. It can be kept unchanged.
MAX_VALUE_LENGTH = 4000


class Arguments(NamedTuple):
    args: list[Any]
    kwargs: dict[str, Any]


class Prefill(NamedTuple):
    """Texts and values of an earlier call by parameter. `left_over`: values that the task no longer accepts."""

    texts: dict[str, str]
    values: dict[str, Any]
    left_over: dict[str, Any]

    def is_long(self, name: str) -> bool:
        return len(self.texts.get(name, "")) > MAX_VALUE_LENGTH


# --- values → texts ------------------------------------------------------------------------------------------


def prefill(form: Sequence[Field], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Prefill:
    """Return the form filled with the arguments of an earlier call."""
    in_order = {field.name: field for field in form if field.kind not in VARIADIC.values()}
    variadic = {field.kind: field.name for field in form if field.kind in VARIADIC.values()}
    values: dict[str, Any] = dict(zip(in_order, args, strict=False))
    left_over: dict[str, Any] = {}
    if rest := list(args[len(in_order) :]):
        target, name = (values, variadic["args"]) if "args" in variadic else (left_over, "*")
        target[name] = rest
    for name, value in kwargs.items():
        if name in in_order:
            values[name] = value
        elif "kwargs" in variadic:
            values.setdefault(variadic["kwargs"], {})[name] = value
        else:
            left_over[name] = value
    by_name = {field.name: field for field in form}
    return Prefill({name: field_text(by_name[name], value) for name, value in values.items()}, values, left_over)


# --- texts → values ------------------------------------------------------------------------------------------


def parse_form(form: Sequence[Field], texts: Mapping[str, str], kept: Mapping[str, Any] | None = None) -> Arguments:
    """Return the typed arguments. `kept`: values to use for a parameter if `keep.<name>` is sent instead of a text, or
    if the field of a secret is left empty.

    Raises InvalidInput with the parameter as field.
    """
    values = {}
    for field in form:
        old_value = (kept or {}).get(field.name, MISSING)
        is_kept = f"keep.{field.name}" in texts or (
            field.secret and old_value is not MISSING and is_empty(field, texts)
        )
        value = old_value if is_kept else parse_field(field, texts)
        if value is not MISSING:
            values[field.name] = value
    return bind_arguments(form, values)


def parse_field(field: Field, texts: Mapping[str, str]) -> Any:
    """Return the value of a field, MISSING to use its default. Raises InvalidInput."""
    text = texts.get(field.key, "").replace("\r\n", "\n")
    empty = is_empty(field, texts)
    if field.kind == "text" and field.key in texts and not (empty and (field.optional or field.secret)):
        return text
    if empty:
        if field.optional and field.key in texts and field.kind not in JSON_KINDS and not field.secret:
            return None
        if field.required:
            raise InvalidInput(field.name, _("must be given"))
        return MISSING
    return PARSERS[field.kind](field, text.strip())


def is_empty(field: Field, texts: Mapping[str, str]) -> bool:
    return not texts.get(field.key, "").strip()


def bind_arguments(form: Sequence[Field], values: dict[str, Any]) -> Arguments:
    """Return the arguments by name where possible. Those before further positional values are positional."""
    further = [value for field in form if field.kind == "args" for value in values.get(field.name) or []]
    before = takewhile(lambda field: field.kind not in VARIADIC.values(), form)  # parameters after *args are named
    in_order = [field for field in before if field.positional or further]
    args = [value_in_order(field, values) for field in in_order]
    taken = {field.name for field in form if field in in_order or field.kind in VARIADIC.values()}
    kwargs = {name: value for name, value in values.items() if name not in taken}
    return Arguments([*args, *further], kwargs | named_values(form, values))


def value_in_order(field: Field, values: Mapping[str, Any]) -> Any:
    value = values.get(field.name, field.default)
    if value is MISSING:
        raise InvalidInput(field.name, _("must be given"))
    return value


def named_values(form: Sequence[Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the further named values. Raises InvalidInput for a name that has its own field."""
    names = {field.name for field in form}
    further: dict[str, Any] = {}
    for field in form:
        if field.kind == "kwargs":
            further = values.get(field.name, {})
            if twice := next((name for name in further if name in names), None):
                raise InvalidInput(field.name, _("must not contain %(name)s, which has its own field", name=twice))
    return further


def parse_int(field: Field, text: str) -> int:
    try:
        value = int(text) if text.isascii() and "_" not in text else None
    except ValueError:
        value = None
    if value is None:
        raise InvalidInput(field.name, _("must be a whole number"))
    if not -(2**63) <= value < 2**63:
        raise InvalidInput(field.name, _("must be between -2^63 and 2^63 - 1"))
    return value


def parse_float(field: Field, text: str) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInput(field.name, _("must be a number"))
    return value


def parse_bool(field: Field, text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidInput(field.name, _("must be yes or no"))
    return text == "true"


def parse_choice(field: Field, text: str) -> Any:
    for choice in field.choices:
        if text == field_text(field, choice):
            return choice
    raise InvalidInput(field.name, _("must be one of %(choices)s", choices=", ".join(field.choices_as_text)))


def parse_list(field: Field, text: str) -> Any:
    value = parse_json(field, text)
    if not isinstance(value, list) and not (value is None and field.optional):
        raise InvalidInput(field.name, _("must be a JSON list such as [1, 2]"))
    return value


def parse_dict(field: Field, text: str) -> Any:
    value = parse_json(field, text)
    if not isinstance(value, dict) and not (value is None and field.optional):
        raise InvalidInput(field.name, _('must be a JSON object such as {"name": 1}'))
    return value


def parse_any(field: Field, text: str) -> Any:
    try:
        return decode_json(text)
    except json.JSONDecodeError:
        return text
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(field.name, _("must be serialisable as JSON")) from error


def parse_json(field: Field, text: str) -> Any:
    try:
        return decode_json(text)
    except json.JSONDecodeError as error:
        place = {"line": error.lineno, "column": error.colno}
        raise InvalidInput(
            field.name, _("must be valid JSON: error in line %(line)s, column %(column)s", **place)
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(field.name, _("must be serialisable as JSON")) from error


def decode_json(text: str) -> Any:
    """Return the value. Raises JSONDecodeError, or ValueError and TypeError for values that no message can store."""
    value = json.loads(text, parse_constant=reject_constant)
    orjson.dumps(value)
    return value


def reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


PARSERS: dict[str, Callable[[Field, str], Any]] = {
    "int": parse_int, "float": parse_float, "bool": parse_bool, "choice": parse_choice,
    "list": parse_list, "args": parse_list, "dict": parse_dict, "kwargs": parse_dict, "any": parse_any,
    "text": lambda field, text: text,
}  # fmt: skip
