"""The actor of a request: a signed-in browser, a bearer token or a user of the terminal."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from flask import request, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from peewee import Update
from werkzeug.exceptions import Unauthorized

from admin.cache import SharedCache
from engine.broker.messages import Requester
from engine.models import now
from engine.outages import DATABASE_ERRORS, find_outage
from models import BrowserSession, Operator, Token

ROLES = ("viewer", "operator", "admin")

#: A session ends after this time without a page request by its user. Automatic refreshes do not count.
IDLE_LIMIT = timedelta(hours=12)
#: A session ends after this time in any case.
SESSION_LIMIT = timedelta(days=7)
#: Precision of the last use of a session or token. It saves a write for most requests.
LAST_USED_PRECISION = timedelta(minutes=1)

#: Saves queries for pages that refresh themselves.
session_cache: "SharedCache[Actor | None]" = SharedCache(life=0.6, room=1000)

login = LoginManager()
login.session_protection = None  # sessions are rows in the database


@dataclass(frozen=True)
class Actor(UserMixin):
    """The author of a request or command, with a role."""

    kind: str  # operator, token, cli
    name: str
    role: str
    source: str  # web, api, cli
    address: str | None = None
    secret: str | None = None  # from the cookie of the signed-in browser

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)

    @property
    def requester(self) -> Requester:
        return Requester(self.kind, self.name)

    def get_id(self) -> str | None:
        return self.secret


def current_actor() -> Actor:
    """Return the actor of this request. Raises Unauthorized for an anonymous one."""
    actor = current_actor_or_none()
    if actor is None:
        raise Unauthorized
    return actor


def current_actor_or_none() -> Actor | None:
    """Return the actor of the bearer token, else of the cookie, else None."""
    actor = current_user._get_current_object()
    return actor if isinstance(actor, Actor) else None


def current_actor_if_readable() -> Actor | None:
    """Return the actor, or None while the database is unavailable."""
    try:
        return current_actor_or_none()
    except DATABASE_ERRORS:
        return None


def has_bearer() -> bool:
    """True if the request has a bearer token. The cookie is then ignored."""
    return request.headers.get("Authorization", "").lower().startswith("bearer")


def secret_digest(secret: str) -> str:
    """Return the stored digest of a secret. 256 random bits need no salt, and an index lookup leaks nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def load_from_token(_: object) -> Actor | None:
    authorization = request.authorization
    if authorization is None or authorization.type != "bearer" or not authorization.token:
        return None
    as_of = now()
    token = Token.get_or_none(
        (Token.digest == secret_digest(authorization.token))
        & Token.revoked_at.is_null()
        & (Token.expires_at.is_null() | (Token.expires_at > as_of))
    )
    if token is None:
        return None
    if not token.used_at or as_of - token.used_at > LAST_USED_PRECISION:
        record_use(Token.update(used_at=as_of).where(Token.id == token.id))
    return Actor("token", token.name, token.role, "api", request.remote_addr)


def load_from_cookie(secret: str) -> Actor | None:
    if has_bearer():
        return None
    return session_cache.get(secret, lambda: load_signed_in(secret)) if is_auto_refresh() else load_signed_in(secret)


def load_signed_in(secret: str) -> Actor | None:
    as_of = now()
    sign_in = (
        BrowserSession.select(BrowserSession, Operator)
        .join(Operator)
        .where(
            (BrowserSession.digest == secret_digest(secret))
            & BrowserSession.ended_at.is_null()
            & Operator.disabled_at.is_null()
        )
        .where((BrowserSession.seen_at > as_of - IDLE_LIMIT) & (BrowserSession.created_at > as_of - SESSION_LIMIT))
        .get_or_none()
    )
    if sign_in is None:
        return None
    if is_interactive() and as_of - sign_in.seen_at > LAST_USED_PRECISION:
        record_use(BrowserSession.update(seen_at=as_of).where(BrowserSession.digest == sign_in.digest))
    return Actor("operator", sign_in.operator.email, sign_in.operator.role, "web", request.remote_addr, secret)


def record_use(update: Update) -> None:
    """Store the last use of a token or session. A read-only database is ignored."""
    try:
        update.execute()
    except DATABASE_ERRORS as error:
        if find_outage(error) is None:
            raise


def is_interactive() -> bool:
    """True for a click, a form or the address bar, which browsers mark. False for a script of a page."""
    return request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate" and not is_auto_refresh()


def is_auto_refresh() -> bool:
    """True if `static/live.js` refreshes a page."""
    return request.method == "GET" and request.headers.get("X-Refresh") == "1"


def start_sign_in(operator: Operator) -> Actor:
    """Start a session for this browser and end an older one."""
    end_sign_in()
    secret = secrets.token_urlsafe(32)
    BrowserSession.create(
        digest=secret_digest(secret),
        operator=operator,
        address=request.remote_addr,
        agent=request.user_agent.string[:200],
    )
    BrowserSession.delete().where(BrowserSession.created_at < now() - SESSION_LIMIT).execute()
    actor = Actor("operator", operator.email, operator.role, "web", request.remote_addr, secret)
    login_user(actor)
    return actor


def end_sign_in() -> None:
    """End this browser's session. Copies of its cookie become invalid."""
    if secret := session.get("_user_id"):
        BrowserSession.update(ended_at=now()).where(
            (BrowserSession.digest == secret_digest(secret)) & BrowserSession.ended_at.is_null()
        ).execute()
    logout_user()
    session.clear()
    session_cache.forget()
