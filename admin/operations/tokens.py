"""What can be asked and done of tokens for programs."""

import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

from flask_babel import gettext as _
from peewee import Field, IntegrityError, ModelSelect, Ordering

from admin.auth.identity import Who, digest_of
from admin.operations.operators import role_of
from admin.operations.queries import read
from admin.operations.registry import Outcome, action
from admin.operations.schemas import row_of
from admin.problems import BadInput, Refused
from engine.database import database
from engine.models import now
from models import Token


class KnownToken(NamedTuple):
    """The token itself is shown once, when it is made."""

    name: str
    role: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


class Tokens(NamedTuple):
    tokens: list[KnownToken]


@read("tokens.list", "/tokens")
def tokens() -> Tokens:
    """Tokens for programs, by name; those that are revoked or expired too."""
    return Tokens([KnownToken(*row_of(token, KnownToken)) for token in every_token(Token.name)])


def every_token(*order: Field | Ordering) -> "ModelSelect[Token]":
    """Also those that are revoked or have expired."""
    return Token.select().order_by(*order)


@action("tokens.create", "admin", makes=True)
def add_token(actor: Who, name: str, role: str, days: int | None = None) -> Outcome[str]:
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
def revoke_token(actor: Who, name: str) -> Outcome[None]:
    """Let a token open nothing any more."""
    live = (Token.name == name) & Token.revoked_at.is_null()
    if not Token.update(revoked_at=now()).where(live).execute():
        exists = Token.select().where(Token.name == name).exists()
        raise Refused(
            _("%(name)s is revoked already.", name=name) if exists else _("There is no token %(name)s.", name=name)
        )
    return Outcome(target=name, before={"revoked": False}, after={"revoked": True})


def state_of(token: Token) -> str:
    if token.revoked_at:
        return "revoked"
    return "expired" if token.expires_at and token.expires_at <= now() else "live"
