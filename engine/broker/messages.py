"""Signed JSON, never pickle: messages of runs, results and Huey's other values.

`engine.broker.signing` has the format. `task`, `attempt` and `run id` are outside the body, so that the broker's
scripts can read them. The attempt only grows, so a message that is sent again is recognised. Arguments must be JSON
values. A result is converted to JSON, with `str` for other types.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
from huey.registry import Message
from huey.serializer import Serializer
from huey.utils import SKIPPED, Error

from engine.broker.signing import Keyring, Place, Purpose, purpose_of
from engine.exceptions import MessageTooLarge, NotSerializable, NotStorable
from engine.outcomes import args_to_json, outcome_to_json, parse_args

MAX_BYTES = 1 << 20

JSONObject = dict[str, Any]


class Requester(NamedTuple):
    """The requester of a run. kind: schedule, operator, token, cli, run (enqueued by a task) or code (a plain call)."""

    kind: str
    name: str


class Envelope(NamedTuple):
    asked_by: Requester
    enqueued_at: datetime
    code_version: str
    parent_id: str | None = None
    attempt: int = 1
    retries: int = 0  # allowed in all; Huey's own number is those left


class SignedMessage(NamedTuple):
    """The message of a run and its envelope, which are signed together.

    `sealed`: the secret arguments, by run id. The message has masks in their places.
    """

    message: Message
    envelope: Envelope
    sealed: Mapping[str, str] = MappingProxyType({})


class FinalResult(NamedTuple):
    value: object
    attempt: int
    run_id: str


class StoredValue(NamedTuple):
    """Bytes from the store of results, and where they lay."""

    place: Place
    data: bytes


class SignedJSON(Serializer):
    """Signs and reads the values of all queues. `old_keys` are accepted when reading, so that a key can be rotated."""

    def __init__(self, key: str, old_keys: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.keyring = Keyring((key, *old_keys))

    def sign(self, purpose: Purpose, place: Place, header: bytes, body: bytes) -> bytes:
        check_length(len(body))
        return self.keyring.sign(purpose, place, header, body)

    # --- messages of runs --------------------------------------------------------------------------------------

    def serialize_message(self, queue: str, signed: SignedMessage) -> bytes:
        message = signed.message
        if len(message.id.split()) != 1:
            raise ValueError(f"a run's id must be one word, not {message.id!r}")
        body = encode(signed_message_to_json(signed), message)
        return self.sign(Purpose.RUN, Place(queue), build_header(signed) + message.id.encode() + b" ", body)

    def deserialize_message(self, queue: str, data: bytes) -> SignedMessage:
        """Return the message and its envelope. Raises InvalidMessage."""
        return signed_message_from_json(orjson.loads(self.keyring.open(Purpose.RUN, Place(queue), bytes(data))))

    # --- values by key -----------------------------------------------------------------------------------------

    def serialize_value(self, queue: str, key: str, value: object) -> bytes:
        """Return a value to store under this key, with the purpose of the key."""
        value, attempt, run_id = value if isinstance(value, FinalResult) else (value, 0, "-")
        header = b"- %d %s " % (attempt, run_id.encode())
        return self.sign(purpose_of(key), Place(queue, key), header, encode_value(value))

    def deserialize_value(
        self, queue: str, key: str, data: bytes, accepts_old: Callable[[], bool] = lambda: False
    ) -> Any:
        """Return the value stored under this key. Raises InvalidMessage."""
        body = self.keyring.open(purpose_of(key), Place(queue, key), bytes(data), accepts_old)
        return value_from_json(orjson.loads(body))

    def _serialize(self, data: object) -> bytes:
        raise TypeError("a value is signed for the key it lies under: use serialize_value")

    def _deserialize(self, data: StoredValue) -> Any:
        return self.deserialize_value(*data.place, data.data)

    # --- JSON objects ------------------------------------------------------------------------------------------

    def serialize_json(self, purpose: Purpose, place: Place, content: bytes) -> bytes:
        return self.keyring.sign(purpose, place, b"- 0 - ", content)

    def deserialize_json(self, purpose: Purpose, place: Place, data: bytes) -> Any:
        """Return the JSON value. Raises InvalidMessage."""
        return orjson.loads(self.keyring.open(purpose, place, bytes(data)))


class MessageBatch:
    """Messages like `template`, each for a new run with its own arguments. Common parts are encoded once.

    Yields run ids and messages. `calls` are the arguments. The constructor raises NotSerializable and MessageTooLarge
    before the first message.
    """

    def __init__(
        self, serializer: SignedJSON, queue: str, template: SignedMessage, calls: Sequence[tuple[object, ...]]
    ) -> None:
        content = signed_message_to_json(template)
        del content["message"]["id"], content["message"]["args"]
        message, envelope = (encode(content[part], template.message) for part in ("message", "envelope"))
        self.serializer, self.queue, self.template, self.calls = serializer, queue, template, calls
        self.ids = sequential_ids(len(calls))
        self.rest = message[1:] + b',"envelope":' + envelope + b"}"
        longest, self.has_null = 0, False
        # Encoded again when they are sent: keeping them all would cost more.
        for arguments in calls:
            data = encode(args_to_json(arguments), template.message)
            longest, self.has_null = max(longest, len(data)), self.has_null or b"null" in data
        check_length(longest + len(self.body(self.ids[0].encode(), b"")))

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        message, sign, body = self.template.message, self.serializer.sign, self.body
        header, place = build_header(self.template), Place(self.queue)
        for run_id, arguments in zip(self.ids, self.calls, strict=True):
            word = run_id.encode()
            content = body(word, encode(args_to_json(arguments), message))
            yield run_id, sign(Purpose.RUN, place, header + word + b" ", content)

    def body(self, run_id: bytes, arguments: bytes) -> bytes:
        return b'{"message":{"id":"%s","args":%s,%s' % (run_id, arguments, self.rest)


def sequential_ids(count: int) -> list[str]:
    """Return adjacent ids in uuid4 form. They differ in the first eight digits, which pages show."""
    first = uuid4()
    start, end, rest = first.time_low, 1 << 32, str(first)[8:]
    return [f"{(start + number) % end:08x}{rest}" for number in range(count)]


def build_header(signed: SignedMessage) -> bytes:
    """Return task and attempt. The run id follows."""
    return b"%s %d " % (signed.message.name.encode(), signed.envelope.attempt)


def encode(value: object, message: Message) -> bytes:
    """Return the JSON of a part of a message. Raises NotSerializable."""
    try:
        return orjson.dumps(value, default=outcome_to_json)
    except TypeError as error:
        task = short_task_name(message.name)
        raise NotSerializable(f"the arguments of {task} must be JSON values: {error}") from error


#: orjson's errors, and texts that name the value.
REASONS = {
    "Integer exceeds 64-bit range": "an integer is beyond 64 bits",
    "Recursion limit reached": "it is nested more than 250 deep, or holds itself",
    "Dict key must a type serializable with OPT_NON_STR_KEYS": "a key of a dictionary is neither text nor a number",
    "str is not valid UTF-8: surrogates not allowed": "a text is not valid UTF-8",
}


def encode_value(value: object) -> bytes:
    """Return the JSON of a value that Huey stores, with `str` for other types. Raises NotStorable."""
    try:
        body = orjson.dumps(value_to_json(value), default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise NotStorable(REASONS.get(str(error), str(error))) from error
    # orjson writes null for NaN and infinity.
    if value is not None and b"null" in body and (place := find_not_finite(value)):
        raise NotStorable(f"{place}, which JSON cannot carry")
    return body


def find_not_finite(value: object, name: str = "it") -> str | None:
    """Return the part of a value that is NaN or infinite, such as `it['rates'][2] is nan`. None if there is none."""
    match value:
        case float():
            return None if math.isfinite(value) else f"{name} is {value}"
        case dict():
            parts: Iterable[tuple[object, str]] = (
                part for key, item in value.items() for part in ((key, f"a key of {name}"), (item, f"{name}[{key!r}]"))
            )
        case list() | tuple():
            parts = ((item, f"{name}[{index}]") for index, item in enumerate(value))
        case _ if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            parts = ((getattr(value, field.name), f"{name}.{field.name}") for field in fields)
        case _:
            return None
    return next((place for part, part_name in parts if (place := find_not_finite(part, part_name))), None)


def check_length(size: int) -> None:
    if size > MAX_BYTES:
        raise MessageTooLarge(f"{size:,} bytes are too many for one message; {MAX_BYTES:,} are allowed")


def parse_body(message: bytes) -> bytes:
    """Return the JSON of a trusted message. Raises ValueError."""
    *_, body = message.split(b" ", 6)
    return body


def short_task_name(name: str) -> str:
    return name.rpartition(".")[2]


# --- messages and values ↔ JSON -----------------------------------------------------------------------------------


def signed_message_to_json(signed: SignedMessage) -> JSONObject:
    envelope = signed.envelope._asdict() | {"asked_by": list(signed.envelope.asked_by)}
    content: JSONObject = {"message": message_to_json(signed.message), "envelope": envelope}
    return content | ({"sealed": dict(signed.sealed)} if signed.sealed else {})


def signed_message_from_json(content: JSONObject) -> SignedMessage:
    envelope = content["envelope"]
    envelope["asked_by"] = Requester(*envelope["asked_by"])
    envelope["enqueued_at"] = datetime.fromisoformat(envelope["enqueued_at"])
    return SignedMessage(message_from_json(content["message"]), Envelope(**envelope), content.get("sealed", {}))


def message_to_json(message: Message) -> JSONObject:
    fields = {name: value for name, value in zip(message._fields, message, strict=True) if value is not None}
    for name in TO_JSON.keys() & fields.keys():
        fields[name] = TO_JSON[name](fields[name])
    fields["args"] = args_to_json(message.args)
    return fields


def message_from_json(fields: JSONObject) -> Message:
    fields["args"] = parse_args(fields["args"])
    for name in fields:
        if name in FROM_JSON:
            fields[name] = FROM_JSON[name](fields[name])
    return Message(**fields)


def time_to_json(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value


def time_from_json(value: object) -> object:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def chord_to_json(chord: Sequence[Any]) -> list[object]:
    *member, callback = chord
    return [*member, message_to_json(callback)]


def chord_from_json(chord: Sequence[Any]) -> tuple[object, ...]:
    *member, callback = chord
    return (*member, message_from_json(callback))


TIMES, MESSAGES = ("eta", "expires", "expires_resolved"), ("on_complete", "on_error")
#: The fields of a message that are not JSON values.
TO_JSON: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(TIMES, time_to_json), **dict.fromkeys(MESSAGES, message_to_json), "chord_config": chord_to_json,
}  # fmt: skip
FROM_JSON: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(TIMES, time_from_json), **dict.fromkeys(MESSAGES, message_from_json),
    "chord_config": chord_from_json,
}  # fmt: skip


def value_to_json(value: object) -> JSONObject:
    if isinstance(value, Error):
        return {"error": value.metadata}
    if value is SKIPPED:
        return {"skipped": True}
    # Huey stores the end of a revocation as (datetime, bool).
    if isinstance(value, tuple) and value and isinstance(value[0], datetime):
        return {"until": value[0].isoformat(), "rest": value[1:]}
    return {"value": value}


def value_from_json(content: JSONObject) -> object:
    if "error" in content:
        return Error(content["error"])
    if "skipped" in content:
        return SKIPPED
    if "until" in content:
        return (datetime.fromisoformat(content["until"]), *content["rest"])
    return content["value"]
