"""`Idempotency-Key`: a request that is sent again is not done again, and gets the answer of the first one.

The key is claimed, in a transaction of its own, before anything is done; so of two requests that arrive at once one is
done and the other is refused. An answer that is worth another try (5xx) gives the key free. Where the process dies in
between, nobody knows whether it was done: the key stays claimed, and whoever repeats the request is told just that.
"""

import hashlib
import hmac
import re
import secrets
from datetime import timedelta

from flask import Blueprint, Response, g, make_response, request
from flask_babel import gettext as _
from peewee import IntegrityError

from admin.auth.access import SAFE
from admin.auth.identity import current_actor
from admin.problems import ConflictError, InvalidInput
from config import settings
from engine.database import database
from engine.models import now
from models import IdempotencyRecord

HEADER = "Idempotency-Key"
#: What a key may be.
PATTERN = r"^[!-~]{1,255}$"

RETENTION = timedelta(hours=24)


class KeyReused(InvalidInput):
    """The key was sent before, with something else."""


def register(blueprint: Blueprint) -> None:
    blueprint.before_request(claim_key)
    blueprint.after_request(store_response)


def claim_key() -> Response | None:
    """Gives the first answer where there is one. Raises InvalidInput and ConflictError."""
    key = request.headers.get(HEADER)
    if key is None or request.method in SAFE:
        return None
    if not re.fullmatch(PATTERN, key):
        raise InvalidInput(HEADER, _("from 1 to 255 visible ASCII characters are needed"))
    name, request_digest, as_of = record_name(key), hash_request(), now()
    IdempotencyRecord.delete().where(IdempotencyRecord.created_at < as_of - RETENTION).execute()
    try:
        with database.atomic():
            IdempotencyRecord.create(name=name, request=request_digest, created_at=as_of)
    except IntegrityError:
        return stored_response(name, request_digest)
    g.claimed = name
    return None


def stored_response(name: str, request_digest: str) -> Response:
    record = IdempotencyRecord.get_or_none(IdempotencyRecord.name == name)
    if record is None or record.status is None or record.body is None:
        raise ConflictError(
            _("A request with this key is being worked on, or was cut off: look whether it was done before you go on.")
        )
    if record.request != request_digest:
        raise KeyReused(HEADER, _("this key was sent before, with another request"))
    nonce, sealed = bytes.fromhex(record.body[:32]), bytes.fromhex(record.body[32:])
    response = make_response(xor_encrypt(nonce, sealed), record.status)
    response.content_type = record.content_type or ""
    response.headers["Idempotency-Replayed"] = "true"
    return response


def store_response(response: Response) -> Response:
    """Write the answer down, or give the key free."""
    name = g.pop("claimed", None)
    if name is None:
        return response
    own_key = IdempotencyRecord.name == name
    if response.status_code >= 500:
        IdempotencyRecord.delete().where(own_key).execute()
        return response
    nonce = secrets.token_bytes(16)
    body = (nonce + xor_encrypt(nonce, response.get_data())).hex()
    answer = {"status": response.status_code, "content_type": response.content_type, "body": body}
    IdempotencyRecord.update(answer).where(own_key).execute()
    return response


def record_name(key: str) -> str:
    """Each token and each person has keys of their own."""
    actor = current_actor()
    return hashlib.sha256(f"{actor.kind}\n{actor.name}\n{key}".encode()).hexdigest()


def hash_request() -> str:
    head = f"{request.method}\n{request.full_path}\n{request.mimetype}\n".encode()
    return hashlib.sha256(head + request.get_data()).hexdigest()


def xor_encrypt(nonce: bytes, text: bytes) -> bytes:
    """The text with a stream of its own mixed in, and without it again.

    An answer may hold a new token or password, which nobody is to read in the database.
    """
    key = hmac.digest(settings.secret_key.encode(), b"dewey kept answers " + nonce, "sha256")
    stream = hashlib.shake_256(key).digest(len(text))
    return bytes(byte ^ other for byte, other in zip(text, stream, strict=True))
