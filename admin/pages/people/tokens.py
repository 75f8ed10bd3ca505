"""API tokens: the list, creating one (shown once), revoking one."""

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from admin.auth.access import requires_role
from admin.auth.identity import ROLES, current_actor
from admin.operations.registry import execute
from admin.operations.tokens import token_state
from admin.pages import confirm, live_refresh
from admin.pages.blueprint import blueprint, paginate
from admin.pages.confirm import Confirmation
from admin.pages.people.operators import secret_page
from admin.problems import ConflictError, InvalidInput
from engine.models import now
from models import Token

#: Lifetimes in days. 0: no expiry.
LIFETIMES = (30, 90, 365, 0)


@blueprint.get("/tokens")
@requires_role("viewer")
def tokens() -> ResponseReturnValue:
    return list_page()


def list_page(wrong: InvalidInput | ConflictError | None = None) -> ResponseReturnValue:
    page = paginate(Token.select(), Token.created_at, Token.id)
    answer = live_refresh.render_page(
        "people/tokens.html",
        as_of=now(),
        rows=page.rows,
        older=page.older,
        first=not request.args.get("before"),
        roles=ROLES,
        lives=LIFETIMES,
        state_of=token_state,
        typed=request.form,
        wrong=wrong,
    )
    answer.status_code = (wrong.code or 422) if wrong else answer.status_code
    return answer


@blueprint.post("/tokens")
@requires_role("admin")
def token_create() -> ResponseReturnValue:
    name, role, days = (request.form.get(field, "").strip() for field in ("name", "role", "days"))
    try:
        token = execute(
            current_actor(), "tokens.create", name=name, role=role, days=None if days in ("", "0") else days
        )
    except (InvalidInput, ConflictError) as error:
        return list_page(error)
    note = _("Send the token with each request: Authorization: Bearer …")
    return secret_page(_("Token %(name)s", name=name), token, "pages.tokens", note)


@blueprint.get("/tokens/<int:token_id>/revoke")
@requires_role("admin")
def token_revoke(token_id: int) -> ResponseReturnValue:
    token = get_token_or_404(token_id)
    used = token_lifetime(token)
    return confirm.render_confirmation(
        Confirmation(
            title=_("Revoke %(name)s?", name=token.name),
            statement=_(
                "From now on, requests with this token are rejected. This cannot be undone. "
                "To restore access, create a new token."
            ),
            facts=[(_("Last used"), used)],
            button=_("Revoke"),
            back=url_for("pages.tokens"),
            back_button=_("Keep the token"),
            page="pages.tokens",
        )
    )


def token_lifetime(token: Token) -> str:
    return f"{token.used_at:%Y-%m-%d %H:%M} UTC" if token.used_at else _("never")


@blueprint.post("/tokens/<int:token_id>/revoke", endpoint="token_revoke_now")
@requires_role("admin")
def token_revoke_now(token_id: int) -> ResponseReturnValue:
    try:
        execute(current_actor(), "tokens.revoke", name=get_token_or_404(token_id).name)
        flash(_("Token revoked."))
    except ConflictError as error:
        flash(str(error.description), "error")
    return redirect(url_for("pages.tokens"), 303)


def get_token_or_404(token_id: int) -> Token:
    token: Token = Token.get_or_none(Token.id == token_id) or abort(404, _("There is no token with this ID."))
    return token
