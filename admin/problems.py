"""What went wrong, told to whoever asked: a page for a browser, `application/problem+json` (RFC 9457) for a program."""

import json
import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, render_template, request
from peewee import InterfaceError, OperationalError, ProgrammingError
from werkzeug.exceptions import (
    Conflict,
    Forbidden,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    ServiceUnavailable,
    UnprocessableEntity,
)

from engine.control import BadArguments, NoLiveWorker, NotPossible, Paused, UnknownTask
from engine.queues import BrokerAway

logger = logging.getLogger(__name__)

#: Seconds after which it is worth asking again, when the database, the broker or a worker is away.
RETRY_AFTER = 5

#: What only programs ask for, beside everything under /api.
PROGRAM_PATHS = ("/readyz", "/healthz", "/healthcheck", "/metrics")

#: The library's own sentences about the commonest errors are about servers and spelling.
WORDS = {
    NotFound.description: "There is nothing at this address.",
    MethodNotAllowed.description: "This address does not take this method.",
    InternalServerError.description: "Something went wrong here. What it was is in the log.",
}

#: What a missing database looks like; `ProgrammingError` is PostgreSQL's way to say that a table is missing.
DATABASE_TROUBLE = (OperationalError, InterfaceError, ProgrammingError)

#: What the engine and the database raise and a caller is told of.
KNOWN_ERRORS = (*DATABASE_TROUBLE, BrokerAway, BadArguments, NoLiveWorker, NotPossible, Paused, UnknownTask)


class BadInput(UnprocessableEntity):
    """A value that cannot be used. `field` is the name that its giver knows it by."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class Refused(Conflict):
    """The command was understood, and what it is about does not allow it now."""


class NotAllowed(Forbidden):
    """The role is too low."""


def register(app: Flask) -> None:
    app.register_error_handler(HTTPException, answer)
    for kind in KNOWN_ERRORS:
        app.register_error_handler(kind, answer_known)


def answer_known(error: Exception) -> Response:
    known = as_http(error)
    if (known.code or 500) >= 500:
        logger.error("%s", str(error).partition("\n")[0], exc_info=error if known.code == 500 else None)
    return answer(known)


def as_http(error: Exception) -> HTTPException:
    """What the engine or the database raised, as what a caller may be told of it."""
    match error:
        case BadArguments():
            return BadInput(error.field, str(error).removeprefix(f"{error.field}: "))
        case UnknownTask():
            return NotFound(str(error))
        case Paused() | NotPossible():
            return Refused(str(error))
        case NoLiveWorker():
            return ServiceUnavailable(str(error), retry_after=RETRY_AFTER)
    trouble = trouble_in_words(error)
    return ServiceUnavailable(trouble, retry_after=RETRY_AFTER) if trouble else InternalServerError()


def trouble_in_words(error: Exception) -> str | None:
    """One line for an error of the database or the broker; None when the fault is the program's own."""
    if isinstance(error, BrokerAway):
        return "The broker cannot be reached."
    if "no such table" in str(error) or ("relation" in str(error) and "does not exist" in str(error)):
        return "The database lacks a table of this program; `flask migrate` makes it."
    return None if isinstance(error, ProgrammingError) else "The database cannot be reached."


def answer(error: HTTPException) -> Response:
    """The error with its own status and headers, in the form that the asker reads."""
    status = HTTPStatus(error.code or 500)
    detail = WORDS.get(error.description or "", error.description or status.description)
    content_type, body = (problem if for_program() else page)(status, detail, error)
    headers = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
    return Response(body, status, headers, content_type=content_type)


def for_program() -> bool:
    path = request.path
    return path in PROGRAM_PATHS or (f"{path}/".startswith("/api/") and path != "/api/docs")


def problem(status: HTTPStatus, detail: str, error: HTTPException) -> tuple[str, str]:
    members: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    members |= {name: value for name in ("field", "reasons") if (value := getattr(error, name, None)) is not None}
    return "application/problem+json", json.dumps(members, ensure_ascii=False)


def page(status: HTTPStatus, detail: str, error: HTTPException) -> tuple[str, str]:
    return "text/html; charset=utf-8", render_template("error.html", status=status, detail=detail)
