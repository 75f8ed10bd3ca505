"""Who asks: a signed-in browser, a bearer token, or somebody at the command line."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from flask import request, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from peewee import Update
from werkzeug.exceptions import Unauthorized

from admin.cache import Memory
from engine.broker.messages import Requester
from engine.models import now
from engine.outages import DATABASE_ERRORS, outage_of
from models import Operator, SignIn, Token

ROLES = ("viewer", "operator", "admin")

#: A sign-in ends when no person asked for a page in this time. Pages that refresh themselves do not count, so a console
#: left open on a wall is signed out within a day, and one in use lasts for a shift.
IDLE = timedelta(hours=12)
#: … and after this time whatever happens.
LONGEST = timedelta(days=7)
#: How exactly the last use of a sign-in or a token is known; not every request is worth a write.
SEEN_EVERY = timedelta(minutes=1)

#: Pages that refresh themselves ask for their person once a moment, however many there are.
recently: "Memory[Who | None]" = Memory(life=0.6, room=1000)

login = LoginManager()
login.session_protection = None  # a sign-in is a row in the database, which ends with its session


@dataclass(frozen=True)
class Who(UserMixin):
    """Somebody who may do something."""

    kind: str  # operator, token, cli
    name: str
    role: str
    source: str  # web, api, cli
    address: str | None = None
    secret: str | None = None  # of the signed-in browser's cookie

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)

    @property
    def asker(self) -> Requester:
        return Requester(self.kind, self.name)

    def get_id(self) -> str | None:
        return self.secret


def current_actor() -> Who:
    """The actor of this request, for a view whose gate lets no one in without one. Raises Unauthorized."""
    actor = current_actor_or_none()
    if actor is None:
        raise Unauthorized
    return actor


def current_actor_or_none() -> Who | None:
    """The actor of the bearer token if one is sent, of the cookie otherwise. None: the request is anonymous."""
    actor = current_user._get_current_object()
    return actor if isinstance(actor, Who) else None


def current_actor_if_readable() -> Who | None:
    """The actor, for a page that must appear even while the database is unavailable: None then."""
    try:
        return current_actor_or_none()
    except DATABASE_ERRORS:
        return None


def by_bearer() -> bool:
    """Whether a token is sent. Browsers send none by themselves, and then the cookie does not count."""
    return request.headers.get("Authorization", "").lower().startswith("bearer")


def digest_of(secret: str) -> str:
    """What is stored of a secret of 256 random bits. It needs no salt, and its comparison in an index leaks nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def by_token(_: object) -> Who | None:
    authorization = request.authorization
    if authorization is None or authorization.type != "bearer" or not authorization.token:
        return None
    as_of = now()
    token = Token.get_or_none(
        (Token.digest == digest_of(authorization.token))
        & Token.revoked_at.is_null()
        & (Token.expires_at.is_null() | (Token.expires_at > as_of))
    )
    if token is None:
        return None
    if not token.used_at or as_of - token.used_at > SEEN_EVERY:
        note_use(Token.update(used_at=as_of).where(Token.id == token.id))
    return Who("token", token.name, token.role, "api", request.remote_addr)


def by_cookie(secret: str) -> Who | None:
    if by_bearer():
        return None
    return recently.get(secret, lambda: signed_in(secret)) if asked_by_itself() else signed_in(secret)


def signed_in(secret: str) -> Who | None:
    as_of = now()
    sign_in = (
        SignIn.select(SignIn, Operator)
        .join(Operator)
        .where((SignIn.digest == digest_of(secret)) & SignIn.ended_at.is_null() & Operator.disabled_at.is_null())
        .where((SignIn.seen_at > as_of - IDLE) & (SignIn.created_at > as_of - LONGEST))
        .get_or_none()
    )
    if sign_in is None:
        return None
    if by_a_person() and as_of - sign_in.seen_at > SEEN_EVERY:
        note_use(SignIn.update(seen_at=as_of).where(SignIn.digest == sign_in.digest))
    return Who("operator", sign_in.operator.email, sign_in.operator.role, "web", request.remote_addr, secret)


def note_use(update: Update) -> None:
    """Write down when a token or a sign-in was used. A database that accepts no writes can still be read."""
    try:
        update.execute()
    except DATABASE_ERRORS as error:
        if outage_of(error) is None:
            raise


def by_a_person() -> bool:
    """Not a script on a page that asks for news: browsers mark what a click, a form or the address bar fetches."""
    return request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate" and not asked_by_itself()


def asked_by_itself() -> bool:
    """Whether a page asks for itself again: `static/live.js` says so."""
    return request.method == "GET" and request.headers.get("X-Refresh") == "1"


def start_sign_in(operator: Operator) -> Who:
    """Begin a new session for this browser. An older one of the same browser ends."""
    end_sign_in()
    secret = secrets.token_urlsafe(32)
    SignIn.create(
        digest=digest_of(secret),
        operator=operator,
        address=request.remote_addr,
        agent=request.user_agent.string[:200],
    )
    SignIn.delete().where(SignIn.created_at < now() - LONGEST).execute()
    actor = Who("operator", operator.email, operator.role, "web", request.remote_addr, secret)
    login_user(actor)
    return actor


def end_sign_in() -> None:
    """End this browser's session, with every copy of its cookie."""
    if secret := session.get("_user_id"):
        SignIn.update(ended_at=now()).where((SignIn.digest == digest_of(secret)) & SignIn.ended_at.is_null()).execute()
    logout_user()
    session.clear()
    recently.forget()
