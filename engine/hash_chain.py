"""A list that only grows: each row carries a hash of its content and of the row before, under a key.

Who can write the table but does not have the key can neither change a row, nor put one in or take one out, without
leaving a row whose hash does not hold, or a link that leads nowhere. The head, sealed in the same way, tells where the
list ends, so that nobody cuts rows off at its end. What nothing in the database can tell is that all of it, head and
rows, was emptied or put back to how it stood some time ago: for that, somebody must keep a hash elsewhere.
"""

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime

#: What the first row is linked to.
START = "0" * 64

COLUMNS = ("id", "at", "actor_kind", "actor", "source", "action", "target", "before", "after", "address")


def chain_key(secret: str) -> bytes:
    return derive_key(secret, b"audit")


def hashed_columns(row: Mapping[str, object]) -> str:
    """The row in one way of writing it, whichever database holds it. `before` and `after` are JSON values."""
    values = {name: row[name] for name in COLUMNS}
    return canonical_json(values | {"at": utc(values["at"]).isoformat(timespec="microseconds")})


def utc(at: object) -> datetime:
    """Return an instant as a database holds it, a naive one being UTC."""
    at = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def canonical_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def row_hash(key: bytes, previous: str, row: Mapping[str, object]) -> str:
    return hmac.digest(key, f"row\n{previous}\n{hashed_columns(row)}".encode(), "sha256").hex()


def head_mac(key: bytes, last_id: int, last_hash: str) -> str:
    """Of the head."""
    return hmac.digest(key, f"head\n{last_id}\n{last_hash}".encode(), "sha256").hex()


def constant_time_equal(digest: str, expected: str) -> bool:
    return hmac.compare_digest(digest.encode(), expected.encode())


def derive_key(secret: str, purpose: bytes) -> bytes:
    return hmac.digest(secret.encode(), b"dewey broker " + purpose, "sha256")
