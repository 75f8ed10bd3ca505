"""Derive one key per purpose from SECRET_KEY. A value of one purpose is never valid for another.

docs/operating.md lists the purposes. A key of SECRET_KEY_OLD only verifies and decrypts.
"""

import hmac

from config import settings


def derive_key(secret: str, purpose: bytes) -> bytes:
    """Return 32 bytes."""
    return hmac.digest(secret.encode(), b"dewey broker " + purpose, "sha256")


def derive_keys(purpose: bytes) -> tuple[bytes, ...]:
    """Return the key of SECRET_KEY, then those of SECRET_KEY_OLD."""
    return tuple(derive_key(secret, purpose) for secret in (settings.secret_key, *settings.secret_key_old))
