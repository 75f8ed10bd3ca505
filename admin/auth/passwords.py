"""Passwords of users: argon2id with the library's parameters (RFC 9106, low memory)."""

import secrets
from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from flask_babel import gettext as _

from admin.problems import InvalidInput

PASSWORD_LENGTHS = range(12, 129)

hasher = PasswordHasher()

#: A hash takes 64 MiB. Limits the memory of many sign-ins at once.
hashing_slots = BoundedSemaphore(2)


@cache
def common_passwords() -> frozenset[str]:
    """Return the common passwords of a valid length."""
    # Imported late: the list takes megabytes and only setting a password needs it.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(password for password in FREQUENCY_LISTS["passwords"] if len(password) in PASSWORD_LENGTHS)


def new_password() -> str:
    return secrets.token_urlsafe(15)


def checked_hash(password: str, email: str = "") -> str:
    """Return the hash. Raises InvalidInput for a wrong length or a common password."""
    if len(password) not in PASSWORD_LENGTHS:
        raise InvalidInput(
            "password",
            _("must be %(least)s to %(most)s characters long", least=PASSWORD_LENGTHS[0], most=PASSWORD_LENGTHS[-1]),
        )
    if password.lower() in common_passwords() or password.lower() == email.lower():
        raise InvalidInput("password", _("must not be a common password or the e-mail address"))
    return hash_password(password)


def hash_password(password: str) -> str:
    """Return the hash without checks, for a password in use."""
    with hashing_slots:
        return hasher.hash(password)


def verify_password(password: str, stored: str | None) -> bool:
    """True if the password matches. Without `stored` the check takes as long and fails."""
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
