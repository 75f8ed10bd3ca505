"""Signed JSON on the wire: what it carries, what it refuses, and that nothing runs that was not signed here."""

import pickle
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from huey.registry import Message
from huey.utils import Error
from hypothesis import given
from hypothesis import strategies as st

from engine.broker import messages
from engine.broker.messages import Envelope, MessageBatch, Requester, SignedJSON, SignedMessage
from engine.exceptions import InvalidMessage, MessageTooLarge, NotSerializable

KEY = "k" * 40
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def letter(*args: object, **kwargs: object) -> SignedMessage:
    message = Message("some-id", "tasks.some_task", args=args, kwargs=kwargs, retries=3, retry_delay=300, priority=2)
    envelope = Envelope(
        Requester("operator", "vera@example.org"), datetime(2026, 11, 23, tzinfo=UTC), "abc1234", attempt=2
    )
    return SignedMessage(message, envelope)


@given(st.lists(json_values, max_size=3), st.dictionaries(st.text(), json_values, max_size=3))
def test_every_json_argument_comes_back_as_it_went(args: list[object], kwargs: dict[str, object]) -> None:
    sent = letter(*args, **kwargs)
    assert SignedJSON(KEY).deserialize(SignedJSON(KEY).serialize(sent)) == sent


@given(st.lists(st.lists(json_values, max_size=3), min_size=1, max_size=5))
def test_a_series_is_what_each_of_its_messages_would_be_by_itself(calls: list[list[object]]) -> None:
    wire, common = SignedJSON(KEY), letter("of the first", and_of="all")
    found = list(MessageBatch(wire, common, [tuple(call) for call in calls]))
    for (run_id, data), call in zip(found, calls, strict=True):
        alone = SignedMessage(common.message._replace(id=run_id, args=tuple(call)), common.envelope)
        assert wire.deserialize(data) == alone
        assert data.split(b" ")[:5] == wire.serialize(alone).split(b" ")[:5]
    ids = [uuid.UUID(run_id) for run_id, _ in found]
    assert (len({str(one)[:8] for one in ids}), {one.version for one in ids}) == (len(calls), {4})


def test_ids_that_are_counted_on_stay_ids_at_the_end_of_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "uuid4", lambda: uuid.UUID("ffffffff-0000-4000-8000-000000000000"))
    assert [uuid.UUID(one).time_low for one in messages.sequential_ids(2)] == [0xFFFFFFFF, 0]


@pytest.mark.parametrize(("bad", "error"), [(object(), NotSerializable), ("x" * messages.MAX_BYTES, MessageTooLarge)])
def test_one_bad_call_of_a_series_is_found_before_a_message_is_made(bad: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        MessageBatch(SignedJSON(KEY), letter(), [(1,), (bad,)])


@given(json_values)
def test_every_json_result_comes_back_as_it_went(value: object) -> None:
    assert SignedJSON(KEY).deserialize(SignedJSON(KEY).serialize(value)) == value


def test_what_huey_keeps_beside_messages_comes_back() -> None:
    wire = SignedJSON(KEY)
    until = (datetime(2026, 11, 23, 12, 0), False)
    for value in (Error({"error": "ValueError()", "retries": 0}), until, None, "1"):
        assert wire.deserialize(wire.serialize(value)) == value


def test_a_pipeline_travels_whole() -> None:
    after = Message(
        "next-id", "tasks.after", args=(1,), kwargs={}, eta=datetime(2026, 11, 23, 12), expires=timedelta(hours=1)
    )
    sent = letter("x")
    sent = sent._replace(message=sent.message._replace(on_complete=after, chord_config=("cid", 2, 0, after)))
    back = SignedJSON(KEY).deserialize(SignedJSON(KEY).serialize(sent)).message
    assert back.on_complete == after._replace(expires=3600.0)
    assert back.chord_config == ("cid", 2, 0, after._replace(expires=3600.0))


def test_an_argument_that_is_no_json_is_refused_by_the_name_of_the_task() -> None:
    for argument in (object(), {1, 2}, datetime.now(UTC).time, 2**70):
        with pytest.raises(NotSerializable, match="some_task"):
            SignedJSON(KEY).serialize(letter(argument))


def test_a_changed_byte_anywhere_is_noticed() -> None:
    wire = SignedJSON(KEY)
    data = wire.serialize(letter(1))
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(InvalidMessage):
            wire.deserialize(changed)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"1 run x 1", pickle.dumps({"a": 1}), b"1 nonsense - 0 00 {}", b"\xff" * 50]
)
def test_bytes_that_are_no_message_are_refused_and_never_unpickled(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        SignedJSON(KEY).deserialize(data)


def test_a_result_cannot_be_passed_off_as_a_message() -> None:
    wire = SignedJSON(KEY)
    result = wire.serialize({"message": {}, "envelope": {}})
    with pytest.raises(InvalidMessage):
        wire.deserialize(result.replace(b"1 value -", b"1 run -", 1))


def test_an_old_key_is_accepted_and_a_foreign_one_is_not() -> None:
    data = SignedJSON("o" * 40).serialize(letter(1))
    assert SignedJSON(KEY, old_keys=("o" * 40,)).deserialize(data) == letter(1)
    with pytest.raises(InvalidMessage, match="signature"):
        SignedJSON(KEY).deserialize(data)


def test_a_message_too_large_is_refused_when_it_is_sent() -> None:
    with pytest.raises(ValueError, match="too many"):
        SignedJSON(KEY).serialize(letter("x" * 1_100_000))
