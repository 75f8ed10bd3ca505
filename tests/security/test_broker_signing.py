"""Signed values are good for one purpose, at one place."""

import hmac
from typing import Any

import pytest

from engine.broker.messages import FinalResult, SignedJSON
from engine.broker.signing import Keyring, Place, Purpose, purpose_of
from engine.exceptions import InvalidMessage
from engine.keys import derive_key

SECRET = "k" * 40
RING, PLACE = Keyring((SECRET,)), Place("q", "key")


def old_value(word: str, run_id: str, body: bytes = b'{"value":1}', attempt: int = 0) -> bytes:
    """Return a value as version 1 signed it."""
    header = f"1 {word} - {attempt} {run_id} ".encode()
    signature = hmac.digest(derive_key(SECRET, word.encode()), header + body, "sha256").hex()
    return header + signature.encode() + b" " + body


@pytest.mark.parametrize("purpose", list(Purpose))
def test_value_of_one_purpose_is_none_of_another(purpose: Purpose) -> None:
    data = RING.sign(purpose, PLACE, b"- 0 - ", b"{}")
    assert RING.open(purpose, PLACE, data) == b"{}"
    for other in set(Purpose) - {purpose}:
        with pytest.raises(InvalidMessage, match="this value is"):
            RING.open(other, PLACE, data)


def test_each_purpose_has_a_key_of_its_own() -> None:
    digests = {key.hexdigest() for keys in RING.keys.values() for key in keys}
    assert len(digests) == len(Purpose)
    assert not digests & {key.hexdigest() for keys in RING.old_keys.values() for key in keys}


@pytest.mark.parametrize(
    "place", [Place("q", "other"), Place("p", "key"), Place("q"), Place("q key"), Place("", "q key")]
)
def test_value_lies_at_one_place(place: Place) -> None:
    data = RING.sign(Purpose.RESULT, PLACE, b"- 0 - ", b"{}")
    with pytest.raises(InvalidMessage, match="signature"):
        RING.open(Purpose.RESULT, place, data)


@pytest.mark.parametrize(
    ("key", "purpose"),
    [
        ("an-id", Purpose.RESULT), ("r:an-id", Purpose.REVOCATION), ("rt:tasks.x", Purpose.REVOCATION),
        ("instant:an-id", Purpose.INSTANT), ("chord:c:0", Purpose.CHORD), ("order:c:stop", Purpose.ORDER),
        ("dump:c", Purpose.DUMP), ("odd:an-id", Purpose.RESULT),
    ],
)  # fmt: skip
def test_key_decides_the_purpose(key: str, purpose: Purpose) -> None:
    assert purpose_of(key) == purpose


#: Key, run id in the old value, and whether it is accepted always, or only until the old results have expired.
OLD: list[tuple[str, str, bool, bool]] = [
    ("an-id", "an-id", True, True), ("an-id", "another", False, False), ("an-id", "-", False, True),
    ("r:an-id", "-", True, True), ("instant:an-id", "-", False, True), ("chord:c:0", "-", False, True),
    ("order:c:stop", "-", False, False), ("dump:c", "-", False, False),
]  # fmt: skip


@pytest.mark.parametrize(("key", "run_id", "always", "at_first"), OLD)
def test_value_of_the_old_format_is_accepted_where_it_does_no_harm(
    key: str, run_id: str, always: bool, at_first: bool
) -> None:
    wire, data = SignedJSON(SECRET), old_value("value", run_id)

    def is_accepted(accepts_old: bool) -> bool:
        try:
            return bool(wire.deserialize_value("q", key, data, lambda: accepts_old) == 1)
        except InvalidMessage:
            return False

    assert (is_accepted(False), is_accepted(True)) == (always, at_first)


def test_value_of_the_old_format_with_another_signature_is_refused() -> None:
    data = old_value("value", "an-id").replace(b"1}", b"2}")
    with pytest.raises(InvalidMessage, match="signature"):
        SignedJSON(SECRET).deserialize_value("q", "an-id", data, lambda: True)


@pytest.mark.parametrize("value", ["text", [1], {"what": "stop"}, FinalResult("done", 1, "an-id")])
def test_former_key_is_accepted_for_every_purpose(value: Any) -> None:
    data = SignedJSON("o" * 40).serialize_value("q", "order:c:stop", value)
    assert SignedJSON(SECRET, ("o" * 40,)).deserialize_value("q", "order:c:stop", data)
    with pytest.raises(InvalidMessage, match="signature"):
        SignedJSON(SECRET).deserialize_value("q", "order:c:stop", data)


def test_empty_purpose_of_the_old_format_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        RING.open(Purpose.EVENT, PLACE, b"1  - 0 - 00 {}")
