"""Error responses: a page for browsers, `application/problem+json` (RFC 9457) for programs."""

import json
import logging
from http import HTTPStatus

from flask import Flask, Response, render_template, request
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from werkzeug.exceptions import (
    Conflict,
    Forbidden,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceUnavailable,
    UnprocessableEntity,
)

from admin.server.pace import SlowClient, TooManyUploads
from engine.exceptions import (
    BrokerUnavailable,
    InvalidArguments,
    InvalidState,
    MessageTooLarge,
    NoLiveWorker,
    NotSerializable,
    Paused,
    TranslatableError,
    UnknownTask,
)
from engine.outages import DATABASE_ERRORS, find_outage, lacks_table

logger = logging.getLogger(__name__)

#: `Retry-After` in seconds while the database, the broker or a worker is unavailable.
RETRY_AFTER = 5

#: Paths for programs, beside everything under /api.
PROGRAM_PATHS = ("/readyz", "/healthz", "/healthcheck", "/metrics", "/runs.json", "/runs.csv", "/audit.csv")

#: Replacements for Werkzeug's descriptions, which advise on spelling and servers.
STATUS_TEXT = {
    NotFound.description: lazy_gettext("No page or endpoint has this address."),
    MethodNotAllowed.description: lazy_gettext("This address does not support this method."),
    InternalServerError.description: lazy_gettext("Internal error. See the log of the web server."),
}

#: Titles of error pages. Programs get the phrase of the standard.
TITLES = {
    HTTPStatus.BAD_REQUEST: lazy_gettext("Bad request"),
    HTTPStatus.UNAUTHORIZED: lazy_gettext("Not signed in"),
    HTTPStatus.FORBIDDEN: lazy_gettext("Not allowed"),
    HTTPStatus.NOT_FOUND: lazy_gettext("Not found"),
    HTTPStatus.METHOD_NOT_ALLOWED: lazy_gettext("Method not allowed"),
    HTTPStatus.REQUEST_TIMEOUT: lazy_gettext("Too slow"),
    HTTPStatus.CONFLICT: lazy_gettext("Not possible now"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: lazy_gettext("Too large"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: lazy_gettext("Unsupported format"),
    HTTPStatus.UNPROCESSABLE_ENTITY: lazy_gettext("Invalid value"),
    HTTPStatus.TOO_MANY_REQUESTS: lazy_gettext("Too many attempts"),
    HTTPStatus.INTERNAL_SERVER_ERROR: lazy_gettext("Internal error"),
    HTTPStatus.SERVICE_UNAVAILABLE: lazy_gettext("Unavailable"),
}

#: Errors of the engine and the database that callers see.
KNOWN_ERRORS = (
    *DATABASE_ERRORS,
    BrokerUnavailable,
    InvalidArguments,
    NoLiveWorker,
    NotSerializable,
    InvalidState,
    Paused,
    MessageTooLarge,
    SlowClient,
    TooManyUploads,
    UnknownTask,
)


class InvalidInput(UnprocessableEntity):
    """An invalid value. `field` is its name in the request."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class ConflictError(Conflict):
    """The state of the object does not allow the command."""


class ForbiddenError(Forbidden):
    """The role is too low."""


def register(app: Flask) -> None:
    app.register_error_handler(HTTPException, handle_error)
    for kind in KNOWN_ERRORS:
        app.register_error_handler(kind, handle_known_error)


def handle_known_error(error: Exception) -> Response:
    http_error = to_http_error(error)
    if (http_error.code or 500) >= 500:
        logger.error("%s", str(error).partition("\n")[0], exc_info=error if http_error.code == 500 else None)
    return handle_error(http_error)


def to_http_error(error: Exception) -> HTTPException:
    """Return the HTTP error of an error that the engine or the database raised."""
    match error:
        case InvalidArguments():
            return InvalidInput(error.field, error_text(error) or "")
        case UnknownTask():
            return NotFound(error_text(error))
        case Paused() | InvalidState():
            return ConflictError(error_text(error))
        case NotSerializable():
            return InvalidInput("arguments", _("must be serialisable as JSON"))
        case MessageTooLarge():
            return RequestEntityTooLarge(_("The arguments are too large for a message."))
        case SlowClient():
            return RequestTimeout(_("The body arrived too slowly."))
        case TooManyUploads():
            return ServiceUnavailable(_("Other uploads are in progress. Retry later."), retry_after=RETRY_AFTER)
        case NoLiveWorker():
            return ServiceUnavailable(error_text(error), retry_after=RETRY_AFTER)
    outage = outage_text(error)
    return ServiceUnavailable(outage, retry_after=RETRY_AFTER) if outage else InternalServerError()


def error_text(error: Exception) -> str | None:
    """Return the translated message of a known error. None for a bug."""
    if isinstance(error, TranslatableError):
        return _(error.sentence, **error.values)
    return outage_text(error)


def outage_text(error: Exception) -> str | None:
    """Return one line for an unavailable database or broker. None for any other error."""
    if isinstance(error, BrokerUnavailable):
        if error.reason:
            return _("The broker does not accept commands: %(reason)s", reason=error.reason)
        return _("The broker is unavailable.")
    if lacks_table(error):
        return _("The database schema is outdated. Run `dewey migrate`.")
    if outage := find_outage(error):
        if outage.reason:
            return _("The database does not accept commands: %(reason)s", reason=outage.reason)
        return _("The database is unavailable.")
    return None


def handle_error(error: HTTPException) -> Response:
    """Return the error as JSON or as a page, with its status and headers."""
    status = HTTPStatus(error.code or 500)
    detail = str(STATUS_TEXT.get(error.description or "", error.description or status.description))
    content_type, body = (problem_response if wants_json() else error_page)(status, detail, error)
    headers = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
    return Response(body, status, headers, content_type=content_type)


def wants_json() -> bool:
    path = request.path
    return path in PROGRAM_PATHS or (f"{path}/".startswith("/api/") and path != "/api/docs")


def problem_response(status: HTTPStatus, detail: str, error: HTTPException) -> tuple[str, str]:
    members: dict[str, object] = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    members |= {name: value for name in ("field", "reasons") if (value := getattr(error, name, None)) is not None}
    return "application/problem+json", json.dumps(members, ensure_ascii=False)


def error_page(status: HTTPStatus, detail: str, error: HTTPException) -> tuple[str, str]:
    return "text/html; charset=utf-8", render_template(
        "error.html", status=status, title=TITLES.get(status, status.phrase), detail=detail
    )
