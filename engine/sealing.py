"""Authenticated encryption of stored texts that may contain secrets: AES-256-GCM of the library `cryptography`."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.keys import derive_keys

NONCE_BYTES = 12


class Unreadable(ValueError):
    """A sealed text that was changed, moved to another context, or sealed with an unknown key."""


def seal(purpose: bytes, text: bytes, context: bytes) -> bytes:
    """Encrypt a text. It can be opened only with the same context, which is not secret."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(derive_keys(purpose)[0]).encrypt(nonce, text, context)


def unseal(purpose: bytes, sealed: bytes, context: bytes) -> bytes:
    """Return the text. Raises Unreadable."""
    for key in derive_keys(purpose):
        try:
            return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            continue
    raise Unreadable("the text was changed, or was sealed with another key")
