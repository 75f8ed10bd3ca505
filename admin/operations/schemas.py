"""JSON Schemas of the program's types, and JSON data of their values."""

import types
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import peewee
from msgspec import Meta, Struct, defstruct
from msgspec.json import schema_components

from engine.control.runs import Result
from engine.database import JSONTextField, UTCDateTimeField

Schema = dict[str, Any]

#: The first match counts.
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
    """The schema of `Result`: an enqueued run."""

    run_id: str


class Schemas:
    """JSON Schemas of types. Named ones are collected in `named` and referenced."""

    def __init__(self, where: str = "#/components/schemas/") -> None:
        self.ref_template, self.named = f"{where}{{name}}", dict[str, Schema]()

    def of(self, kind: Any) -> Schema:
        (schema,), named = schema_components([as_struct(kind)], ref_template=self.ref_template)
        self.named |= {name: short_form(definition) for name, definition in named.items()}
        return dict(short_form(schema))


def as_struct(kind: Any) -> Any:
    """Return the type for msgspec: records as structs, which it would read as lists, and schemas as Meta."""
    if origin := get_origin(kind):
        return generic(origin, get_args(kind))
    if supertype := getattr(kind, "__supertype__", None):  # a NewType
        return Annotated[supertype, Meta(extra_json_schema={"format": "password"})]
    if kind is datetime:
        return Annotated[datetime, Meta(tz=True)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return choice([member.value for member in kind])
    if isinstance(kind, type) and (kind is Result or is_record(kind)):
        return struct(Handle if kind is Result else kind)
    return kind


def generic(origin: Any, args: tuple[Any, ...]) -> Any:
    if origin is Annotated:
        return Annotated[(as_struct(args[0]), *(Meta(extra_json_schema=dict(schema)) for schema in args[1:]))]
    if origin is Literal:
        return choice(args)
    if origin in (Union, types.UnionType):
        return reduce(or_, map(as_struct, args))
    return origin[tuple(map(as_struct, args))]


def choice(values: Sequence[Any]) -> Any:
    """Return the type of one of these values in this order. msgspec would sort a Literal."""
    return Annotated[type(values[0]), Meta(extra_json_schema={"enum": list(values)})]


@cache
def struct(record: type) -> type[Struct]:
    fields = column_schemas(record) if issubclass(record, peewee.Model) else get_type_hints(record, include_extras=True)
    return defstruct(
        record.__name__.lstrip("_"),
        [(name, as_struct(kind)) for name, kind in fields.items()],
        forbid_unknown_fields=True,
    )


def short_form(schema: Any) -> Any:
    """Return the schema without titles and with a list of types in place of plain options."""
    if isinstance(schema, list):
        return [short_form(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    short = {key: short_form(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    options = short.get("anyOf", [])
    if options and all(set(option) == {"type"} for option in options):
        return {"type": [option["type"] for option in options]}
    return short


def is_record(kind: type) -> bool:
    """True for a class with named and typed fields: a NamedTuple or a table."""
    return issubclass(kind, peewee.Model) or (issubclass(kind, tuple) and hasattr(kind, "_fields")) or kind is Handle


def column_schemas(model: type[peewee.Model]) -> dict[str, Any]:
    fields = {}
    for field in model._meta.sorted_fields:
        kind = next((kind for column, kind in COLUMNS if isinstance(field, column)), str)
        fields[field.name] = kind | None if field.null and kind is not Any else kind
    return fields


def to_data(value: Any) -> Any:
    """Return JSON data: times in ISO 8601 with offset, records as objects, an enqueued run as its id."""
    if isinstance(value, Result):
        return {"run_id": value.id}
    if isinstance(value, peewee.Model):
        return to_data(value.__data__)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_data(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): to_data(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_data(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def row_data(record: Any, shape: Any) -> list[Any]:
    """Return the values of the fields that `shape` has, in its order."""
    return [getattr(record, name) for name in shape._fields]
