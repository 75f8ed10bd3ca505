"""Access control before every view.

A view is reachable only with a marker: `requires_role(role)`, `public` or `local_or_viewer`.
"""

from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple, TypeVar

from flask import Flask, current_app, redirect, request, url_for
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFError, CSRFProtect, validate_csrf
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    LengthRequired,
    NotFound,
    RequestEntityTooLarge,
    Unauthorized,
    UnsupportedMediaType,
)
from werkzeug.wrappers import Response as BaseResponse
from wtforms import ValidationError

from admin import BUFFERED_BODY
from admin.auth.hosts import has_trusted_host
from admin.auth.identity import (
    Actor,
    current_actor_if_readable,
    current_actor_or_none,
    has_bearer,
    load_from_cookie,
    load_from_token,
    login,
)
from admin.auth.rate_limits import count_request
from admin.auth.refusals import record_refusal
from admin.problems import ForbiddenError, InvalidInput, wants_json

SAFE = ("GET", "HEAD", "OPTIONS")
READABLE_BODIES = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")

View = TypeVar("View", bound=Callable[..., object])

csrf = CSRFProtect()


def register(app: Flask) -> None:
    app.config.update(WTF_CSRF_CHECK_DEFAULT=False, WTF_CSRF_TIME_LIMIT=None)
    login.request_loader(load_from_token)
    login.user_loader(load_from_cookie)
    login.init_app(app, add_context_processor=False)
    csrf.init_app(app)
    public(app.view_functions["static"])
    app.before_request(check_access)
    app.context_processor(lambda: {"who": current_actor_if_readable()})


# --- markers of views ----------------------------------------------------------------------------------------


class Requirement(NamedTuple):
    role: str | None = None  # None: no sign-in needed
    unless_loopback: bool = False


def requires_role(role: str, *, unless_loopback: bool = False) -> Callable[[View], View]:
    """Mark a view as open to this role and higher ones."""

    def mark(view: View) -> View:
        view.__dict__["needs"] = Requirement(role, unless_loopback)
        return view

    return mark


def public(view: View) -> View:
    view.__dict__["needs"] = Requirement()
    return view


def accepts_any_body(view: View) -> View:
    """Mark a view that parses its body whatever the content type."""
    view.__dict__["takes_any_body"] = True
    return view


def accepts_upload(most: int) -> Callable[[View], View]:
    """Mark a view that reads a body of up to `most` bytes from `request.stream`."""

    def mark(view: View) -> View:
        view.__dict__["longest_body"] = most
        return view

    return mark


def is_upload() -> bool:
    """True if the view streams the body, so that nothing else may read it."""
    return hasattr(current_app.view_functions.get(request.endpoint or ""), "longest_body")


def local_or_viewer(view: View) -> View:
    """Mark a view as open to loopback peers without a proxy, and to viewers."""
    return requires_role("viewer", unless_loopback=True)(view)


# --- the gate ------------------------------------------------------------------------------------------------


def check_access() -> BaseResponse | None:
    """Run before every request. Unknown paths and methods still give 404 or 405."""
    if not request.endpoint:
        return None
    view = current_app.view_functions[request.endpoint]
    marker = getattr(view, "needs", None)
    is_open = may_be_anonymous(marker)
    limit_body(view, is_open)
    reject_malformed()
    actor = None if is_open and request.method in SAFE else current_actor_or_none()
    if actor is None and not is_open:
        return login_redirect_or_401()
    is_form = request.method not in SAFE and not has_bearer()
    if is_form:
        reject_other_sites()
    if actor is not None and not is_open:
        count_request(actor)
        check_role(actor, marker)
    if is_form and is_upload():
        check_csrf_header()
    elif is_form:
        csrf.protect()  # reads the body
    return None


def may_be_anonymous(marker: Requirement | None) -> bool:
    return marker is not None and (marker.role is None or (marker.unless_loopback and is_local_request()))


def check_role(actor: Actor, marker: Requirement | None) -> None:
    """Raise ForbiddenError if the role is too low, or if the view has no marker."""
    if marker is None or marker.role is None:
        raise ForbiddenError(_("This page or endpoint has no role. Report it as a bug."))
    if not actor.may(marker.role):
        call = f"{request.method} {request.url_rule}"
        raise deny(actor, marker.role, call, f"{request.method} {request.path}")


def deny(actor: Actor, needed: str, call: str, target: str) -> ForbiddenError:
    """Record the denied attempt in the audit log and return the error."""
    record_refusal(actor, call, needed, target)
    return ForbiddenError(_("Requires the %(needed)s role. Your role is %(given)s.", needed=needed, given=actor.role))


def limit_body(view: Callable[..., object], is_open: bool) -> None:
    """Set the longest body. An anonymous client's body must be one that no thread waits for."""
    if most := getattr(view, "longest_body", None):
        request.max_content_length = most
    if is_open:
        request.max_content_length = BUFFERED_BODY
        if request.content_length is None and "Transfer-Encoding" in request.headers:
            raise LengthRequired(_("The request must have a Content-Length."))


def reject_malformed() -> None:
    """Reject oversized and unsupported bodies, and NUL characters, which PostgreSQL cannot store."""
    for field, value in request.args.items(multi=True):
        if "\0" in value:
            raise InvalidInput(field, _("must not contain NUL characters"))
    if "\0" in request.path:
        raise NotFound
    if (request.content_length or 0) > (request.max_content_length or 0):
        raise RequestEntityTooLarge(_("The body must be at most %(most)s bytes long.", most=request.max_content_length))
    choosy = not hasattr(current_app.view_functions[request.endpoint or ""], "takes_any_body")
    if choosy and request.content_length and request.mimetype not in READABLE_BODIES:
        raise UnsupportedMediaType(_("The content type must be one of %(kinds)s.", kinds=", ".join(READABLE_BODIES)))


def login_redirect_or_401() -> BaseResponse:
    """Redirect a browser to the sign-in page. Raise Unauthorized for any other client."""
    if request.method in ("GET", "HEAD") and not wants_json() and not has_bearer():
        path = request.full_path.rstrip("?")
        return redirect(url_for("sign_in.form", next=None if path == "/" else path))
    error = {"error": "invalid_token"} if has_bearer() else {}
    raise Unauthorized(
        _("The token is invalid.") if has_bearer() else _("Sign in, or send a token: Authorization: Bearer dewey_…"),
        www_authenticate=WWWAuthenticate("bearer", {"realm": "dewey", **error}),
    )


def reject_other_sites() -> None:
    """Reject requests that another site caused, because browsers send the cookie with them too."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise ForbiddenError(_("The request came from another site."))


def check_csrf_header() -> None:
    """Check the token of an upload. A token in the form would lie in the body, which is not read yet."""
    try:
        validate_csrf(request.headers.get("X-CSRFToken"))
    except ValidationError as error:
        raise CSRFError(str(error)) from error


def is_local_request() -> bool:
    """True if the peer is on this machine, the Host is ours and the request has no proxy header."""
    names = [name.lower() for name, _ in request.headers]
    if not has_trusted_host() or any(name == "forwarded" or name.startswith("x-forwarded-") for name in names):
        return False
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
