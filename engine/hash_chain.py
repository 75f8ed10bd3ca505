"""An append-only list. Each row carries a keyed hash of its content and of the previous row.

A writer without the key cannot change, insert or remove a row unnoticed: a hash or a link would be wrong. The sealed
head marks the end of the list, so rows cannot be cut off there. The database alone cannot reveal that everything,
head included, was emptied or restored to an older state. For that, keep a hash elsewhere.
"""

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from engine.keys import derive_key

#: The hash before the first row.
START = "0" * 64

#: The purpose of the chain's key.
PURPOSE = b"audit"

COLUMNS = ("id", "at", "actor_kind", "actor", "source", "action", "target", "before", "after", "address")


def chain_key(secret: str) -> bytes:
    return derive_key(secret, PURPOSE)


def hashed_columns(row: Mapping[str, object]) -> str:
    """Return the row's canonical text, the same for both databases. `before` and `after` are JSON values."""
    values = {name: row[name] for name in COLUMNS}
    return canonical_json(values | {"at": utc(values["at"]).isoformat(timespec="microseconds")})


def utc(at: object) -> datetime:
    at = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def canonical_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def row_hash(key: bytes, previous: str, row: Mapping[str, object]) -> str:
    return hmac.digest(key, f"row\n{previous}\n{hashed_columns(row)}".encode(), "sha256").hex()


def head_mac(key: bytes, last_id: int, last_hash: str) -> str:
    return hmac.digest(key, f"head\n{last_id}\n{last_hash}".encode(), "sha256").hex()


def constant_time_equal(digest: str, expected: str) -> bool:
    return hmac.compare_digest(digest.encode(), expected.encode())
