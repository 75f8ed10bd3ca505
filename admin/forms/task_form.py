"""A form for the arguments of a task: an earlier call goes in as texts, what was typed comes out as arguments."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from flask_babel import gettext as _

from admin.forms.fields import JSON_KINDS, MISSING, VARIADIC, Field, text_of
from admin.problems import BadInput

#: A value whose text is longer than this is not put into a form; it can be kept as it is.
LONGEST_VALUE = 4000


class Arguments(NamedTuple):
    """As they are enqueued."""

    args: list[Any]
    kwargs: dict[str, Any]


class Filled(NamedTuple):
    """The texts and values of an earlier call, by parameter; and what it was given that the task does not take now."""

    texts: dict[str, str]
    values: dict[str, Any]
    left_over: dict[str, Any]

    def is_long(self, name: str) -> bool:
        return len(self.texts.get(name, "")) > LONGEST_VALUE


# --- values → texts ------------------------------------------------------------------------------------------


def filled(form: Sequence[Field], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Filled:
    """The form as an earlier call would have filled it in."""
    values: dict[str, Any] = {}
    left_over: dict[str, Any] = {}
    in_order, named = [one for one in form if one.kind not in VARIADIC.values()], {one.name: one for one in form}
    by_kind = {one.kind: one for one in form}
    values |= {field.name: value for field, value in zip(in_order, args, strict=False)}
    if rest := list(args[len(in_order) :]):
        place, name = (values, by_kind["args"].name) if "args" in by_kind else (left_over, "*")
        place[name] = rest
    for name, value in kwargs.items():
        if name in named and named[name].kind not in VARIADIC.values():
            values[name] = value
        elif "kwargs" in by_kind:
            values.setdefault(by_kind["kwargs"].name, {})[name] = value
        else:
            left_over[name] = value
    return Filled({name: text_of(named[name], value) for name, value in values.items()}, values, left_over)


# --- texts → values ------------------------------------------------------------------------------------------


def parse(form: Sequence[Field], given: Mapping[str, str], kept: Mapping[str, Any] | None = None) -> Arguments:
    """What was typed, as arguments. `kept`: values that go on unseen where `keep.<name>` is sent instead of a text.

    Raises BadInput, whose field is the parameter.
    """
    values = {}
    for field in form:
        value = (kept or {}).get(field.name, MISSING) if f"keep.{field.name}" in given else read(field, given)
        if value is not MISSING:
            values[field.name] = value
    return arranged(form, values)


def read(field: Field, given: Mapping[str, str]) -> Any:
    """The value of a field; MISSING for one that is left to its default."""
    text = given.get(field.key, "").replace("\r\n", "\n")
    empty = not text.strip()
    if field.kind == "text" and field.key in given and not (empty and field.optional):
        return text
    if empty:
        if field.optional and field.key in given and field.kind not in JSON_KINDS:
            return None
        if field.required:
            raise BadInput(field.name, _("a value is needed"))
        return MISSING
    return READERS[field.kind](field, text.strip())


def arranged(form: Sequence[Field], values: dict[str, Any]) -> Arguments:
    """By name, as far as the signature allows: what stands before further positional values goes without."""
    args: list[Any] = []
    kwargs = dict(values)
    further = next((kwargs.pop(one.name, None) for one in form if one.kind == "args"), None) or []
    for field in form:
        if field.kind == "args":
            break
        if field.kind != "kwargs" and (field.positional or further):
            value = kwargs.pop(field.name, field.default)
            if value is MISSING:
                raise BadInput(field.name, _("a value is needed"))
            args.append(value)
    for field in form:
        if field.kind == "kwargs":
            named = kwargs.pop(field.name, {})
            if twice := next((name for name in named if any(name == one.name for one in form)), None):
                raise BadInput(field.name, _("%(name)s has a field of its own", name=twice))
            kwargs |= named
    return Arguments([*args, *further], kwargs)


def read_int(field: Field, text: str) -> int:
    try:
        value = int(text) if text.isascii() and "_" not in text else None
    except ValueError:
        value = None
    if value is None:
        raise BadInput(field.name, _("a whole number is needed"))
    if not -(2**63) <= value < 2**63:
        raise BadInput(field.name, _("the number is too large"))
    return value


def read_float(field: Field, text: str) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(field.name, _("a number is needed"))
    return value


def read_bool(field: Field, text: str) -> bool:
    if text not in ("true", "false"):
        raise BadInput(field.name, _("yes or no is needed"))
    return text == "true"


def read_choice(field: Field, text: str) -> Any:
    for choice in field.choices:
        if text == text_of(field, choice):
            return choice
    raise BadInput(field.name, _("one of %(choices)s is needed", choices=", ".join(field.choices_as_text)))


def read_list(field: Field, text: str) -> Any:
    value = read_json(field, text)
    if not isinstance(value, list) and not (value is None and field.optional):
        raise BadInput(field.name, _("a JSON list is needed, such as [1, 2]"))
    return value


def read_dict(field: Field, text: str) -> Any:
    value = read_json(field, text)
    if not isinstance(value, dict) and not (value is None and field.optional):
        raise BadInput(field.name, _('a JSON object is needed, such as {"name": 1}'))
    return value


def read_any(field: Field, text: str) -> Any:
    try:
        return from_json(text)
    except json.JSONDecodeError:
        return text
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(field.name, _("no message can carry this value")) from error


def read_json(field: Field, text: str) -> Any:
    try:
        return from_json(text)
    except json.JSONDecodeError as error:
        place = {"line": error.lineno, "column": error.colno}
        raise BadInput(field.name, _("this is no JSON: line %(line)s, column %(column)s", **place)) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(field.name, _("no message can carry this value")) from error


def from_json(text: str) -> Any:
    """Raises JSONDecodeError for what is no JSON, ValueError or TypeError for what a message cannot carry."""
    value = json.loads(text, parse_constant=no_constant)
    orjson.dumps(value)
    return value


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


READERS = {
    "int": read_int, "float": read_float, "bool": read_bool, "choice": read_choice,
    "list": read_list, "args": read_list, "dict": read_dict, "kwargs": read_dict, "any": read_any,
    "text": lambda field, text: text,
}  # fmt: skip
