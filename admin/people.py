"""What is done to operators, tokens and sign-ins. Each is in the caller's transaction."""

from typing import Any

from flask_babel import gettext as _

from admin.access import create_token, email_of, role_of
from admin.passwords import hashed, matches, new_password
from admin.perform import Outcome
from admin.problems import BadInput, Refused
from admin.who import Who, digest_of, recently
from engine.database import on_postgresql
from engine.records import now
from models import Operator, SignIn, Token

#: So much of a sign-in's digest names it: nobody finds another one by that, and the cookie's secret is not in it.
SIGN_IN_NAME = 16


# --- operators -----------------------------------------------------------------------------------------------


def change_role(email: str, role: str) -> Outcome:
    operator, role = person(email), role_of(role)
    if role != "admin":
        leave_an_admin(operator)
    Operator.update(role=role).where(Operator.id == operator.id).execute()
    recently.forget()
    return Outcome(target=operator.email, before={"role": operator.role}, after={"role": role})


def disable(email: str) -> Outcome:
    operator = person(email)
    if operator.disabled_at:
        raise Refused(_("%(email)s is disabled already.", email=operator.email))
    leave_an_admin(operator)
    Operator.update(disabled_at=now()).where(Operator.id == operator.id).execute()
    after = {"disabled": True, "sessions_ended": end_sign_ins(operator)}
    return Outcome(target=operator.email, before={"disabled": False}, after=after)


def enable(email: str) -> Outcome:
    operator = person(email)
    if not operator.disabled_at:
        raise Refused(_("%(email)s is not disabled.", email=operator.email))
    Operator.update(disabled_at=None).where(Operator.id == operator.id).execute()
    return Outcome(target=operator.email, before={"disabled": True}, after={"disabled": False})


def renew_password(email: str, password: str | None) -> Outcome:
    """Gives back the password: the given one or a new one."""
    operator = person(email)
    password = new_password() if password is None else password
    Operator.update(password_hash=hashed(password, operator.email)).where(Operator.id == operator.id).execute()
    return Outcome(password, operator.email, after={"sessions_ended": end_sign_ins(operator)})


def person(email: str) -> Operator:
    found: Operator | None = Operator.get_or_none(Operator.email == email_of(email))
    if found is None:
        raise Refused(_("There is no operator %(email)s.", email=email))
    return found


def leave_an_admin(operator: Operator) -> None:
    """Somebody must be able to make people. The rows are locked, so two admins cannot remove each other at once."""
    admins = Operator.select(Operator.id).where((Operator.role == "admin") & Operator.disabled_at.is_null())
    admins = admins.order_by(Operator.id)
    ids = [one.id for one in (admins.for_update() if on_postgresql() else admins)]
    if ids == [operator.id]:
        raise Refused(_("%(email)s is the last admin; make another one first.", email=operator.email))


# --- sign-ins ------------------------------------------------------------------------------------------------


def end_sign_ins(operator: Operator, *conditions: Any) -> int:
    """Of all browsers, and with them every copy of their cookies."""
    mine = (SignIn.operator == operator) & SignIn.ended_at.is_null()
    ended: int = SignIn.update(ended_at=now()).where(mine, *conditions).execute()
    recently.forget()
    return ended


def change_own_password(who: Who, old: str, new: str) -> Outcome:
    """The other sessions end."""
    me = oneself(who)
    if not matches(old, me.password_hash):
        raise BadInput("old", _("this is not your password"))
    Operator.update(password_hash=hashed(new, me.email)).where(Operator.id == me.id).execute()
    return Outcome(target=me.email, after={"sessions_ended": end_sign_ins(me, *others(who))})


def end_own_sign_in(who: Who, session: str) -> Outcome:
    named = SignIn.digest.startswith(session) if len(session) == SIGN_IN_NAME and session.isalnum() else False
    if not named or not end_sign_ins(oneself(who), named):
        raise Refused(_("This session has ended already."))
    return Outcome(target=session)


def end_other_sign_ins(who: Who) -> Outcome:
    me = oneself(who)
    ended = end_sign_ins(me, *others(who))
    return Outcome(ended, me.email, after={"sessions_ended": ended})


def others(who: Who) -> list[Any]:
    return [SignIn.digest != digest_of(who.secret)] if who.secret else []


def oneself(who: Who) -> Operator:
    if who.kind != "operator":
        raise Refused(_("Only a person who has signed in has a password and sessions."))
    return person(who.name)


# --- tokens --------------------------------------------------------------------------------------------------


def make_token(name: str, role: str, days: int | None) -> Outcome:
    return Outcome(create_token(name, role, days), name, after={"role": role, "days": days})


def revoke_token(name: str) -> Outcome:
    live = (Token.name == name) & Token.revoked_at.is_null()
    if not Token.update(revoked_at=now()).where(live).execute():
        known = Token.select().where(Token.name == name).exists()
        raise Refused(
            _("%(name)s is revoked already.", name=name) if known else _("There is no token %(name)s.", name=name)
        )
    return Outcome(target=name, before={"revoked": False}, after={"revoked": True})
