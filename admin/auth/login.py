"""The sign-in form."""

import re

from flask import Blueprint, Flask, redirect, render_template, request
from flask.typing import ResponseReturnValue

from admin import audit_log
from admin.auth.access import public, requires_role
from admin.auth.identity import Actor, current_actor, current_actor_or_none, end_sign_in, start_sign_in
from admin.auth.passwords import hash_password, needs_rehash
from admin.auth.rate_limits import verify_limited
from admin.i18n import safe_path
from engine.database import database
from models import Operator

blueprint = Blueprint("sign_in", __name__)


def register(app: Flask) -> None:
    app.register_blueprint(blueprint)


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
def sign_in() -> ResponseReturnValue:
    email, password = request.form.get("email", "").strip().lower(), request.form.get("password", "")
    operator = find_operator(email)
    if not verify_limited(email, password, operator.password_hash if operator else None) or operator is None:
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
