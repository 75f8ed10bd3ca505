"""The JSON API: an address for every action and for every read, made from their tables.

`POST /api/v1/admin/<noun>/<subject>/<verb>` does what the action `noun.verb` does, with its other parameters as a JSON
object; `GET /api/v1/admin/…` asks what a read asks. Who may, and what the audit keeps, is `execute`'s affair.
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

#: Types that JSON has of its own.
NOT_TEXT = (int, int | None, float | None, bool)


def register(app: Flask) -> None:
    """An address has one form: what has a slash too many is not sent elsewhere by a page of HTML."""
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
    """Of a parameter in an address. A number leaves the addresses that are words to others."""
    return f"<int:{name}>" if kind is int else f"<{name}>"


def query_rule(read: Query) -> str:
    hints = read.hints
    return BASE + re.sub(r"{(\w+)}", lambda match: url_parameter(match[1], hints[match[1]]), read.path)


# --- questions -----------------------------------------------------------------------------------------------


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
    """Whoever has this answer already is told so in a line. What is empty is not called HTML, as by default."""
    if request.method == "OPTIONS":
        response.headers.pop("Content-Type", None)
    if request.method in ("GET", "HEAD") and response.status_code == 200 and response.is_json:
        response.add_etag()
        response.make_conditional(request)
    return response


# --- commands ------------------------------------------------------------------------------------------------


def action_view(action: Action) -> Callable[..., Response]:
    def view(**in_path: Any) -> Response:
        arguments = read_body(request)
        if action.subject and action.subject.name in arguments:
            raise InvalidInput(action.subject.name, _("it stands in the address"))
        reject_string_numbers(action, arguments)
        try:
            return json_response(serialize_result(execute(current_actor(), action.name, **in_path, **arguments)))
        except InvalidInput as error:
            if action.subject and error.field == action.subject.name and action.subject.annotation is str:
                raise NotFound(error.description) from None
            raise
        except (ConflictError, InvalidState):
            if target_missing(action, in_path):
                raise NotFound(_("There is nothing of this id.")) from None
            raise

    return view


def serialize_result(value: object) -> dict[str, object]:
    """What an action gives back, as the API and the terminal tell it."""
    return {"result": to_data(value)}


def read_body(request: Request) -> dict[str, object]:
    """The object that was sent, {} for none. Raises UnsupportedMediaType, BadRequest and InvalidInput."""
    data = request.get_data()
    if not data:
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType(_("One of these is needed: %(kinds)s.", kinds="application/json"))
    try:
        arguments = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(_("This is no JSON: %(why)s", why=str(error))) from error
    if not isinstance(arguments, dict):
        raise InvalidInput("body", _("an object of names and values is needed"))
    return arguments


def reject_string_numbers(action: Action, arguments: Mapping[str, object]) -> None:
    """A form and a terminal have nothing but text; JSON has numbers and truth of its own. Raises InvalidInput."""
    for parameter in action.parameters:
        if isinstance(arguments.get(parameter.name), str) and parameter.annotation in NOT_TEXT:
            raise InvalidInput(parameter.name, _("text is not taken for it"))


def target_missing(action: Action, in_path: Mapping[str, object]) -> bool:
    """Whether what was refused is not there at all: it cannot be shown. A view is refused to whom it is not there."""
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
