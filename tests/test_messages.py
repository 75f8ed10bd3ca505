"""Signed JSON messages: supported values, refused values, and no execution without a valid signature."""

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


def create_message(*args: object, **kwargs: object) -> SignedMessage:
    message = Message("some-id", "tasks.some_task", args=args, kwargs=kwargs, retries=3, retry_delay=300, priority=2)
    envelope = Envelope(
        Requester("operator", "vera@example.org"), datetime(2026, 11, 23, tzinfo=UTC), "abc1234", attempt=2
    )
    return SignedMessage(message, envelope)


@given(st.lists(json_values, max_size=3), st.dictionaries(st.text(), json_values, max_size=3))
def test_json_argument_survives_a_round_trip(args: list[object], kwargs: dict[str, object]) -> None:
    sent = create_message(*args, **kwargs)
    assert SignedJSON(KEY).deserialize_message("q", SignedJSON(KEY).serialize_message("q", sent)) == sent


@given(st.lists(st.lists(json_values, max_size=3), min_size=1, max_size=5))
def test_batch_equals_its_messages_encoded_alone(calls: list[list[object]]) -> None:
    wire, common = SignedJSON(KEY), create_message("of the first", and_of="all")
    batch = list(MessageBatch(wire, "q", common, [tuple(call) for call in calls]))
    for (run_id, data), call in zip(batch, calls, strict=True):
        alone = SignedMessage(common.message._replace(id=run_id, args=tuple(call)), common.envelope)
        assert wire.deserialize_message("q", data) == alone
        assert data.split(b" ")[:5] == wire.serialize_message("q", alone).split(b" ")[:5]
    ids = [uuid.UUID(run_id) for run_id, _ in batch]
    assert (len({str(run_uuid)[:8] for run_uuid in ids}), {run_uuid.version for run_uuid in ids}) == (len(calls), {4})


def test_sequential_ids_wrap_at_the_end_of_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "uuid4", lambda: uuid.UUID("ffffffff-0000-4000-8000-000000000000"))
    assert [uuid.UUID(run_id).time_low for run_id in messages.sequential_ids(2)] == [0xFFFFFFFF, 0]


@pytest.mark.parametrize(
    ("argument", "error"), [(object(), NotSerializable), ("x" * messages.MAX_BYTES, MessageTooLarge)]
)
def test_invalid_call_in_a_batch_is_found_before_encoding(argument: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        MessageBatch(SignedJSON(KEY), "q", create_message(), [(1,), (argument,)])


@given(json_values)
def test_json_result_survives_a_round_trip(value: object) -> None:
    assert SignedJSON(KEY).deserialize_value("q", "k", SignedJSON(KEY).serialize_value("q", "k", value)) == value


def test_huey_values_survive_a_round_trip() -> None:
    wire = SignedJSON(KEY)
    until = (datetime(2026, 11, 23, 12, 0), False)
    for value in (Error({"error": "ValueError()", "retries": 0}), until, None, "1"):
        assert wire.deserialize_value("q", "k", wire.serialize_value("q", "k", value)) == value


def test_pipeline_survives_a_round_trip() -> None:
    after = Message(
        "next-id", "tasks.after", args=(1,), kwargs={}, eta=datetime(2026, 11, 23, 12), expires=timedelta(hours=1)
    )
    sent = create_message("x")
    sent = sent._replace(message=sent.message._replace(on_complete=after, chord_config=("cid", 2, 0, after)))
    back = SignedJSON(KEY).deserialize_message("q", SignedJSON(KEY).serialize_message("q", sent)).message
    assert back.on_complete == after._replace(expires=3600.0)
    assert back.chord_config == ("cid", 2, 0, after._replace(expires=3600.0))


def test_argument_that_is_not_json_is_rejected_with_the_task_name() -> None:
    for argument in (object(), {1, 2}, datetime.now(UTC).time, 2**70):
        with pytest.raises(NotSerializable, match="some_task"):
            SignedJSON(KEY).serialize_message("q", create_message(argument))


def test_changed_byte_is_detected() -> None:
    wire = SignedJSON(KEY)
    data = wire.serialize_message("q", create_message(1))
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(InvalidMessage):
            wire.deserialize_message("q", changed)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"1 run x 1", pickle.dumps({"a": 1}), b"1 nonsense - 0 00 {}", b"\xff" * 50]
)
def test_invalid_bytes_are_rejected_and_never_unpickled(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        SignedJSON(KEY).deserialize_message("q", data)


def test_result_cannot_pose_as_a_message() -> None:
    wire = SignedJSON(KEY)
    result = wire.serialize_value("q", "k", {"message": {}, "envelope": {}})
    with pytest.raises(InvalidMessage):
        wire.deserialize_message("q", result.replace(b"2 result -", b"2 run -", 1))


def test_old_key_is_accepted_and_a_foreign_one_rejected() -> None:
    data = SignedJSON("o" * 40).serialize_message("q", create_message(1))
    assert SignedJSON(KEY, old_keys=("o" * 40,)).deserialize_message("q", data) == create_message(1)
    with pytest.raises(InvalidMessage, match="signature"):
        SignedJSON(KEY).deserialize_message("q", data)


def test_oversized_message_is_rejected_when_sent() -> None:
    with pytest.raises(ValueError, match="too many"):
        SignedJSON(KEY).serialize_message("q", create_message("x" * 1_100_000))
