"""What they may: the gate before every view.

Nothing is reachable unless its view says who may: `needs(role)`, `open_to_all` or `open_to_loopback`.
"""

from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple, TypeVar

from flask import Flask, current_app, redirect, request, url_for
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFProtect
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import NotFound, RequestEntityTooLarge, Unauthorized, UnsupportedMediaType
from werkzeug.wrappers import Response as BaseResponse

from admin import audit_log
from admin.auth.identity import (
    Who,
    by_bearer,
    by_cookie,
    by_token,
    current_actor_if_readable,
    current_actor_or_none,
    login,
)
from admin.problems import BadInput, NotAllowed, for_program

SAFE = ("GET", "HEAD", "OPTIONS")
READABLE_BODIES = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")

View = TypeVar("View", bound=Callable[..., object])

csrf = CSRFProtect()


def register(app: Flask) -> None:
    app.config.update(WTF_CSRF_CHECK_DEFAULT=False, WTF_CSRF_TIME_LIMIT=None)
    login.request_loader(by_token)
    login.user_loader(by_cookie)
    login.init_app(app, add_context_processor=False)
    csrf.init_app(app)
    open_to_all(app.view_functions["static"])
    app.before_request(gate)
    app.context_processor(lambda: {"who": current_actor_if_readable()})


# --- what a view says ----------------------------------------------------------------------------------------


class Needs(NamedTuple):
    role: str | None = None  # None: nobody is asked who they are
    unless_loopback: bool = False


def needs(role: str, *, unless_loopback: bool = False) -> Callable[[View], View]:
    """Marks a view: only who has at least this role gets to it."""

    def mark(view: View) -> View:
        view.__dict__["needs"] = Needs(role, unless_loopback)
        return view

    return mark


def open_to_all(view: View) -> View:
    view.__dict__["needs"] = Needs()
    return view


def takes_any_body(view: View) -> View:
    """Marks a view that reads its body by itself, whatever its sender says that it is."""
    view.__dict__["takes_any_body"] = True
    return view


def open_to_loopback(view: View) -> View:
    """Open to a peer on this machine that no proxy speaks for; a viewer's otherwise."""
    return needs("viewer", unless_loopback=True)(view)


# --- the gate ------------------------------------------------------------------------------------------------


def gate() -> BaseResponse | None:
    """Stands before every view. An unknown path or method goes on to its 404 or 405, the same for everybody."""
    if not request.endpoint:
        return None
    reject_malformed()
    marker = getattr(current_app.view_functions[request.endpoint], "needs", None)
    is_open = may_be_anonymous(marker)
    actor = None if is_open and request.method in SAFE else current_actor_or_none()
    if actor is None and not is_open:
        return login_redirect_or_401()
    if request.method not in SAFE and not by_bearer():
        check_csrf()
    if actor is not None and not is_open:
        check_role(actor, marker)
    return None


def may_be_anonymous(marker: Needs | None) -> bool:
    return marker is not None and (marker.role is None or (marker.unless_loopback and from_loopback()))


def check_role(actor: Who, marker: Needs | None) -> None:
    """Raises NotAllowed, also for a view that nothing marks."""
    if marker is None or marker.role is None:
        raise NotAllowed(_("Nobody may do this."))
    if not actor.may(marker.role):
        raise denied(actor, marker.role, f"{request.method} {request.path}")


def denied(actor: Who, needed: str, what: str) -> NotAllowed:
    """That somebody tried what they may not is worth a line."""
    audit_log.write(actor, "denied", target=what[:200], after={"needed": needed, "role": actor.role})
    return NotAllowed(_("The role %(needed)s is needed; yours is %(given)s.", needed=needed, given=actor.role))


def reject_malformed() -> None:
    """Bodies that are too long or of another kind, and NUL, which PostgreSQL has no way to hold."""
    for field, value in request.args.items(multi=True):
        if "\0" in value:
            raise BadInput(field, _("text without NUL is needed"))
    if "\0" in request.path:
        raise NotFound
    if (request.content_length or 0) > (request.max_content_length or 0):
        raise RequestEntityTooLarge(_("At most %(most)s bytes are taken.", most=request.max_content_length))
    choosy = not hasattr(current_app.view_functions[request.endpoint or ""], "takes_any_body")
    if choosy and request.content_length and request.mimetype not in READABLE_BODIES:
        raise UnsupportedMediaType(_("One of these is needed: %(kinds)s.", kinds=", ".join(READABLE_BODIES)))


def login_redirect_or_401() -> BaseResponse:
    """A browser that wants to see a page is sent to the sign-in; everybody else is told."""
    if request.method in ("GET", "HEAD") and not for_program() and not by_bearer():
        path = request.full_path.rstrip("?")
        return redirect(url_for("sign_in.form", next=None if path == "/" else path))
    error = {"error": "invalid_token"} if by_bearer() else {}
    raise Unauthorized(
        _("The token is not valid.") if by_bearer() else _("Sign in, or send a token: Authorization: Bearer dewey_…"),
        www_authenticate=WWWAuthenticate("bearer", {"realm": "dewey", **error}),
    )


def check_csrf() -> None:
    """A browser sends its cookie with what other sites make it send too."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise NotAllowed(_("This came from another site."))
    csrf.protect()


def from_loopback() -> bool:
    """The peer is on this machine, and does not say that it speaks for another."""
    names = [name.lower() for name, _ in request.headers]
    if any(name == "forwarded" or name.startswith("x-forwarded-") for name in names):
        return False
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
