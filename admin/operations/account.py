"""Actions on the user's own password and sign-in sessions."""

from flask_babel import gettext as _
from peewee import Expression

from admin.auth.identity import Actor, secret_digest
from admin.auth.passwords import checked_hash
from admin.auth.rate_limits import verify_limited
from admin.operations.arguments import Secret
from admin.operations.operators import end_sign_ins, get_operator
from admin.operations.registry import ActionResult, register_action
from admin.problems import ConflictError, InvalidInput
from models import BrowserSession, Operator

#: Characters of a session's digest that name it. They do not reveal the secret of the cookie.
SIGN_IN_NAME = 16


@register_action("me.password", "viewer")
def change_own_password(actor: Actor, old: Secret, new: Secret) -> ActionResult[None]:
    """Change your password and end your other sessions."""
    me = own_account(actor)
    if not verify_limited(me.email, old, me.password_hash):
        raise InvalidInput("old", _("must be your current password"))
    Operator.update(password_hash=checked_hash(new, me.email)).where(Operator.id == me.id).execute()
    return ActionResult(target=me.email, after={"sessions_ended": end_sign_ins(me, *other_sign_ins(actor))})


@register_action("me.end_session", "viewer")
def end_own_sign_in(actor: Actor, session: str) -> ActionResult[None]:
    """End one of your sessions."""
    condition = (
        BrowserSession.digest.startswith(session) if len(session) == SIGN_IN_NAME and session.isalnum() else False
    )
    if not condition or not end_sign_ins(own_account(actor), condition):
        raise ConflictError(_("This session has already ended."))
    return ActionResult(target=session)


@register_action("me.end_other_sessions", "viewer")
def end_other_sign_ins(actor: Actor) -> ActionResult[int]:
    """End all your sessions but this one. Returns their number."""
    me = own_account(actor)
    ended = end_sign_ins(me, *other_sign_ins(actor))
    return ActionResult(ended, me.email, after={"sessions_ended": ended})


def other_sign_ins(actor: Actor) -> list[Expression]:
    return [BrowserSession.digest != secret_digest(actor.secret)] if actor.secret else []


def own_account(actor: Actor) -> Operator:
    if actor.kind != "operator":
        raise ConflictError(_("Only signed-in users have a password and sessions. Sign in on the console."))
    return get_operator(actor.name)
