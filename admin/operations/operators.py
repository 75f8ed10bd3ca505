"""What can be asked and done of operators: the people who may sign in."""

import re
from datetime import datetime
from typing import Any, NamedTuple

from flask_babel import gettext as _
from peewee import JOIN, IntegrityError, ModelSelect, fn

from admin.auth.identity import IDLE, LONGEST, ROLES, Who, recently
from admin.auth.passwords import hashed, new_password
from admin.operations.arguments import Secret
from admin.operations.queries import read
from admin.operations.registry import Outcome, action
from admin.operations.schemas import row_of
from admin.problems import BadInput, Refused
from engine.database import database, on_postgresql
from engine.models import now
from models import Operator, SignIn


class Person(NamedTuple):
    email: str
    role: str
    created_at: datetime
    disabled_at: datetime | None


class People(NamedTuple):
    operators: list[Person]


@read("operators.list", "/operators")
def operators() -> People:
    """Who may sign in, by address."""
    return People([Person(*row_of(operator, Person)) for operator in with_sign_ins()])


# --- operators -----------------------------------------------------------------------------------------------


def with_sign_ins() -> "ModelSelect[Any]":
    """Operators by address, with `sessions`, how many browsers they are signed in with, and `seen_at`, when they were
    last here.
    """
    as_of = now()
    signed_in = SignIn.ended_at.is_null() & (SignIn.seen_at > as_of - IDLE) & (SignIn.created_at > as_of - LONGEST)
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
def add_operator(actor: Who, email: str, role: str, password: Secret | None = None) -> Outcome[str]:
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
def change_role(actor: Who, email: str, role: str) -> Outcome[None]:
    """Give a person another role; the last admin keeps theirs."""
    operator, role = person(email), role_of(role)
    if role != "admin":
        leave_an_admin(operator)
    Operator.update(role=role).where(Operator.id == operator.id).execute()
    recently.forget()
    return Outcome(target=operator.email, before={"role": operator.role}, after={"role": role})


@action("operators.disable", "admin", danger=True)
def disable(actor: Who, email: str) -> Outcome[None]:
    """Let a person sign in no more, and end their sessions; the last admin stays."""
    operator = person(email)
    if operator.disabled_at:
        raise Refused(_("%(email)s is disabled already.", email=operator.email))
    leave_an_admin(operator)
    Operator.update(disabled_at=now()).where(Operator.id == operator.id).execute()
    after = {"disabled": True, "sessions_ended": end_sign_ins(operator)}
    return Outcome(target=operator.email, before={"disabled": False}, after=after)


@action("operators.enable", "admin")
def enable(actor: Who, email: str) -> Outcome[None]:
    """Let a person who was disabled sign in again."""
    operator = person(email)
    if not operator.disabled_at:
        raise Refused(_("%(email)s is not disabled.", email=operator.email))
    Operator.update(disabled_at=None).where(Operator.id == operator.id).execute()
    return Outcome(target=operator.email, before={"disabled": True}, after={"disabled": False})


@action("operators.password", "admin", danger=True)
def renew_password(actor: Who, email: str, password: Secret | None = None) -> Outcome[str]:
    """Replace a person's password and end their sessions; gives it back, a new one unless one is given."""
    operator = person(email)
    given_or_new = new_password() if password is None else password
    Operator.update(password_hash=hashed(given_or_new, operator.email)).where(Operator.id == operator.id).execute()
    return Outcome(given_or_new, operator.email, after={"sessions_ended": end_sign_ins(operator)})


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
    operator: Operator | None = Operator.get_or_none(Operator.email == email_of(email))
    if operator is None:
        raise Refused(_("There is no operator %(email)s.", email=email))
    return operator


def leave_an_admin(operator: Operator) -> None:
    """Somebody must be able to make people. The rows are locked, so two admins cannot remove each other at once."""
    admins = Operator.select(Operator.id).where((Operator.role == "admin") & Operator.disabled_at.is_null())
    admins = admins.order_by(Operator.id)
    ids = [admin.id for admin in (admins.for_update() if on_postgresql() else admins)]
    if ids == [operator.id]:
        raise Refused(_("%(email)s is the last admin; make another one first.", email=operator.email))


# --- sign-ins ------------------------------------------------------------------------------------------------


def end_sign_ins(operator: Operator, *conditions: object) -> int:
    """Of all browsers, and with them every copy of their cookies."""
    open_sessions = (SignIn.operator == operator) & SignIn.ended_at.is_null()
    ended: int = SignIn.update(ended_at=now()).where(open_sessions, *conditions).execute()
    recently.forget()
    return ended
