"""The JSON API: an endpoint for every query and action, generated from their tables.

`POST /api/v1/admin/<noun>/<subject>/<verb>` runs the action `noun.verb` with its other parameters as a JSON object.
`GET /api/v1/admin/…` runs a query. `execute` checks the role and writes the audit entry.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from flask import Flask, Request, Response, make_response, request
from flask.blueprints import BlueprintSetupState
from flask_babel import gettext as _
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, NotFound, UnsupportedMediaType

from admin.api import idempotency
from admin.api.blueprint import blueprint
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.operations.queries import QUERIES, Query
from admin.operations.registry import ACTIONS, Action, execute
from admin.operations.schemas import to_data
from admin.problems import ConflictError, InvalidInput
from engine.exceptions import InvalidState

BASE = "/api/v1/admin"

#: Types that JSON represents without a string.
NOT_TEXT = (int, int | None, float | None, bool)


def register(app: Flask) -> None:
    """Turn off the redirect of `//`, which would send HTML to API clients."""
    app.url_map.merge_slashes = False


@blueprint.record_once
def add_routes(setup: BlueprintSetupState) -> None:
    for read in QUERIES.values():
        setup.add_url_rule(query_rule(read), read.name.replace(".", "_"), requires_role(read.role)(query_view(read)))
    for action in ACTIONS.values():
        view = requires_role(action.role)(action_view(action))
        setup.add_url_rule(action_rule(action), f"do_{action.name}".replace(".", "_"), view, methods=["POST"])


def action_rule(action: Action) -> str:
    subject = f"/{url_parameter(action.subject.name, action.subject.annotation)}" if action.subject else ""
    return f"{BASE}/{action.noun}{subject}/{action.verb}"


def url_parameter(name: str, kind: object) -> str:
    """Return the placeholder of a path parameter. A number does not match words, which are other addresses."""
    return f"<int:{name}>" if kind is int else f"<{name}>"


def query_rule(read: Query) -> str:
    hints = read.hints
    return BASE + re.sub(r"{(\w+)}", lambda match: url_parameter(match[1], hints[match[1]]), read.path)


# --- queries -------------------------------------------------------------------------------------------------


def query_view(read: Query) -> Callable[..., Response]:
    def view(**in_path: Any) -> Response:
        in_path = {name: str(value) for name, value in in_path.items()}
        answer = read.run(in_path, request.args)
        if read.cursor and answer["next"]:
            answer["next"] = read.address(BASE, in_path, request.args, answer["next"])
        return json_response(answer)

    return view


@blueprint.after_request
def add_etag(response: Response) -> Response:
    """Add an ETag and reply 304 to a matching request. Remove the HTML content type of an empty answer."""
    if request.method == "OPTIONS":
        response.headers.pop("Content-Type", None)
    if request.method in ("GET", "HEAD") and response.status_code == 200 and response.is_json:
        response.add_etag()
        response.make_conditional(request)
    return response


# --- actions -------------------------------------------------------------------------------------------------


def action_view(action: Action) -> Callable[..., Response]:
    def view(**in_path: Any) -> Response:
        arguments = read_body(request)
        if action.subject and action.subject.name in arguments:
            raise InvalidInput(action.subject.name, _("must not be in the body: the address already contains it"))
        reject_string_numbers(action, arguments)
        try:
            return json_response(serialize_result(execute(current_actor(), action.name, **in_path, **arguments)))
        except InvalidInput as error:
            if action.subject and error.field == action.subject.name and action.subject.annotation is str:
                raise NotFound(error.description) from None
            raise
        except (ConflictError, InvalidState):
            if target_missing(action, in_path):
                raise NotFound(_("Not found.")) from None
            raise

    return view


def serialize_result(value: object) -> dict[str, object]:
    """Return the result of an action for API and terminal."""
    return {"result": to_data(value)}


def read_body(request: Request) -> dict[str, object]:
    """Return the JSON object of the body, {} if it is empty. Raises UnsupportedMediaType, BadRequest, InvalidInput."""
    data = request.get_data()
    if not data:
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType(_("The content type must be one of %(kinds)s.", kinds="application/json"))
    try:
        arguments = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(_("The body is not valid JSON: %(why)s", why=str(error))) from error
    if not isinstance(arguments, dict):
        raise InvalidInput("body", _("must be a JSON object"))
    return arguments


def reject_string_numbers(action: Action, arguments: Mapping[str, object]) -> None:
    """Raise InvalidInput for a string where JSON has a number or boolean. Forms and the terminal send text."""
    for parameter in action.parameters:
        if isinstance(arguments.get(parameter.name), str) and parameter.annotation in NOT_TEXT:
            raise InvalidInput(parameter.name, _("must be a JSON number or boolean, not a string"))


def target_missing(action: Action, in_path: Mapping[str, object]) -> bool:
    """True if the rejected object does not exist, so the API returns 404, not 409. A view counts as missing."""
    if not action.subject or action.noun == "views":
        return bool(action.subject)
    show = QUERIES.get(f"{action.noun}.show")
    try:
        return show is not None and not show.run({show.path_params[0]: str(in_path[action.subject.name])}, MultiDict())
    except NotFound:
        return True


def json_response(value: object) -> Response:
    response = make_response(orjson.dumps(value, default=str))
    response.content_type = "application/json"
    return response


idempotency.register(blueprint)
