"""Signatures of values in the broker: each is bound to its purpose, its queue and the key it lies under.

  2 <purpose> <task> <attempt> <run id> <signature> <body>

The signature is a BLAKE2b with one derived key for each purpose. It covers queue, key, header and body. So a value that
is copied to another key, queue or purpose is refused. A task costs five, and an HMAC of so few bytes takes twice
the time. Version 1 is an HMAC-SHA256 of header and body only. Its messages, results and revocations are still read, and
its other values for a while after the upgrade.

These facts are not signed, because a script of the broker decides them. A lie there can delete or delay runs and
nothing else:

  deliveries, deaths        a run is dead early, or late
  place, priority, due time a run starts early, late or never
  held: consumer, worker, time, delivery    a run is returned, or not; pages show the lie while the run is unfinished
  events `due`, `limited`   an unfinished run is shown as waiting or scheduled
  time of a heartbeat       a lost consumer seems to live, so its runs wait, or a live one is reaped
  locks, unique names, `once` marks, rate limits, ticks    the same as if they were deleted
  positions of events       events wait until the recorder renews the stream: see Events.renew
  missing, met              a run waits for a consumer with newer code
"""

import hmac
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from engine.exceptions import InvalidMessage
from engine.keys import derive_key

VERSION, OLD_VERSION = b"2", b"1"

#: A prepared key, of version 2 or 1. It is copied for each signature.
Mac = blake2b | hmac.HMAC


class Purpose(StrEnum):
    RUN = "run"
    RESULT = "result"
    REVOCATION = "revocation"
    INSTANT = "instant"
    CHORD = "chord"
    ORDER = "order"
    DUMP = "dump"
    EVENT = "event"
    HEARTBEAT = "heartbeat"
    PAUSE = "pause"

    def __init__(self, name: str) -> None:
        self.word = name.encode()
        self.start = b"%s %s " % (VERSION, self.word)


#: Purposes of keys in the store of results, by their beginning. All other keys are results.
PREFIXES = {
    "r:": Purpose.REVOCATION, "rt:": Purpose.REVOCATION, "instant:": Purpose.INSTANT, "chord:": Purpose.CHORD,
    "order:": Purpose.ORDER, "dump:": Purpose.DUMP,
}  # fmt: skip

#: Purposes that version 1 has as well, and its word for them.
OLD_WORDS = {
    Purpose.RUN: b"run", Purpose.RESULT: b"value", Purpose.REVOCATION: b"value", Purpose.CHORD: b"value",
    Purpose.INSTANT: b"value",
}  # fmt: skip


class Place(NamedTuple):
    """The place of a value. `key` is empty for messages and events, which name their run themselves."""

    queue: str
    key: str = ""


class Keyring:
    """The derived keys. The first secret signs. The others are accepted when reading, so that it can be rotated."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        def keys(name: bytes) -> list[bytes]:
            return [derive_key(secret, name) for secret in secrets]

        # By word: the hash of an Enum member is slow.
        self.keys: dict[bytes, list[Mac]] = {
            purpose.word: [blake2b(key=key, digest_size=32) for key in keys(VERSION + b" " + purpose.word)]
            for purpose in Purpose
        }
        self.old_keys: dict[bytes, list[Mac]] = {
            word: [hmac.new(key, digestmod="sha256") for key in keys(word)] for word in set(OLD_WORDS.values())
        }

    def sign(self, purpose: Purpose, place: Place, header: bytes, body: bytes) -> bytes:
        """Return the signed value. `header`: task, attempt and run id, with a space after each."""
        start = purpose.start + header
        signature = signature_of(self.keys[purpose.word][0], place_bytes(place) + start, body)
        return b"%s%s %s" % (start, signature, body)

    def open(
        self, purpose: Purpose, place: Place, data: bytes, accepts_old: Callable[[], bool] = lambda: False
    ) -> bytes:
        """Return the body of a value of this purpose at this place. Raises InvalidMessage for any other bytes."""
        words = data.split(b" ", 6)
        if len(words) != 7:
            raise InvalidMessage("not a message of this program")
        version, word, _, _, _, signature, body = words
        if version == OLD_VERSION:
            return self.open_old(purpose, place, words, accepts_old)
        if version != VERSION:
            raise InvalidMessage(f"message version {version.decode(errors='replace'):.40} is not {VERSION.decode()}")
        check_word(word, purpose.word)
        header = place_bytes(place) + data[: -len(signature) - len(body) - 1]
        check_signature(self.keys[word], signature, header, body)
        return body

    def open_old(self, purpose: Purpose, place: Place, words: list[bytes], accepts_old: Callable[[], bool]) -> bytes:
        """Return the body of a value of version 1, if it may lie here. Raises InvalidMessage.

        A message names its run, and a result too. A copy of a revocation deletes a run, which a writer can do anyway.
        """
        _, word, _, _, run_id, signature, body = words
        check_word(word, OLD_WORDS.get(purpose, b""))
        check_signature(self.old_keys.get(word, []), signature, b" ".join(words[:5]) + b" ", body)
        if purpose in (Purpose.RUN, Purpose.REVOCATION):
            return body
        if run_id == place.key.encode() if run_id != b"-" else accepts_old():
            return body
        raise InvalidMessage("values of this old format are no longer accepted here")


def check_word(word: bytes, expected: bytes) -> None:
    if word != expected:
        raise InvalidMessage(f"this value is a {word.decode(errors='replace'):.40}, not a {expected.decode()}")


def check_signature(keys: Sequence[Mac], signature: bytes, header: bytes, body: bytes) -> None:
    for key in keys:
        if hmac.compare_digest(signature, signature_of(key, header, body)):
            return
    raise InvalidMessage("the signature does not match SECRET_KEY")


def purpose_of(key: str) -> Purpose:
    """Return the purpose of a key in the store of results."""
    if ":" not in key:
        return Purpose.RESULT
    prefix, colon, _ = key.partition(":")
    return PREFIXES.get(prefix + colon, Purpose.RESULT)


def place_bytes(place: Place) -> bytes:
    """Return the place as bytes that no other place has."""
    queue, key = place
    if not key:
        return keyless_place(queue)
    data = key.encode("utf-8", "surrogatepass")
    return b"%s%d %s " % (queue_bytes(queue), len(data), data)


@lru_cache(maxsize=100)
def keyless_place(queue: str) -> bytes:
    return queue_bytes(queue) + b"0  "


@lru_cache(maxsize=100)
def queue_bytes(queue: str) -> bytes:
    return b"%d %s " % (len(queue.encode()), queue.encode())


def signature_of(key: Mac, header: bytes, body: bytes) -> bytes:
    signing = key.copy()
    signing.update(header + body)
    return signing.hexdigest().encode()
