"""Security headers, cache headers and the session cookie of every response."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from flask.sessions import SecureCookieSessionInterface

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

HTTPS_ONLY = "max-age=31536000; includeSubDomains"


def register(app: Flask) -> None:
    app.config.update(SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True)
    app.session_interface = CookieByScheme()
    app.after_request(add_headers)
    app.url_defaults(with_version(app))


class CookieByScheme(SecureCookieSessionInterface):
    """A `__Host-` cookie over https, a plain one over http, which `make run` serves."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure

    def get_cookie_name(self, app: Flask) -> str:
        return "__Host-dewey" if request.is_secure else "dewey"


def add_headers(response: Response) -> Response:
    response.headers.update(SECURITY)
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = HTTPS_ONLY
    if request.endpoint != "static" or response.status_code not in (200, 304):
        response.headers["Cache-Control"] = "no-store"
    elif "v" in request.args:
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def with_version(app: Flask) -> Callable[[str, dict[str, object]], None]:
    """Return a function that adds the version of a static file to its address, so browsers may cache it for ever."""

    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            path = Path(app.static_folder or "") / values["filename"]
            if path.exists():
                values["v"] = f"{path.stat().st_mtime_ns:x}"

    return add_version
