"""The description of the JSON API (OpenAPI 3.1), generated from the tables of queries and actions."""

import inspect
import re
from functools import cache
from typing import Any

from flask import Response

from admin.api.blueprint import blueprint
from admin.api.cleanup_spec import CLEANUP_OPERATIONS
from admin.api.idempotency import HEADER, PATTERN
from admin.api.routes import BASE, action_rule, json_response
from admin.auth.access import requires_role
from admin.auth.identity import ROLES
from admin.forms.list_filters import MAX_LENGTH
from admin.operations.arguments import MAX_INTEGER, MAX_TEXT
from admin.operations.books import AddedBook
from admin.operations.queries import QUERIES, Query
from admin.operations.registry import ACTIONS, Action
from admin.operations.schemas import Schema, Schemas
from config import QUEUES
from engine.monitor.registered_tasks import list_tasks
from tasks import queues

ABOUT = """All queries and actions of the console, with the same roles and audit log.

A viewer reads. An operator also runs, retries, cancels, pauses and closes. An admin also deletes, stops workers and
manages users and tokens. `x-role` is the role of an operation. `next` in a list is the address of the next page. Errors
are `application/problem+json` (RFC 9457). A 422 names the `field`. A write with an `Idempotency-Key` is executed once.
A request that is repeated within 24 hours gets the first response."""

#: Values of parameters with these names.
WORDS: dict[str, Schema] = {"queue": {"enum": list(QUEUES)}, "role": {"enum": list(ROLES)}}

PROBLEM: Schema = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "The name of the invalid value."},
        "reasons": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["type", "title", "status", "detail"],
}

SECURITY_SCHEMES: dict[str, Schema] = {
    "token": {"type": "http", "scheme": "bearer"},
    "browser": {
        "type": "apiKey",
        "in": "cookie",
        "name": "dewey",
        "description": "A signed-in browser. Writes need the CSRF token of a form as `X-CSRFToken`.",
    },
}

QUERY_DESCRIPTION = (401, 403, 404, 414, 422, 429, 503)
ACTION_DESCRIPTION = (400, 401, 403, 404, 409, 413, 414, 415, 422, 429, 503)


@blueprint.get("/api/openapi.json")
@requires_role("viewer")
def description() -> Response:
    return json_response(build_spec())


@cache
def build_spec() -> dict[str, Any]:
    schemas = Schemas()
    paths = described_paths(schemas)  # also collects the named schemas
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dewey", "version": "1", "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"browser": []}],
        "tags": [
            {"name": name}
            for name in sorted({tag for operation in build_operations(paths) for tag in operation["tags"]})
        ],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {**dict(sorted(schemas.named.items())), "Problem": PROBLEM},
            "responses": {
                f"Problem{status}": problem_response(status)
                for status in sorted({*QUERY_DESCRIPTION, *ACTION_DESCRIPTION})
            },
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def described_paths(schemas: Schemas) -> dict[str, Any]:
    paths = dict[str, Any]()
    for read in QUERIES.values():
        paths.setdefault(f"{BASE}{read.path}", {})["get"] = query_operation(read, schemas)
    for action in ACTIONS.values():
        path = re.sub(r"<(?:int:)?(\w+)>", r"{\1}", action_rule(action))
        paths.setdefault(path, {})["post"] = action_operation(action, schemas)
    for path, method, role, operation in CLEANUP_OPERATIONS:
        paths.setdefault(path, {})[method] = of_cleanup(method, role, operation)
    paths[f"{BASE}/books"]["post"] = upload_operation(schemas)
    return paths


def upload_operation(schemas: Schemas) -> dict[str, Any]:
    """Return the upload of a book. It needs no key: a repeated upload finds its file."""
    added = json_content(schemas.of(AddedBook))
    file = {"type": "string", "minLength": 1, "contentMediaType": "application/octet-stream"}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return {
        "operationId": "books.add",
        "summary": "Add a book from an EPUB, FB2 or text file and enqueue its processing.",
        "tags": ["books"],
        "x-role": "operator",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": {
            "202": {"description": "The book is added.", **added},
            "200": {"description": "The file is there already.", **added},
            **problem_responses(ACTION_DESCRIPTION),
        },
    }


def of_cleanup(method: str, role: str, operation: dict[str, Any]) -> dict[str, Any]:
    """Return an operation of the cleanup with the parts that all operations share."""
    is_write = method == "post"
    return {
        **operation,
        "x-role": role,
        "tags": ["reading-sessions"],
        **({"parameters": [KEY]} if is_write else {}),
        "responses": {
            **operation["responses"],
            **problem_responses(ACTION_DESCRIPTION if is_write else QUERY_DESCRIPTION),
        },
    }


