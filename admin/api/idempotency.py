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
from admin.problems import BadInput, Refused
from config import settings
from engine.database import database
from engine.models import now
from models import KeptAnswer

HEADER = "Idempotency-Key"
#: What a key may be.
PATTERN = r"^[!-~]{1,255}$"

KEPT = timedelta(hours=24)


class OtherRequest(BadInput):
    """The key was sent before, with something else."""


def stand_before(blueprint: Blueprint) -> None:
    blueprint.before_request(claim)
    blueprint.after_request(keep)


def claim() -> Response | None:
    """Gives the first answer where there is one. Raises BadInput and Refused."""
    key = request.headers.get(HEADER)
    if key is None or request.method in SAFE:
        return None
    if not re.fullmatch(PATTERN, key):
        raise BadInput(HEADER, _("from 1 to 255 visible ASCII characters are needed"))
    name, request_digest, as_of = name_of(key), digest_of_request(), now()
    KeptAnswer.delete().where(KeptAnswer.created_at < as_of - KEPT).execute()
    try:
        with database.atomic():
            KeptAnswer.create(name=name, request=request_digest, created_at=as_of)
    except IntegrityError:
        return first_answer(name, request_digest)
    g.claimed = name
    return None


def first_answer(name: str, request_digest: str) -> Response:
    record = KeptAnswer.get_or_none(KeptAnswer.name == name)
    if record is None or record.status is None or record.body is None:
        raise Refused(
            _("A request with this key is being worked on, or was cut off: look whether it was done before you go on.")
        )
    if record.request != request_digest:
        raise OtherRequest(HEADER, _("this key was sent before, with another request"))
    nonce, sealed = bytes.fromhex(record.body[:32]), bytes.fromhex(record.body[32:])
    response = make_response(mixed(nonce, sealed), record.status)
    response.content_type = record.content_type or ""
    response.headers["Idempotency-Replayed"] = "true"
    return response


def keep(response: Response) -> Response:
    """Write the answer down, or give the key free."""
    name = g.pop("claimed", None)
    if name is None:
        return response
    own_key = KeptAnswer.name == name
    if response.status_code >= 500:
        KeptAnswer.delete().where(own_key).execute()
        return response
    nonce = secrets.token_bytes(16)
    body = (nonce + mixed(nonce, response.get_data())).hex()
    answer = {"status": response.status_code, "content_type": response.content_type, "body": body}
    KeptAnswer.update(answer).where(own_key).execute()
    return response


def name_of(key: str) -> str:
    """Each token and each person has keys of their own."""
    actor = current_actor()
    return hashlib.sha256(f"{actor.kind}\n{actor.name}\n{key}".encode()).hexdigest()


def digest_of_request() -> str:
    head = f"{request.method}\n{request.full_path}\n{request.mimetype}\n".encode()
    return hashlib.sha256(head + request.get_data()).hexdigest()


def mixed(nonce: bytes, text: bytes) -> bytes:
    """The text with a stream of its own mixed in, and without it again.

    An answer may hold a new token or password, which nobody is to read in the database.
    """
    key = hmac.digest(settings.secret_key.encode(), b"dewey kept answers " + nonce, "sha256")
    stream = hashlib.shake_256(key).digest(len(text))
    return bytes(byte ^ other for byte, other in zip(text, stream, strict=True))
