"""`Idempotency-Key`: a repeated request is not executed again and gets the first response.

The key is claimed in a separate transaction before the request is executed. Of two simultaneous requests one is
executed and the other gets 409. A 5xx response releases the key. If the process crashes in between, the effect is
unknown: the key stays claimed and repeated requests get 409.
"""

import hashlib
import re
from datetime import timedelta

from flask import Blueprint, Response, g, make_response, request
from flask_babel import gettext as _
from peewee import IntegrityError

from admin.auth.access import SAFE, is_upload
from admin.auth.identity import current_actor
from admin.problems import ConflictError, InvalidInput
from engine.database import database
from engine.models import now
from engine.sealing import seal, unseal
from models import IdempotencyRecord

HEADER = "Idempotency-Key"
#: The form of a key.
PATTERN = r"^[!-~]{1,255}$"

#: The purpose of the key that seals stored responses.
PURPOSE = b"answers"

RETENTION = timedelta(hours=24)


class KeyReused(InvalidInput):
    """The key was used for another request."""


def register(blueprint: Blueprint) -> None:
    blueprint.before_request(claim_key)
    blueprint.after_request(store_response)


def claim_key() -> Response | None:
    """Claim the key, or return the stored response. Raises InvalidInput and ConflictError."""
    key = request.headers.get(HEADER)
    if key is None or request.method in SAFE or is_upload():  # a repeated upload finds its file
        return None
    if not re.fullmatch(PATTERN, key):
        raise InvalidInput(HEADER, _("must be 1 to 255 visible ASCII characters"))
    name, request_digest, as_of = record_name(key), hash_request(), now()
    IdempotencyRecord.delete().where(IdempotencyRecord.created_at < as_of - RETENTION).execute()
    try:
        with database.atomic():
            g.claimed = IdempotencyRecord.create(name=name, request=request_digest, created_at=as_of)
    except IntegrityError:
        return stored_response(name, request_digest)
    return None


def stored_response(name: str, request_digest: str) -> Response:
    record = IdempotencyRecord.get_or_none(IdempotencyRecord.name == name)
    if record is None or record.status is None or record.body is None:
        raise ConflictError(
            _("A request with this key is running or was interrupted. Check its effect before you send another one.")
        )
    if record.request != request_digest:
        raise KeyReused(HEADER, _("must be a new key: another request has used this one"))
    response = make_response(open_body(record), record.status)
    response.content_type = record.content_type or ""
    response.headers["Idempotency-Replayed"] = "true"
    return response


def store_response(response: Response) -> Response:
    """Store the response, or release the key after a 5xx."""
    record = g.pop("claimed", None)
    if record is None:
        return response
    if response.status_code >= 500:
        record.delete_instance()
        return response
    record.status, record.content_type = response.status_code, response.content_type
    record.body = seal(PURPOSE, response.get_data(), seal_context(record)).hex()
    record.save()
    return response


def record_name(key: str) -> str:
    """Return the stored name of a key. Each user and token has separate keys."""
    actor = current_actor()
    return hashlib.sha256(f"{actor.kind}\n{actor.name}\n{key}".encode()).hexdigest()


def hash_request() -> str:
    head = f"{request.method}\n{request.full_path}\n{request.mimetype}\n".encode()
    return hashlib.sha256(head + request.get_data()).hexdigest()


def open_body(record: IdempotencyRecord) -> bytes:
    """Decrypt the body of a stored response, which may contain a new token or password. Raises ConflictError."""
    try:
        return unseal(PURPOSE, bytes.fromhex(record.body or ""), seal_context(record))
    except ValueError as error:
        raise ConflictError(
            _("The response to this key cannot be read. Check the effect of the request before you send another one.")
        ) from error


def seal_context(record: IdempotencyRecord) -> bytes:
    """Return what a sealed body belongs to: requester and key, request, status and content type."""
    return "\n".join((record.name, record.request, str(record.status), record.content_type or "")).encode()
