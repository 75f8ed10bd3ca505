"""API documentation: the OpenAPI description as a table of operations and a page for each noun."""

import re
from typing import NamedTuple

from flask import render_template, request
from flask.typing import ResponseReturnValue
from markupsafe import Markup, escape

from admin.api.openapi import ABOUT, build_spec
from admin.auth.access import requires_role
from admin.forms.list_filters import read_choice
from admin.operations.schemas import Schema
from admin.pages.blueprint import blueprint


class Field(NamedTuple):
    """A parameter or property. `place`: path, query, header, body."""

    name: str
    place: str
    kind: str
    required: bool
    description: str


class Operation(NamedTuple):
    """`answer`: the response type of each status."""

    method: str
    path: str
    noun: str
    summary: str
    description: str
    role: str
    fields: list[Field]
    answer: str


class Shape(NamedTuple):
    """An object type in responses."""

    name: str
    fields: list[Field]


@blueprint.get("/api/docs")
@requires_role("viewer")
def api_docs() -> ResponseReturnValue:
    described = build_spec()
    nouns = [tag["name"] for tag in described["tags"]]
    about = read_choice("about", ["", *nouns])
    documented = [
        build_operation(method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    shown = [operation for operation in documented if operation.noun == about]
    return render_template(
        "system/api_docs.html",
        nouns=nouns,
        about=about,
        introduction=ABOUT.split("\n\n"),
        operations=shown or documented,
        shapes=used_schemas(shown, described["components"]["schemas"]),
        host=request.host_url.rstrip("/"),
    )


@blueprint.app_template_filter("code_in_text")
def mark_code(text: str) -> Markup:
    """Mark text between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(" ".join(text.split())))))


def build_operation(method: str, path: str, operation: Schema) -> Operation:
    fields = [
        Field(
            parameter["name"],
            parameter["in"],
            schema_text(parameter["schema"]),
            parameter["required"],
            parameter.get("description", ""),
        )
        for parameter in operation.get("parameters", [])
    ]
    fields += schema_fields(content_schema(operation.get("requestBody", {})), "body")
    statuses = [status for status in operation["responses"] if status.startswith("2")]
    answers = [schema_text(content_schema(operation["responses"][status])) for status in statuses]
    return Operation(
        method,
        path,
        operation["tags"][0],
        operation["summary"],
        operation.get("description", ""),
        operation["x-role"],
        fields,
        "; ".join(f"{status}: {words}" for status, words in zip(statuses, answers, strict=True)),
    )


def content_schema(part: Schema) -> Schema:
    return part.get("content", {}).get("application/json", {}).get("schema", {})


def schema_fields(schema: Schema, location: str) -> list[Field]:
    required = schema.get("required", [])
    return [
        Field(name, location, schema_text(property_schema), name in required, property_schema.get("description", ""))
        for name, property_schema in schema.get("properties", {}).items()
    ]


def schema_text(schema: Schema) -> str:
    """Return a schema as short text."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(str(value) or '""' for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(map(schema_text, schema["anyOf"]))
    return type_in_words(schema, schema.get("type", "any value"))


def type_in_words(schema: Schema, kind: str | list[str]) -> str:
    if kind == "array":
        return f"list of {schema_text(schema.get('items', {}))}"
    if kind == "object" and "properties" in schema:
        return f"{{{', '.join(f'{name}: {schema_text(value)}' for name, value in schema['properties'].items())}}}"
    words = schema.get("format") or (kind if isinstance(kind, str) else " | ".join(kind))
    limits = [schema[name] for name in ("minimum", "maximum") if name in schema]
    return f"{words} {limits[0]} to {limits[1]}" if len(limits) == 2 and "null" not in kind else words


def used_schemas(operations: list[Operation], schemas: Schema) -> list[Shape]:
    """Return the schemas that these operations return, including nested ones."""
    pending, shapes = [operation.answer for operation in operations], {}
    while pending:
        text = pending.pop()
        for name in schemas:
            if name in text.replace("|", " ").replace(":", " ").replace("}", " ").split() and name not in shapes:
                shapes[name] = Shape(name, schema_fields(schemas[name], "answer"))
                pending += [field.kind for field in shapes[name].fields]
    return sorted(shapes.values())
