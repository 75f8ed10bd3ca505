"""The sign-in form, with a limit of failed attempts per address and per account."""

import re
import time
from typing import Any

from flask import Blueprint, Flask, Response, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_limiter import Limiter, RateLimitExceeded
from flask_limiter.util import get_remote_address
from redis.backoff import NoBackoff
from redis.retry import Retry

from admin import audit_log
from admin.auth.access import public, requires_role
from admin.auth.identity import Actor, current_actor, current_actor_or_none, end_sign_in, secret_digest, start_sign_in
from admin.auth.passwords import hash_password, needs_rehash, verify_password
from admin.auth.wrong_tries import SCHEME
from admin.i18n import safe_path
from admin.problems import handle_error
from config import settings
from engine.database import database
from models import Operator

WRONG_TRIES_PER_ADDRESS = "20 per 5 minutes"
WRONG_TRIES_PER_ACCOUNT = "10 per 5 minutes"

#: Short timeouts for Redis, because a user is waiting.
MAX_QUICK_TRIES: dict[str, Any] = {"socket_connect_timeout": 1, "socket_timeout": 1, "retry": Retry(NoBackoff(), 0)}

blueprint = Blueprint("sign_in", __name__)

limiter = Limiter(
    get_remote_address,
    strategy="moving-window",
    storage_uri=SCHEME + re.sub("^unix:", "redis+unix:", settings.redis_url) if settings.redis_url else "memory://",
    storage_options=MAX_QUICK_TRIES if settings.redis_url else {},
    in_memory_fallback_enabled=True,  # without Redis this process counts
    key_prefix="dewey:sign-in",
)


def register(app: Flask) -> None:
    limiter.init_app(app)
    app.register_blueprint(blueprint)
    app.register_error_handler(RateLimitExceeded, too_many_tries)


def account_key() -> str:
    """Return a digest, so that Redis holds no e-mail addresses."""
    return secret_digest(request.form.get("email", "").strip().lower())


def is_wrong_password(response: Response) -> bool:
    return response.status_code == 401


@blueprint.get("/login")
@public
def form() -> ResponseReturnValue:
    return (
        redirect(requested_page())
        if current_actor_or_none()
        else render_template("people/login.html", wrong=False, email="")
    )


@blueprint.post("/login", endpoint="sign_in")
@public
@limiter.limit(WRONG_TRIES_PER_ADDRESS, deduct_when=is_wrong_password)
@limiter.limit(WRONG_TRIES_PER_ACCOUNT, key_func=account_key, deduct_when=is_wrong_password)
def sign_in() -> ResponseReturnValue:
    email, password = request.form.get("email", "").strip().lower(), request.form.get("password", "")
    operator = find_operator(email)
    if not verify_password(password, operator.password_hash if operator else None) or operator is None:
        audit_log.write_entry(unknown_account_key(email), "sign_in.failed")
        return render_template("people/login.html", wrong=True, email=email), 401
    with database.atomic():
        if needs_rehash(operator.password_hash):
            Operator.update(password_hash=hash_password(password)).where(Operator.id == operator.id).execute()
        audit_log.write_entry(start_sign_in(operator), "sign_in")
    return redirect(requested_page(), 303)


def find_operator(email: str) -> Operator | None:
    if not email.isprintable():  # PostgreSQL rejects NUL characters
        return None
    return Operator.get_or_none(Operator.email == email, Operator.disabled_at.is_null())


@blueprint.post("/logout")
@requires_role("viewer")
def sign_out() -> ResponseReturnValue:
    audit_log.write_entry(current_actor(), "sign_out")
    end_sign_in()
    return redirect("/login", 303)


def requested_page() -> str:
    """Return the page requested before sign-in if it belongs to this console, else `/`."""
    return safe_path(request.args.get("next", ""))


def unknown_account_key(email: str) -> Actor:
    """Return an actor named after the typed address. Other text is dropped, because users may type a password there."""
    shown = email if re.fullmatch(r"[^@\s]{1,100}@[^@\s]{1,150}", email) and email.isprintable() else "(not an address)"
    return Actor("operator", shown, "viewer", "web", request.remote_addr)


def too_many_tries(error: RateLimitExceeded) -> Response:
    error.description = _("Too many failed sign-ins. Wait a few minutes and try again.")
    response = handle_error(error)
    limit = limiter.current_limit
    response.headers["Retry-After"] = str(max(1, int(limit.reset_at - time.time()) + 1)) if limit else "60"
    return response
