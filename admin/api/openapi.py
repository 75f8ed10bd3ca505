"""The description of the JSON API (OpenAPI 3.1), made from the same tables as the API itself."""

import inspect
import re
from functools import cache
from typing import Any

from flask import Response

from admin.api.blueprint import blueprint
from admin.api.cleanup_spec import LETTER
from admin.api.idempotency import HEADER, PATTERN
from admin.api.routes import BASE, in_json, rule_of
from admin.auth.access import needs
from admin.auth.identity import ROLES
from admin.forms.list_filters import LONGEST
from admin.operations.arguments import LARGEST
from admin.operations.queries import READS, Read
from admin.operations.registry import ACTIONS, Action
from admin.operations.schemas import Schema, Schemas
from config import QUEUES
from engine.monitor.registered_tasks import registered
from tasks import queues

ABOUT = """Every question and every command of the console, with the same rights and the same audit.

Roles: a viewer sees, an operator runs and closes, an admin also deletes and makes people and tokens; each operation
names its own as `x-role`. Lists go on where `next` points. Errors are `application/problem+json` (RFC 9457); 422 names
the `field`. A write that carries an `Idempotency-Key` is done once in 24 hours, and a repeat gets the first answer."""

#: What a parameter of this name may be, wherever it stands.
WORDS: dict[str, Schema] = {"queue": {"enum": list(QUEUES)}, "role": {"enum": list(ROLES)}}

PROBLEM: Schema = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "Which value cannot be used."},
        "reasons": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["type", "title", "status", "detail"],
}

ASKING = (401, 403, 404, 414, 422, 503)
DOING = (400, 401, 403, 404, 409, 413, 414, 415, 422, 503)


@blueprint.get("/api/openapi.json")
@needs("viewer")
def description() -> Response:
    return in_json(spec())


@cache
def spec() -> dict[str, Any]:
    schemas, paths = Schemas(), dict[str, Any]()
    for read in READS.values():
        paths.setdefault(f"{BASE}{read.path}", {})["get"] = asked(read, schemas)
    for action in ACTIONS.values():
        path = re.sub(r"<(?:int:)?(\w+)>", r"{\1}", rule_of(action))
        paths.setdefault(path, {})["post"] = done(action, schemas)
    for path, method, role, operation in LETTER:
        own = {**operation, "x-role": role, "tags": ["reading-sessions"]}
        if method == "post":
            own["parameters"] = [KEY]
        own["responses"] = {**operation["responses"], **problems(DOING if method == "post" else ASKING)}
        paths.setdefault(path, {})[method] = own
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dewey", "version": "1", "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"browser": []}],
        "tags": [{"name": name} for name in sorted({tag for one in operations(paths) for tag in one["tags"]})],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {**dict(sorted(schemas.named.items())), "Problem": PROBLEM},
            "responses": {f"Problem{status}": problem(status) for status in sorted({*ASKING, *DOING})},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "browser": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "dewey",
                    "description": "A signed-in browser; its writes carry the form's token as `X-CSRFToken`.",
                },
            },
        },
    }


def operations(paths: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in paths.values() for operation in methods.values()]


# --- questions -----------------------------------------------------------------------------------------------


def asked(read: Read, schemas: Schemas) -> dict[str, Any]:
    hints = read.hints
    in_path = [
        parameter(name, "path", schema_in_path(name, hints[name], schemas), required=True) for name in read.in_path
    ]
    in_query = []
    for name, kind in read.in_query.items():
        schema = schemas.of(kind)
        told = schema.pop("description", None)
        if schema.get("type") == "string" and "enum" not in schema:
            schema = {"maxLength": LONGEST, **schema}
        schema = {"enum": schema["enum"]} if "enum" in schema else schema
        default = read.default(name)
        schema |= {"default": default} if default else {}
        in_query.append(parameter(name, "query", schema) | ({"description": told} if told else {}))
    return {
        "operationId": read.name,
        "tags": [read.noun],
        **in_words(read.doc),
        "x-role": read.role,
        "parameters": [*in_path, *in_query],
        "responses": {"200": answer(schemas.of(hints["return"])), "304": {"description": "As it was."}}
        | problems(ASKING),
    }


# --- commands ------------------------------------------------------------------------------------------------


def done(action: Action, schemas: Schemas) -> dict[str, Any]:
    subject = action.subject
    in_path = []
    if subject:
        schema = schema_in_path(subject.name, subject.annotation, schemas)
        in_path = [parameter(subject.name, "path", schema, required=True)]
    fields = {one.name: one for one in action.parameters if one.name != (subject and subject.name)}
    required = [name for name, one in fields.items() if one.default is one.empty]
    body = {
        "type": "object",
        "properties": {name: schema_of(one, schemas) for name, one in fields.items()},
        "required": required,
        "additionalProperties": False,
    }
    return {
        "operationId": action.name,
        "tags": [action.noun],
        **in_words(action.doc),
        "x-role": action.role,
        "x-danger": action.danger,
        "parameters": [*in_path, KEY],
        **({"requestBody": {"required": bool(required), **in_json_of(body)}} if fields else {}),
        "responses": {"200": {"description": "Done.", **in_json_of(result_of(action, schemas))}} | problems(DOING),
    }


def schema_in_path(name: str, kind: Any, schemas: Schemas) -> Schema:
    if kind is int:
        return {"type": "integer", "minimum": 0, "maximum": LARGEST}
    if name in ("name", "task"):  # of a schedule it is `task`
        known = [one.name for one in registered(queues) if name == "name" or one.periodic]
        return {"type": "string", "minLength": 1, "examples": known}
    return WORDS.get(name) or {**schemas.of(kind), **({"minLength": 1} if kind is str else {})}


def schema_of(one: inspect.Parameter, schemas: Schemas) -> Schema:
    schema = schemas.of(one.annotation)
    if one.name in WORDS:
        return WORDS[one.name]
    if one.annotation in (int, int | None, float | None):
        schema |= {"minimum": -LARGEST, "maximum": LARGEST}
    if one.annotation in (str, str | None):
        schema |= {"pattern": r"^[^\x00]*$"}
    return schema


def result_of(action: Action, schemas: Schemas) -> Schema:
    """`Outcome[bool]` → an object with a boolean `result`; a bare Outcome says nothing of it."""
    hint = inspect.get_annotations(action.function, eval_str=True).get("return")
    (kind,) = getattr(hint, "__args__", (Any,))
    return {
        "type": "object",
        "properties": {"result": schemas.of(kind)},
        "required": ["result"],
        "additionalProperties": False,
    }


# --- pieces --------------------------------------------------------------------------------------------------

KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": PATTERN},
    "description": "A name for this request, for it to be done once however often it is sent.",
}


def in_words(doc: str) -> dict[str, str]:
    first, _blank, rest = doc.partition("\n\n")
    return {"summary": " ".join(first.split())} | ({"description": rest} if rest else {})


def parameter(name: str, place: str, schema: Schema, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def answer(schema: Schema) -> dict[str, Any]:
    return {"description": "The answer.", "headers": {"ETag": {"schema": {"type": "string"}}}, **in_json_of(schema)}


def in_json_of(schema: Schema) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def problems(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in statuses}


def problem(status: int) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": str(WHY[status]), "content": content}


WHY = {
    400: "What was sent cannot be understood.",
    401: "No valid token or sign-in.",
    403: "The role is too low.",
    404: "There is nothing of this name.",
    409: "It is not possible now.",
    413: "More than 1 MB.",
    414: "An address of more than 8 KB.",
    415: "Not JSON.",
    422: "A value cannot be used; `field` names it.",
    503: "The database, the broker or a worker is away.",
}
