"""What can be done to operators, tokens and one's own account. Each is in a transaction with its line in the audit."""

import re
import secrets
from datetime import timedelta
from typing import Any

from flask_babel import gettext as _
from peewee import JOIN, IntegrityError, fn

from admin.passwords import hashed, matches, new_password
from admin.perform import Outcome, Secret, action
from admin.problems import BadInput, Refused
from admin.who import IDLE, LONGEST, ROLES, Who, digest_of, recently
from engine.database import database, on_postgresql
from engine.records import now
from models import Operator, SignIn, Token

#: So much of a sign-in's digest names it: nobody finds another one by that, and the cookie's secret is not in it.
SIGN_IN_NAME = 16


# --- operators -----------------------------------------------------------------------------------------------


def with_sign_ins() -> Any:
    """Operators by address, with `sessions`, how many browsers they are signed in with, and `seen_at`, when they were
    last here.
    """
    moment = now()
    signed_in = SignIn.ended_at.is_null() & (SignIn.seen_at > moment - IDLE) & (SignIn.created_at > moment - LONGEST)
    return (
        Operator.select(
            Operator,
            fn.COUNT(SignIn.digest).filter(signed_in).alias("sessions"),
            fn.MAX(SignIn.seen_at).python_value(SignIn.seen_at.python_value).alias("seen_at"),
        )
        .join(SignIn, JOIN.LEFT_OUTER)
        .group_by(Operator.id)
        .order_by(Operator.email)
        .objects()
    )


@action("operators.create", "admin", makes=True)
def add_operator(who: Who, email: str, role: str, password: Secret | None = None) -> Outcome[str]:
    """Let a person sign in; gives back the password, a new one unless one is given."""
    return Outcome(create_operator(email, role, password), email, after={"role": role})


def create_operator(email: str, role: str, password: str | None = None) -> str:
    """Returns the password: the given one or a new one. Raises BadInput, or Refused when the address is taken."""
    email, role = email_of(email), role_of(role)
    password = new_password() if password is None else password
    try:
        with database.atomic():
            Operator.create(email=email, role=role, password_hash=hashed(password, email))
    except IntegrityError as error:
        raise Refused(_("There is an operator %(email)s already.", email=email)) from error
    return password


@action("operators.role", "admin")
def change_role(who: Who, email: str, role: str) -> Outcome:
    """Give a person another role; the last admin keeps theirs."""
    operator, role = person(email), role_of(role)
    if role != "admin":
        leave_an_admin(operator)
    Operator.update(role=role).where(Operator.id == operator.id).execute()
    recently.forget()
    return Outcome(target=operator.email, before={"role": operator.role}, after={"role": role})


@action("operators.disable", "admin", danger=True)
def disable(who: Who, email: str) -> Outcome:
    """Let a person sign in no more, and end their sessions; the last admin stays."""
    operator = person(email)
    if operator.disabled_at:
        raise Refused(_("%(email)s is disabled already.", email=operator.email))
    leave_an_admin(operator)
    Operator.update(disabled_at=now()).where(Operator.id == operator.id).execute()
    after = {"disabled": True, "sessions_ended": end_sign_ins(operator)}
    return Outcome(target=operator.email, before={"disabled": False}, after=after)


@action("operators.enable", "admin")
def enable(who: Who, email: str) -> Outcome:
    """Let a person who was disabled sign in again."""
    operator = person(email)
    if not operator.disabled_at:
        raise Refused(_("%(email)s is not disabled.", email=operator.email))
    Operator.update(disabled_at=None).where(Operator.id == operator.id).execute()
    return Outcome(target=operator.email, before={"disabled": True}, after={"disabled": False})


@action("operators.password", "admin", danger=True)
def renew_password(who: Who, email: str, password: Secret | None = None) -> Outcome:
    """Replace a person's password and end their sessions; gives it back, a new one unless one is given."""
    operator = person(email)
    password = new_password() if password is None else password
    Operator.update(password_hash=hashed(password, operator.email)).where(Operator.id == operator.id).execute()
    return Outcome(password, operator.email, after={"sessions_ended": end_sign_ins(operator)})


def email_of(text: str) -> str:
    """An address as it is stored and looked up. Raises BadInput."""
    email = text.strip().lower()
    if len(email) > 255 or not re.fullmatch(r"[^@\s]+@[^@\s]+", email) or not email.isprintable():
        raise BadInput("email", _("an address such as name@example.org is needed"))
    return email


def role_of(text: str) -> str:
    if text not in ROLES:
        raise BadInput(
            "role", _("one of %(allowed)s is needed, not %(given)s", allowed=", ".join(ROLES), given=repr(text))
        )
    return text


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


@action("me.password", "viewer")
def change_own_password(who: Who, old: Secret, new: Secret) -> Outcome:
    """Replace one's own password; one's other sessions end."""
    me = oneself(who)
    if not matches(old, me.password_hash):
        raise BadInput("old", _("this is not your password"))
    Operator.update(password_hash=hashed(new, me.email)).where(Operator.id == me.id).execute()
    return Outcome(target=me.email, after={"sessions_ended": end_sign_ins(me, *others(who))})


@action("me.end_session", "viewer")
def end_own_sign_in(who: Who, session: str) -> Outcome:
    """End one of one's own signed-in browsers."""
    named = SignIn.digest.startswith(session) if len(session) == SIGN_IN_NAME and session.isalnum() else False
    if not named or not end_sign_ins(oneself(who), named):
        raise Refused(_("This session has ended already."))
    return Outcome(target=session)


@action("me.end_other_sessions", "viewer")
def end_other_sign_ins(who: Who) -> Outcome:
    """End all of one's signed-in browsers but this one; gives back how many those were."""
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


def every_token(*order: Any) -> Any:
    """Also those that are revoked or have expired."""
    return Token.select().order_by(*order)


@action("tokens.create", "admin", makes=True)
def add_token(who: Who, name: str, role: str, days: int | None = None) -> Outcome[str]:
    """Make a token for programs; gives it back, for the only time."""
    return Outcome(create_token(name, role, days), name, after={"role": role, "days": days})


def create_token(name: str, role: str, days: int | None = None) -> str:
    """Returns the token, which nobody can read again. Raises BadInput, or Refused when the name is taken."""
    if not 1 <= len(name) <= 100 or not name.isprintable() or name != name.strip():
        raise BadInput("name", _("from 1 to 100 printable characters are needed"))
    if days is not None and not 1 <= days <= 36_500:
        raise BadInput("days", _("a whole number from 1 to 36500 is needed"))
    token = f"dewey_{secrets.token_urlsafe(32)}"
    expires_at = now() + timedelta(days=days) if days else None
    try:
        with database.atomic():
            Token.create(name=name, role=role_of(role), digest=digest_of(token), expires_at=expires_at)
    except IntegrityError as error:
        raise Refused(_("There is a token %(name)s already.", name=name)) from error
    return token


@action("tokens.revoke", "admin", danger=True)
def revoke_token(who: Who, name: str) -> Outcome:
    """Let a token open nothing any more."""
    live = (Token.name == name) & Token.revoked_at.is_null()
    if not Token.update(revoked_at=now()).where(live).execute():
        known = Token.select().where(Token.name == name).exists()
        raise Refused(
            _("%(name)s is revoked already.", name=name) if known else _("There is no token %(name)s.", name=name)
        )
    return Outcome(target=name, before={"revoked": False}, after={"revoked": True})
