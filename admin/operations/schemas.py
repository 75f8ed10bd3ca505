"""What values look like: a type of the program as a JSON Schema, and a value of it as JSON has it."""

import types
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import peewee

from engine.control.runs import Result
from engine.database import JSONTextField, UTCDateTimeField

Schema = dict[str, Any]

PLAIN: dict[Any, Schema] = {
    Any: {},
    None: {"type": "null"},
    type(None): {"type": "null"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    UUID: {"type": "string", "format": "uuid"},
    dict: {"type": "object"},
    list: {"type": "array"},
}

#: The first that a column is an instance of counts.
COLUMNS: tuple[tuple[type[peewee.Field], Any], ...] = (
    (JSONTextField, Any),
    (UTCDateTimeField, datetime),
    (peewee.UUIDField, UUID),
    (peewee.BooleanField, bool),
    (peewee.IntegerField, int),
    (peewee.AutoField, int),
    (peewee.DoubleField, float),
)


class Handle:
    """Stands for `Result` in schemas: what is told of a run that was enqueued."""

    run_id: str


class Schemas:
    """JSON Schemas of types; those that have a name are gathered in `named`, and referred to."""

    def __init__(self, where: str = "#/components/schemas/") -> None:
        self.where, self.named = where, dict[str, Schema]()

    def of(self, kind: Any) -> Schema:
        origin, args = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return {**self.of(args[0]), **{name: value for more in args[1:] for name, value in more.items()}}
        if supertype := getattr(kind, "__supertype__", None):  # a NewType
            return {**self.of(supertype), "format": "password"}
        if isinstance(kind, type) and (kind is Result or is_record(kind)):
            return self.named_one(Handle if kind is Result else kind)
        if kind in PLAIN:
            return dict(PLAIN[kind])
        if origin is Literal:
            return {"enum": list(args)}
        if origin in (Union, types.UnionType):
            return self.either([self.of(one) for one in args])
        if origin is list:
            return {"type": "array", "items": self.of(args[0])}
        if origin in (dict, Mapping) or getattr(origin, "__name__", "") == "Counter":
            return {"type": "object", "additionalProperties": self.of(args[-1]) if len(args) > 1 else {}}
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"enum": [str(one.value) for one in kind]}
        raise TypeError(f"{kind} has no JSON Schema here")

    def either(self, options: list[Schema]) -> Schema:
        if all(set(one) == {"type"} and isinstance(one["type"], str) for one in options):
            return {"type": [one["type"] for one in options]}
        return {} if {} in options else {"anyOf": options}

    def named_one(self, kind: type) -> Schema:
        name = kind.__name__.lstrip("_")
        if name not in self.named:
            self.named[name] = {}  # for those that hold themselves
            fields = columns(kind) if issubclass(kind, peewee.Model) else get_type_hints(kind, include_extras=True)
            self.named[name] = {
                "type": "object",
                "properties": {field: self.of(one) for field, one in fields.items()},
                "required": list(fields),
                "additionalProperties": False,
            }
        return {"$ref": f"{self.where}{name}"}


def is_record(kind: type) -> bool:
    """Whether it is a class whose fields have names and types: a NamedTuple or a table."""
    return issubclass(kind, peewee.Model) or (issubclass(kind, tuple) and hasattr(kind, "_fields")) or kind is Handle


def columns(model: type[peewee.Model]) -> dict[str, Any]:
    fields = {}
    for field in model._meta.sorted_fields:
        kind = next((kind for one, kind in COLUMNS if isinstance(field, one)), str)
        fields[field.name] = kind | None if field.null and kind is not Any else kind
    return fields


def as_data(value: Any) -> Any:
    """The same as JSON has it: instants in ISO 8601 with offset, records as objects, a run's handle as its id."""
    if isinstance(value, Result):
        return {"run_id": value.id}
    if isinstance(value, peewee.Model):
        return as_data(value.__data__)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return as_data(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): as_data(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_data(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def row_of(record: Any, shape: Any) -> list[Any]:
    """Its columns, those that are nobody's business left out."""
    return [getattr(record, name) for name in shape._fields]
