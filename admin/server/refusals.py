"""Problem documents for requests that do not reach the application."""

import json
from http import HTTPStatus

from gunicorn.http import errors

#: Status and sentence by exception. Other malformed requests get 400 with gunicorn's sentence.
REFUSALS: dict[type[Exception], tuple[HTTPStatus, str]] = {
    errors.ConfigurationProblem: (HTTPStatus.INTERNAL_SERVER_ERROR, "%s"),
    errors.InvalidRequestLine: (HTTPStatus.BAD_REQUEST, "Invalid Request Line '%s'"),
    errors.InvalidRequestMethod: (HTTPStatus.BAD_REQUEST, "Invalid Method '%s'"),
    errors.InvalidHTTPVersion: (HTTPStatus.BAD_REQUEST, "Invalid HTTP Version '%s'"),
    errors.InvalidProxyLine: (HTTPStatus.BAD_REQUEST, "'%s'"),
    errors.ForbiddenProxyRequest: (HTTPStatus.FORBIDDEN, "%s"),
    errors.LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "%s"),
    errors.ExpectationFailed: (HTTPStatus.EXPECTATION_FAILED, "%s"),
    errors.LimitRequestHeaders: (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Error parsing headers: '%s'"),
    errors.UnsupportedTransferCoding: (HTTPStatus.NOT_IMPLEMENTED, "%s"),
    errors.ParseException: (HTTPStatus.BAD_REQUEST, "%s"),
}


def is_of_the_client(error: Exception) -> bool:
    of_the_program = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)
    return isinstance(error, errors.ParseException) and not isinstance(error, of_the_program)


def problem_of(error: Exception) -> bytes:
    """Return the response to a request that raised `error`. A bug shows no detail."""
    if not is_of_the_client(error):
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "")
    status, sentence = next(answer for kind, answer in REFUSALS.items() if isinstance(error, kind))
    return problem(status, sentence % error)


def problem(status: HTTPStatus, detail: str) -> bytes:
    """Return the bytes of a response. gunicorn has no public function for one without a request."""
    title = status.phrase
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail or title})
    head = f"HTTP/1.1 {status:d} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1")
