"""Operators' passwords: argon2id, with the library's parameters (RFC 9106, low memory)."""

import secrets
from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from flask_babel import gettext as _

from admin.problems import InvalidInput

PASSWORD_LENGTHS = range(12, 129)

hasher = PasswordHasher()

#: Each hash takes 64 MiB: a flood of sign-ins must not take that for every thread of the server.
hashing_slots = BoundedSemaphore(2)


@cache
def common_passwords() -> frozenset[str]:
    """The passwords of the best-known list that are long enough to be chosen here."""
    # Here, as only who sets a password needs its megabytes.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(password for password in FREQUENCY_LISTS["passwords"] if len(password) in PASSWORD_LENGTHS)


def new_password() -> str:
    return secrets.token_urlsafe(15)


def checked_hash(password: str, email: str = "") -> str:
    """Raises InvalidInput when it is too short or too long, or is among the first that anybody would try."""
    if len(password) not in PASSWORD_LENGTHS:
        raise InvalidInput(
            "password",
            _("from %(least)s to %(most)s characters are needed", least=PASSWORD_LENGTHS[0], most=PASSWORD_LENGTHS[-1]),
        )
    if password.lower() in common_passwords() or password.lower() == email.lower():
        raise InvalidInput("password", _("this one is tried first by everybody who guesses"))
    return hash_password(password)


def hash_password(password: str) -> str:
    """Of one that is in use already, whatever is asked of a new one."""
    with hashing_slots:
        return hasher.hash(password)


def verify_password(password: str, stored: str | None) -> bool:
    """Whether this is the password behind `stored`. With None it is not, and takes as long to say so."""
    with hashing_slots:
        try:
            return hasher.verify(stored or dummy_hash(), password[: PASSWORD_LENGTHS[-1]]) and stored is not None
        except VerificationError:
            return False


def needs_rehash(stored: str) -> bool:
    return hasher.check_needs_rehash(stored)


@cache
def dummy_hash() -> str:
    return hasher.hash(secrets.token_urlsafe())
