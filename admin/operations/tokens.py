"""Queries and actions for API tokens."""

import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

from flask_babel import gettext as _
from peewee import Field, IntegrityError, ModelSelect, Ordering

from admin.auth.identity import Actor, secret_digest
from admin.operations.operators import parse_role
from admin.operations.queries import register_query
from admin.operations.registry import ActionResult, register_action
from admin.operations.schemas import row_data
from admin.problems import ConflictError, InvalidInput
from engine.database import database
from engine.models import now
from models import Token


class TokenData(NamedTuple):
    """A token without its secret, which is shown once."""

    name: str
    role: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


class Tokens(NamedTuple):
    tokens: list[TokenData]


@register_query("tokens.list", "/tokens")
def list_tokens() -> Tokens:
    """List tokens by name, revoked and expired ones included."""
    return Tokens([TokenData(*row_data(token, TokenData)) for token in all_tokens(Token.name)])


def all_tokens(*order: Field | Ordering) -> "ModelSelect[Token]":
    """Return all tokens, revoked and expired ones included."""
    return Token.select().order_by(*order)


@register_action("tokens.create", "admin", creates=True)
def add_token(actor: Actor, name: str, role: str, days: int | None = None) -> ActionResult[str]:
    """Create a token for programs. Returns the token, which is not shown again."""
    return ActionResult(create_token(name, role, days), name, after={"role": role, "days": days})


def create_token(name: str, role: str, days: int | None = None) -> str:
    """Return the new token. Only its digest is stored. Raises InvalidInput, or ConflictError if the name is taken."""
    if not 1 <= len(name) <= 100 or not name.isprintable() or name != name.strip():
        raise InvalidInput("name", _("must be 1 to 100 printable characters"))
    if days is not None and not 1 <= days <= 36_500:
        raise InvalidInput("days", _("must be a whole number from 1 to 36500"))
    token = f"dewey_{secrets.token_urlsafe(32)}"
    expires_at = now() + timedelta(days=days) if days else None
    try:
        with database.atomic():
            Token.create(name=name, role=parse_role(role), digest=secret_digest(token), expires_at=expires_at)
    except IntegrityError as error:
        raise ConflictError(_("Token %(name)s already exists.", name=name)) from error
    return token


@register_action("tokens.revoke", "admin", danger=True)
def revoke_token(actor: Actor, name: str) -> ActionResult[None]:
    """Revoke a token."""
    live = (Token.name == name) & Token.revoked_at.is_null()
    if not Token.update(revoked_at=now()).where(live).execute():
        exists = Token.select().where(Token.name == name).exists()
        raise ConflictError(
            _("Token %(name)s is already revoked.", name=name) if exists else _("No token %(name)s.", name=name)
        )
    return ActionResult(target=name, before={"revoked": False}, after={"revoked": True})


def token_state(token: Token) -> str:
    if token.revoked_at:
        return "revoked"
    return "expired" if token.expires_at and token.expires_at <= now() else "live"
