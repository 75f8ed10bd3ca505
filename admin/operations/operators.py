"""Queries and actions for users of the console."""

import re
from datetime import datetime
from typing import Any, NamedTuple

from flask_babel import gettext as _
from peewee import JOIN, IntegrityError, ModelSelect, fn

from admin.auth.identity import IDLE_LIMIT, ROLES, SESSION_LIMIT, Actor, session_cache
from admin.auth.passwords import checked_hash, new_password
from admin.operations.arguments import Secret
from admin.operations.queries import register_query
from admin.operations.registry import ActionResult, register_action
from admin.operations.schemas import row_data
from admin.problems import ConflictError, InvalidInput
from engine.database import database, on_postgresql
from engine.models import now
from models import BrowserSession, Operator


class Person(NamedTuple):
    email: str
    role: str
    created_at: datetime
    disabled_at: datetime | None


class People(NamedTuple):
    operators: list[Person]


@register_query("operators.list", "/operators")
def list_operators() -> People:
    """List users by e-mail address."""
    return People([Person(*row_data(operator, Person)) for operator in operators_with_sign_ins()])


# --- operators -----------------------------------------------------------------------------------------------


def operators_with_sign_ins() -> "ModelSelect[Any]":
    """Return users by address, with `sessions` (signed-in browsers) and `seen_at` (last activity)."""
    as_of = now()
    signed_in = (
        BrowserSession.ended_at.is_null()
        & (BrowserSession.seen_at > as_of - IDLE_LIMIT)
        & (BrowserSession.created_at > as_of - SESSION_LIMIT)
    )
    return (
        Operator.select(
            Operator,
            fn.COUNT(BrowserSession.digest).filter(signed_in).alias("sessions"),
            fn.MAX(BrowserSession.seen_at).python_value(BrowserSession.seen_at.python_value).alias("seen_at"),
        )
        .join(BrowserSession, JOIN.LEFT_OUTER)
        .group_by(Operator.id)
        .order_by(Operator.email)
        .objects()
    )


@register_action("operators.create", "admin", creates=True)
def add_operator(actor: Actor, email: str, role: str, password: Secret | None = None) -> ActionResult[str]:
    """Create a user. Returns the password, which is generated if none is given."""
    return ActionResult(create_operator(email, role, password), email, after={"role": role})


def create_operator(email: str, role: str, password: str | None = None) -> str:
    """Return the given password or a new one. Raises InvalidInput, or ConflictError if the address is taken."""
    email, role = parse_email(email), parse_role(role)
    password = new_password() if password is None else password
    try:
        with database.atomic():
            Operator.create(email=email, role=role, password_hash=checked_hash(password, email))
    except IntegrityError as error:
        raise ConflictError(_("User %(email)s already exists.", email=email)) from error
    return password


@register_action("operators.role", "admin")
def change_role(actor: Actor, email: str, role: str) -> ActionResult[None]:
    """Change a user's role. The last admin keeps the role."""
    operator, role = get_operator(email), parse_role(role)
    if role != "admin":
        ensure_admin_remains(operator)
    Operator.update(role=role).where(Operator.id == operator.id).execute()
    session_cache.forget()
    return ActionResult(target=operator.email, before={"role": operator.role}, after={"role": role})


@register_action("operators.disable", "admin", danger=True)
def disable_operator(actor: Actor, email: str) -> ActionResult[None]:
    """Disable a user and end all sessions. The last admin cannot be disabled."""
    operator = get_operator(email)
    if operator.disabled_at:
        raise ConflictError(_("User %(email)s is already disabled.", email=operator.email))
    ensure_admin_remains(operator)
    Operator.update(disabled_at=now()).where(Operator.id == operator.id).execute()
    after = {"disabled": True, "sessions_ended": end_sign_ins(operator)}
    return ActionResult(target=operator.email, before={"disabled": False}, after=after)


@register_action("operators.enable", "admin")
def enable_operator(actor: Actor, email: str) -> ActionResult[None]:
    """Enable a disabled user."""
    operator = get_operator(email)
    if not operator.disabled_at:
        raise ConflictError(_("User %(email)s is not disabled.", email=operator.email))
    Operator.update(disabled_at=None).where(Operator.id == operator.id).execute()
    return ActionResult(target=operator.email, before={"disabled": True}, after={"disabled": False})


@register_action("operators.password", "admin", danger=True)
def renew_password(actor: Actor, email: str, password: Secret | None = None) -> ActionResult[str]:
    """Replace a user's password and end all sessions. Returns the password, which is generated if none is given."""
    operator = get_operator(email)
    given_or_new = new_password() if password is None else password
    Operator.update(password_hash=checked_hash(given_or_new, operator.email)).where(
        Operator.id == operator.id
    ).execute()
    return ActionResult(given_or_new, operator.email, after={"sessions_ended": end_sign_ins(operator)})


def parse_email(text: str) -> str:
    """Return the address in lower case without spaces around it. Raises InvalidInput."""
    email = text.strip().lower()
    if len(email) > 255 or not re.fullmatch(r"[^@\s]+@[^@\s]+", email) or not email.isprintable():
        raise InvalidInput("email", _("must be an e-mail address such as name@example.org"))
    return email


def parse_role(text: str) -> str:
    if text not in ROLES:
        raise InvalidInput(
            "role", _("must be one of %(allowed)s, not %(given)s", allowed=", ".join(ROLES), given=repr(text))
        )
    return text


def get_operator(email: str) -> Operator:
    operator: Operator | None = Operator.get_or_none(Operator.email == parse_email(email))
    if operator is None:
        raise ConflictError(_("No user %(email)s.", email=email))
    return operator


def ensure_admin_remains(operator: Operator) -> None:
    """Raise ConflictError if this is the last admin. The row locks keep two admins from removing each other."""
    admins = Operator.select(Operator.id).where((Operator.role == "admin") & Operator.disabled_at.is_null())
    admins = admins.order_by(Operator.id)
    ids = [admin.id for admin in (admins.for_update() if on_postgresql() else admins)]
    if ids == [operator.id]:
        raise ConflictError(
            _("User %(email)s is the last admin. Give another user the admin role first.", email=operator.email)
        )


# --- sign-ins ------------------------------------------------------------------------------------------------


def end_sign_ins(operator: Operator, *conditions: object) -> int:
    """End the user's sessions and return their number. Copies of their cookies become invalid."""
    open_sessions = (BrowserSession.operator == operator) & BrowserSession.ended_at.is_null()
    ended: int = BrowserSession.update(ended_at=now()).where(open_sessions, *conditions).execute()
    session_cache.forget()
    return ended
