"""The table of queries. The JSON API and the terminal are generated from it. Pages use the same functions.

A query is a function with typed parameters: those of its path, and those of the query string, which have defaults. Its
return type is the schema in the API description. The parameter `before` or `after` is the cursor of a list. Its value
for the next page is `next` in the answer.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlencode
from uuid import UUID

from flask_babel import gettext as _
from werkzeug.datastructures import MultiDict

from admin.forms.list_filters import MAX_LENGTH
from admin.operations.arguments import parse_row_number, parse_uuid
from admin.operations.schemas import Schema, to_data
from admin.problems import InvalidInput, to_http_error
from engine.control.arguments import unknown_parameter

#: Most rows in one answer.
MAX_LIMIT = 200
Limit = Annotated[int, {"minimum": 1, "maximum": MAX_LIMIT}]
Cursor = Annotated[str, {"description": "The start of the page: `next` of the previous answer."}]

QueryFunction = TypeVar("QueryFunction", bound=Callable[..., object])


@dataclass(frozen=True)
class Query:
    """`filters`: schemas of the parameters that the function reads from the request. `columns`: those that the terminal
    prints.
    """

    name: str  # noun.verb
    path: str  # below the API's own, with {names} in it
    role: str
    filters: Mapping[str, Schema]
    columns: Sequence[str]
    function: Callable[..., object]

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def noun(self) -> str:
        return self.name.partition(".")[0]

    @property
    def verb(self) -> str:
        return self.name.partition(".")[2]

    @property
    def hints(self) -> dict[str, object]:
        return get_type_hints(self.function, include_extras=True)

    @property
    def path_params(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def query_params(self) -> dict[str, object]:
        """Return the parameters with their types. A filter has the type text."""
        own = {name: kind for name, kind in self.hints.items() if name not in ("return", *self.path_params)}
        return {name: Annotated[str, schema] for name, schema in self.filters.items()} | own

    def default(self, name: str) -> object:
        parameter = inspect.signature(self.function).parameters.get(name)
        return parameter.default if parameter else None

    @property
    def cursor(self) -> str | None:
        return next((name for name in ("before", "after") if name in self.query_params), None)

    def run(self, in_path: Mapping[str, str], query: "MultiDict[str, str]") -> Any:
        """Return the answer as JSON data. Raises InvalidInput and what the function raises."""
        for name in query:
            if name not in self.query_params:
                raise to_http_error(unknown_parameter(name, self.name, self.query_params))
        hints = self.hints
        arguments = {name: parse_value(name, hints[name], [text]) for name, text in in_path.items()}
        arguments |= {name: parse_value(name, hints[name], query.getlist(name)) for name in query if name in hints}
        for name in query:
            if name in self.filters and len(query.getlist(name)) > 1:
                raise InvalidInput(name, _("must be given only once"))
        return to_data(self.function(**arguments))

    def address(self, base: str, in_path: Mapping[str, str], query: "MultiDict[str, str]", cursor: str) -> str:
        """Return the address of the page that begins at `cursor`."""
        path = re.sub(r"{(\w+)}", lambda match: in_path[match[1]], self.path)
        rest = [(name, value) for name, value in query.items(multi=True) if name != self.cursor]
        return f"{base}{path}?{urlencode([*rest, (str(self.cursor), cursor)])}"


QUERIES: dict[str, Query] = {}


def register_query(
    name: str, path: str, role: str = "viewer", filters: Mapping[str, Schema] | None = None, columns: Sequence[str] = ()
) -> Callable[[QueryFunction], QueryFunction]:
    def declare(function: QueryFunction) -> QueryFunction:
        QUERIES[name] = Query(name, path, role, filters or {}, columns, function)
        return function

    return declare


# --- parameters ----------------------------------------------------------------------------------------------


def parse_value(name: str, kind: object, texts: list[str]) -> object:
    """Return the value of an address parameter in its type. Raises InvalidInput."""
    schema = {}
    if get_origin(kind) is Annotated:
        kind, schema = get_args(kind)[0], get_args(kind)[1]
    if get_origin(kind) is list:
        return [parse_text(name, text, schema) for text in texts]
    if len(texts) != 1:
        raise InvalidInput(name, _("must be given only once"))
    (text,) = texts
    if get_origin(kind) is Literal:
        return parse_choice(name, text, get_args(kind))
    if kind is int:
        return parse_whole(name, text, schema)
    return parse_uuid(name, text) if kind is UUID else parse_text(name, text, schema)


def parse_text(name: str, text: str, schema: Schema) -> str:
    if len(text) > schema.get("maxLength", MAX_LENGTH):
        raise InvalidInput(
            name, _("must be at most %(most)s characters long", most=schema.get("maxLength", MAX_LENGTH))
        )
    return text


def parse_choice(name: str, text: str, allowed: tuple[object, ...]) -> object:
    for value in allowed:
        if text == str(value):
            return value
    raise InvalidInput(name, _("must be one of %(allowed)s", allowed=", ".join(map(str, allowed))))


def parse_whole(name: str, text: str, schema: Schema) -> int:
    value = parse_row_number(name, text)
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    if not low <= value <= high:
        raise InvalidInput(name, _("must be a whole number from %(low)s to %(high)s", low=low, high=high))
    return value