def build_operations(paths: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in paths.values() for operation in methods.values()]


# --- queries -------------------------------------------------------------------------------------------------


def query_operation(read: Query, schemas: Schemas) -> dict[str, Any]:
    hints = read.hints
    in_path = [
        build_parameter(name, "path", path_schema(name, hints[name], schemas), required=True)
        for name in read.path_params
    ]
    in_query = [query_parameter(name, kind, read.default(name), schemas) for name, kind in read.query_params.items()]
    return {
        "operationId": read.name,
        "tags": [read.noun],
        **plain_text(read.doc),
        "x-role": read.role,
        "parameters": [*in_path, *in_query],
        "responses": {"200": success_response(schemas.of(hints["return"])), "304": {"description": "Not modified."}}
        | problem_responses(QUERY_DESCRIPTION),
    }


def query_parameter(name: str, kind: Any, default: Any, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(kind)
    description = schema.pop("description", None)
    if "enum" in schema:
        schema = {"enum": schema["enum"]}
    elif schema.get("type") == "string":
        schema = {"maxLength": MAX_LENGTH, **schema}
    schema |= {"default": default} if default else {}
    return build_parameter(name, "query", schema) | ({"description": description} if description else {})


# --- actions -------------------------------------------------------------------------------------------------


def action_operation(action: Action, schemas: Schemas) -> dict[str, Any]:
    subject = action.subject
    in_path = []
    if subject:
        schema = path_schema(subject.name, subject.annotation, schemas)
        in_path = [build_parameter(subject.name, "path", schema, required=True)]
    fields = {field.name: field for field in action.parameters if field.name != (subject and subject.name)}
    required = [name for name, field in fields.items() if field.default is field.empty]
    body = {
        "type": "object",
        "properties": {name: parameter_schema(field, schemas) for name, field in fields.items()},
        "required": required,
        "additionalProperties": False,
    }
    return {
        "operationId": action.name,
        "tags": [action.noun],
        **plain_text(action.doc),
        "x-role": action.role,
        "x-danger": action.danger,
        "parameters": [*in_path, KEY],
        **({"requestBody": {"required": bool(required), **json_content(body)}} if fields else {}),
        "responses": {"200": {"description": "Done.", **json_content(result_schema(action, schemas))}}
        | problem_responses(ACTION_DESCRIPTION),
    }


def path_schema(name: str, kind: Any, schemas: Schemas) -> Schema:
    if kind is int:
        return {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
    if name in ("name", "task"):  # a schedule has the parameter `task`
        names = [task.name for task in list_tasks(queues) if name == "name" or task.periodic]
        return {"type": "string", "minLength": 1, "examples": names}
    return WORDS.get(name) or {**schemas.of(kind), **({"minLength": 1} if kind is str else {})}


def parameter_schema(field: inspect.Parameter, schemas: Schemas) -> Schema:
    schema = schemas.of(field.annotation)
    if field.name in WORDS:
        return WORDS[field.name]
    if field.annotation in (int, int | None, float | None):
        schema |= {"minimum": -MAX_INTEGER, "maximum": MAX_INTEGER}
    if field.annotation in (str, str | None):
        schema |= {"pattern": r"^[^\x00]*$", "maxLength": MAX_TEXT}
    return schema


def result_schema(action: Action, schemas: Schemas) -> Schema:
    """Return an object schema with `result`: for ActionResult[bool] a boolean, without a type anything."""
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
    "description": "A key for this request. Repeated requests with it are executed once.",
}


def plain_text(doc: str) -> dict[str, str]:
    first, _blank, rest = doc.partition("\n\n")
    return {"summary": " ".join(first.split())} | ({"description": rest} if rest else {})


def build_parameter(name: str, place: str, schema: Schema, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def success_response(schema: Schema) -> dict[str, Any]:
    return {
        "description": "The answer.",
        "headers": {"ETag": {"schema": {"type": "string"}}},
        **json_content(schema),
    }


def json_content(schema: Schema) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def problem_responses(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in statuses}


def problem_response(status: int) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": str(STATUS_TEXT[status]), "content": content}


STATUS_TEXT = {
    400: "The request is malformed.",
    401: "No valid token or session.",
    403: "The role is too low.",
    404: "Not found.",
    409: "The state of the object does not allow the action.",
    413: "The body exceeds 1 MB.",
    414: "The address exceeds 8 KB.",
    415: "The body is not JSON.",
    422: "A value is invalid. `field` names it.",
    429: "The token or user sent too many requests. `Retry-After` has the seconds to wait.",
    503: "The database, the broker or a worker is unavailable.",
}
