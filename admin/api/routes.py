"""The JSON API: an address for every action and for every read, made from their tables.

`POST /api/v1/admin/<noun>/<subject>/<verb>` does what the action `noun.verb` does, with its other parameters as a JSON
object; `GET /api/v1/admin/…` asks what a read asks. Who may, and what the audit keeps, is `perform`'s affair.
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
from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.operations.queries import READS, Read
from admin.operations.registry import ACTIONS, Action, perform
from admin.operations.schemas import as_data
from admin.problems import BadInput, Refused
from engine.exceptions import NotPossible

BASE = "/api/v1/admin"

#: Types that JSON has of its own.
NOT_TEXT = (int, int | None, float | None, bool)


def register(app: Flask) -> None:
    """An address has one form: what has a slash too many is not sent elsewhere by a page of HTML."""
    app.url_map.merge_slashes = False


@blueprint.record_once
def add_routes(setup: BlueprintSetupState) -> None:
    for read in READS.values():
        setup.add_url_rule(rule_of_read(read), read.name.replace(".", "_"), needs(read.role)(query_view(read)))
    for action in ACTIONS.values():
        view = needs(action.role)(action_view(action))
        setup.add_url_rule(rule_of(action), f"do_{action.name}".replace(".", "_"), view, methods=["POST"])


def rule_of(action: Action) -> str:
    subject = f"/{place(action.subject.name, action.subject.annotation)}" if action.subject else ""
    return f"{BASE}/{action.noun}{subject}/{action.verb}"


def place(name: str, kind: object) -> str:
    """Of a parameter in an address. A number leaves the addresses that are words to others."""
    return f"<int:{name}>" if kind is int else f"<{name}>"


def rule_of_read(read: Read) -> str:
    hints = read.hints
    return BASE + re.sub(r"{(\w+)}", lambda match: place(match[1], hints[match[1]]), read.path)


# --- questions -----------------------------------------------------------------------------------------------


def query_view(read: Read) -> Callable[..., Response]:
    def view(**in_path: Any) -> Response:
        in_path = {name: str(value) for name, value in in_path.items()}
        answer = read.ask(in_path, request.args)
        if read.cursor and answer["next"]:
            answer["next"] = read.address(BASE, in_path, request.args, answer["next"])
        return in_json(answer)

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
        arguments = body_of(request)
        if action.subject and action.subject.name in arguments:
            raise BadInput(action.subject.name, _("it stands in the address"))
        refuse_numbers_in_text(action, arguments)
        try:
            return in_json(answer_of(perform(current_actor(), action.name, **in_path, **arguments)))
        except BadInput as error:
            if action.subject and error.field == action.subject.name and action.subject.annotation is str:
                raise NotFound(error.description) from None
            raise
        except (Refused, NotPossible):
            if is_missing(action, in_path):
                raise NotFound(_("There is nothing of this id.")) from None
            raise

    return view


def answer_of(value: object) -> dict[str, object]:
    """What an action gives back, as the API and the terminal tell it."""
    return {"result": as_data(value)}


def body_of(request: Request) -> dict[str, object]:
    """The object that was sent, {} for none. Raises UnsupportedMediaType, BadRequest and BadInput."""
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
        raise BadInput("body", _("an object of names and values is needed"))
    return arguments


def refuse_numbers_in_text(action: Action, arguments: Mapping[str, object]) -> None:
    """A form and a terminal have nothing but text; JSON has numbers and truth of its own. Raises BadInput."""
    for parameter in action.parameters:
        if isinstance(arguments.get(parameter.name), str) and parameter.annotation in NOT_TEXT:
            raise BadInput(parameter.name, _("text is not taken for it"))


def is_missing(action: Action, in_path: Mapping[str, object]) -> bool:
    """Whether what was refused is not there at all: it cannot be shown. A view is refused to whom it is not there."""
    if not action.subject or action.noun == "views":
        return bool(action.subject)
    show = READS.get(f"{action.noun}.show")
    try:
        return show is not None and not show.ask({show.in_path[0]: str(in_path[action.subject.name])}, MultiDict())
    except NotFound:
        return True


def in_json(value: object) -> Response:
    response = make_response(orjson.dumps(value, default=str))
    response.content_type = "application/json"
    return response


idempotency.stand_before(blueprint)
