"""What people can do about their own password and sessions."""

from flask_babel import gettext as _
from peewee import Expression

from admin.auth.identity import Who, digest_of
from admin.auth.passwords import hashed, matches
from admin.operations.arguments import Secret
from admin.operations.operators import end_sign_ins, person
from admin.operations.registry import Outcome, action
from admin.problems import BadInput, Refused
from models import Operator, SignIn

#: So much of a sign-in's digest names it: nobody finds another one by that, and the cookie's secret is not in it.
SIGN_IN_NAME = 16


@action("me.password", "viewer")
def change_own_password(actor: Who, old: Secret, new: Secret) -> Outcome[None]:
    """Replace one's own password; one's other sessions end."""
    me = oneself(actor)
    if not matches(old, me.password_hash):
        raise BadInput("old", _("this is not your password"))
    Operator.update(password_hash=hashed(new, me.email)).where(Operator.id == me.id).execute()
    return Outcome(target=me.email, after={"sessions_ended": end_sign_ins(me, *other_sign_ins(actor))})


@action("me.end_session", "viewer")
def end_own_sign_in(actor: Who, session: str) -> Outcome[None]:
    """End one of one's own signed-in browsers."""
    condition = SignIn.digest.startswith(session) if len(session) == SIGN_IN_NAME and session.isalnum() else False
    if not condition or not end_sign_ins(oneself(actor), condition):
        raise Refused(_("This session has ended already."))
    return Outcome(target=session)


@action("me.end_other_sessions", "viewer")
def end_other_sign_ins(actor: Who) -> Outcome[int]:
    """End all of one's signed-in browsers but this one; gives back how many those were."""
    me = oneself(actor)
    ended = end_sign_ins(me, *other_sign_ins(actor))
    return Outcome(ended, me.email, after={"sessions_ended": ended})


def other_sign_ins(actor: Who) -> list[Expression]:
    return [SignIn.digest != digest_of(actor.secret)] if actor.secret else []


def oneself(actor: Who) -> Operator:
    if actor.kind != "operator":
        raise Refused(_("Only a person who has signed in has a password and sessions."))
    return person(actor.name)
