"""Form fields for a task's arguments, generated from its signature."""

import inspect
import json
import types
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from flask_babel import gettext as _
from msgspec import inspect as shapes

from engine.monitor.registered_tasks import TaskInfo

MISSING: Any = inspect.Parameter.empty

KINDS: dict[type[shapes.Type], str] = {
    shapes.IntType: "int", shapes.FloatType: "float", shapes.BoolType: "bool", shapes.StrType: "text",
    shapes.ListType: "list", shapes.TupleType: "list", shapes.VarTupleType: "list", shapes.SetType: "list",
    shapes.FrozenSetType: "list", shapes.DictType: "dict",
}  # fmt: skip
VARIADIC: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "args", inspect.Parameter.VAR_KEYWORD: "kwargs"}

#: Kinds of fields that contain JSON.
JSON_KINDS = ("list", "dict", "args", "kwargs", "any")


class Field(NamedTuple):
    """A parameter. `kind`: int, float, bool, text, choice, list, dict, any, args (further positional values) or kwargs
    (further named ones). `optional`: None is allowed. `default` is MISSING without one.
    """

    name: str
    kind: str
    required: bool
    optional: bool
    default: Any
    choices: tuple[Any, ...]
    positional: bool  # positional-only
    secret: bool = False  # its value is never sent to the browser

    @property
    def key(self) -> str:
        """The name of the form field."""
        return f"arg.{self.name}"

    @property
    def help(self) -> str:
        words = {
            "int": _("a whole number"),
            "float": _("a number"),
            "bool": _("yes or no"),
            "text": _("text"),
            "choice": _("one of these"),
            "list": _("a JSON list"),
            "dict": _("a JSON object"),
            "any": _("a JSON value. Other input is read as text"),
            "args": _("further values, as a JSON list"),
            "kwargs": _("further named values, as a JSON object"),
        }
        if self.optional and self.kind not in JSON_KINDS:
            return _("%(what)s. Empty: no value", what=words[self.kind])
        return words[self.kind]

    @property
    def choices_as_text(self) -> list[str]:
        return [field_text(self, choice) for choice in self.choices]

    @property
    def start(self) -> str:
        """The initial text of the field."""
        return "" if self.secret or self.default is MISSING else field_text(self, self.default)

    def shown(self, text: str) -> str:
        """Return a typed or recorded text as the page may show it."""
        return "" if self.secret else text


def form_fields(facts: TaskInfo) -> list[Field]:
    is_secret = facts.secret_parameters.has_name
    fields = [build_field(parameter) for parameter in facts.parameters]
    return [field._replace(secret=field.kind != "bool" and is_secret(field.name)) for field in fields]


def build_field(parameter: inspect.Parameter) -> Field:
    if kind := VARIADIC.get(parameter.kind):
        return Field(parameter.name, kind, False, False, [] if kind == "args" else {}, (), False)
    kind, optional, choices = field_kind(parameter.annotation)
    required = parameter.default is MISSING
    positional = parameter.kind == parameter.POSITIONAL_ONLY
    optional = optional or parameter.default is None
    return Field(parameter.name, kind, required, optional, parameter.default, choices, positional)


def field_kind(annotation: Any) -> tuple[str, bool, tuple[Any, ...]]:
    """Return the kind, True if None is allowed, and the choices."""
    if isinstance(annotation, str):
        annotation = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict}.get(annotation)
    origin, members = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        options = [member for member in members if member is not type(None)]
        kind, _optional, choices = field_kind(options[0]) if len(options) == 1 else ("any", False, ())
        return kind, len(options) < len(members), choices
    if origin is Literal:  # msgspec would sort the values
        return "choice", None in members, tuple(member for member in members if member is not None)
    try:
        return KINDS.get(type(shapes.type_info(annotation)), "any"), False, ()
    except TypeError:  # a type unknown to msgspec
        return "any", False, ()


def field_text(field: Field, value: Any) -> str:
    """Return the value as text for the field."""
    if field.kind in JSON_KINDS:
        return json.dumps(value, ensure_ascii=False, default=str)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
