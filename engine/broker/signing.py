"""Signatures of values in the broker: each is bound to its purpose, its queue and the key it lies under.

  2 <purpose> <task> <attempt> <run id> <signature> <body>

The signature is an HMAC-SHA256 with one derived key for each purpose. It covers queue, key, header and body. So a
value that is copied to another key, queue or purpose is refused. Version 1 covered header and body only. Its messages,
results and revocations are still read, and its other values for a while after the upgrade.

These facts are not signed, because a script of the broker decides them. A lie there can delete or delay runs and
nothing else:

  deliveries, deaths        a run is dead early, or late
  place, priority, due time a run starts early, late or never
  held: consumer, worker, time, delivery    a run is returned, or not; pages show the lie while the run is unfinished
  events `due`, `limited`   an unfinished run is shown as waiting or scheduled
  time of a heartbeat       a lost consumer seems to live, so its runs wait, or a live one is reaped
  locks, unique names, `once` marks, rate limits, ticks    the same as if they were deleted
  missing, met              a run waits for a consumer with newer code
"""

import hmac
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from engine.exceptions import InvalidMessage
from engine.hash_chain import derive_key

VERSION, OLD_VERSION = b"2", b"1"


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


class Opened(NamedTuple):
    """A value whose signature is valid."""

    attempt: int
    run_id: str
    body: bytes
    is_old: bool


class Keyring:
    """The derived keys. The first secret signs. The others are accepted when reading, so that it can be rotated."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        def keys(name: bytes) -> list[hmac.HMAC]:
            return [hmac.new(derive_key(secret, name), digestmod="sha256") for secret in secrets]

        self.keys = {purpose.value.encode(): keys(VERSION + b" " + purpose.value.encode()) for purpose in Purpose}
        self.old_keys = {word: keys(word) for word in set(OLD_WORDS.values())}

    def sign(self, purpose: Purpose, place: Place, header: bytes, body: bytes) -> bytes:
        """Return the signed value. `header`: task, attempt and run id, with a space after each."""
        start = b"%s %s %s" % (VERSION, purpose.value.encode(), header)
        signature = signature_of(self.keys[purpose.value.encode()][0], place_bytes(place), start, body)
        return start + signature + b" " + body

    def open(
        self, purpose: Purpose, place: Place, data: bytes, accepts_old: Callable[[], bool] = lambda: False
    ) -> Opened:
        """Return the parts of a value of this purpose at this place. Raises InvalidMessage for any other bytes."""
        try:
            version, word, _, attempt, run_id, signature, body = data.split(b" ", 6)
            opened = Opened(int(attempt), run_id.decode(), body, version == OLD_VERSION)
        except ValueError:
            raise InvalidMessage("not a message of this program") from None
        if version not in (VERSION, OLD_VERSION):
            raise InvalidMessage(f"message version {version.decode(errors='replace')} is not {VERSION.decode()}")
        if word != (OLD_WORDS.get(purpose) if opened.is_old else purpose.value.encode()):
            raise InvalidMessage(f"this value is a {word.decode(errors='replace'):.40}, not a {purpose.value}")
        header = data[: -len(signature) - len(body) - 1]
        keys, covered = (self.old_keys, b"") if opened.is_old else (self.keys, place_bytes(place))
        if not any(hmac.compare_digest(signature, signature_of(key, covered, header, body)) for key in keys[word]):
            raise InvalidMessage("the signature does not match SECRET_KEY")
        if opened.is_old and not is_accepted(purpose, place, opened, accepts_old):
            raise InvalidMessage("values of this old format are no longer accepted here")
        return opened


def is_accepted(purpose: Purpose, place: Place, opened: Opened, accepts_old: Callable[[], bool]) -> bool:
    """Return true if a value of version 1 may lie here.

    A message names its run, and a result too. A copy of a revocation deletes a run, which a writer can do anyway.
    """
    if purpose in (Purpose.RUN, Purpose.REVOCATION):
        return True
    return opened.run_id == place.key if opened.run_id != "-" else accepts_old()


def purpose_of(key: str) -> Purpose:
    """Return the purpose of a key in the store of results."""
    prefix, colon, _ = key.partition(":")
    return PREFIXES.get(prefix + colon, Purpose.RESULT)


def place_bytes(place: Place) -> bytes:
    """Return the place as bytes that no other place has."""
    queue, key = place.queue.encode(), place.key.encode(errors="surrogatepass")
    return b"%d %s %d %s " % (len(queue), queue, len(key), key)


def signature_of(key: hmac.HMAC, place: bytes, header: bytes, body: bytes) -> bytes:
    signing = key.copy()
    signing.update(place + header + body)
    return signing.hexdigest().encode()
