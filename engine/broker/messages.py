"""What travels through the broker: signed JSON, never pickle.

    1 <purpose> <task> <attempt> <run id> <signature> <body>

`purpose` is `run` for a message that asks for a run, `value` for everything else Huey keeps (results, revocations,
locks); each has a key of its own, so neither can be passed off as the other. `task`, `attempt` and `run id` stand
outside the body for the broker's scripts to read, and under the signature with it. The attempt only ever grows, so a
message that is sent again is known for what it is. The body is JSON. Arguments must be JSON
values; what a task returns is made into JSON, with `str` for what JSON does not know.
"""

import dataclasses
import hmac
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
from huey.registry import Message
from huey.serializer import Serializer
from huey.utils import SKIPPED, Error

from engine.exceptions import InvalidMessage, MessageTooLarge, NotSerializable, NotStorable
from engine.hash_chain import derive_key
from engine.outcomes import args_of_json, args_to_json, outcome_to_json

VERSION = b"1"
MAX_BYTES = 1 << 20


class Asker(NamedTuple):
    """Who asked for a run. kind: schedule, operator, token, cli, run (a task asked) or code (a plain call)."""

    kind: str
    name: str


class Envelope(NamedTuple):
    """What travels beside Huey's own message."""

    asked_by: Asker
    enqueued_at: datetime
    code_version: str
    parent_id: str | None = None
    attempt: int = 1
    retries: int = 0  # allowed in all, where Huey's own number is those left


class Letter(NamedTuple):
    """A message and its envelope."""

    message: Message
    envelope: Envelope


class Final(NamedTuple):
    """The result of a run, with the attempt that it ends."""

    value: Any
    attempt: int
    run_id: str


class SignedJSON(Serializer):
    """HMAC-SHA256 over JSON. `old_keys` are accepted when reading, so that a key can be changed."""

    def __init__(self, key: str, old_keys: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.keys = {
            purpose: [hmac.new(derive_key(secret, purpose), digestmod="sha256") for secret in (key, *old_keys)]
            for purpose in (b"run", b"value")
        }

    def _serialize(self, data: Any) -> bytes:
        if isinstance(data, Letter):
            message = data.message
            if len(message.id.split()) != 1:
                raise ValueError(f"a run's id is one word, not {message.id!r}")
            body = dump(letter_to_json(data), message)
            return self.sign(b"run", head_of(data) + message.id.encode() + b" ", body)
        value, attempt, run_id = data if isinstance(data, Final) else (data, 0, "-")
        body = dump_value(value)
        return self.sign(b"value", b"%s value - %d %s " % (VERSION, attempt, run_id.encode()), body)

    def _deserialize(self, data: Any) -> Any:
        data = bytes(data)
        try:
            version, purpose, _, _, _, signature, body = data.split(b" ", 6)
            keys = self.keys[purpose]
        except (ValueError, KeyError):
            raise InvalidMessage("not a message of this program") from None
        head = data[: -len(signature) - len(body) - 1]
        if version != VERSION:
            raise InvalidMessage(f"message version {version.decode(errors='replace')} is not {VERSION.decode()}")
        for key in keys:
            if hmac.compare_digest(signature, sign(key, head, body)):
                break
        else:
            raise InvalidMessage("the signature is not ours")
        content = orjson.loads(body)
        return letter_of_json(content) if purpose == b"run" else value_of_json(content)

    def signed(self, purpose: bytes, head: bytes, body: bytes) -> bytes:
        check_length(len(body))
        return head + sign(self.keys[purpose][0], head, body) + b" " + body


class Series:
    """Messages as `letter`, each for a new run with arguments of its own: what they have in common is written once.

    Yields run ids and messages. `calls` are the arguments. Raises NotJSON and TooLong at once, for all of them.
    """

    def __init__(self, serializer: SignedJSON, letter: Letter, calls: Sequence[tuple[Any, ...]]) -> None:
        content = letter_to_json(letter)
        del content["message"]["id"], content["message"]["args"]
        message, envelope = (dump(content[part], letter.message) for part in ("message", "envelope"))
        self.serializer, self.letter, self.calls, self.ids = serializer, letter, calls, new_ids(len(calls))
        self.rest = message[1:] + b',"envelope":' + envelope + b"}"
        longest, self.has_null = 0, False
        # Written once more when they are needed: to keep them all costs more.
        for arguments in calls:
            data = dump(args_to_json(arguments), letter.message)
            longest, self.has_null = max(longest, len(data)), self.has_null or b"null" in data
        check_length(longest + len(self.body(self.ids[0].encode(), b"")))

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        message, head, signed, body = self.letter.message, head_of(self.letter), self.serializer.signed, self.body
        for run_id, arguments in zip(self.ids, self.calls, strict=True):
            word = run_id.encode()
            yield run_id, signed(b"run", head + word + b" ", body(word, dump(args_to_json(arguments), message)))

    def body(self, run_id: bytes, arguments: bytes) -> bytes:
        return b'{"message":{"id":"%s","args":%s,%s' % (run_id, arguments, self.rest)


def new_ids(count: int) -> list[str]:
    """Ids of uuid4's form, counted on from the first: quickly made, and neighbours in the database. They differ where
    people look: in the first eight digits.
    """
    first = uuid4()
    place, most, rest = first.time_low, 1 << 32, str(first)[8:]
    return [f"{(place + number) % most:08x}{rest}" for number in range(count)]


def head_of(letter: Letter) -> bytes:
    """The first words, up to the run's id."""
    return b"%s run %s %d " % (VERSION, letter.message.name.encode(), letter.envelope.attempt)


def dump(value: Any, message: Message) -> bytes:
    """JSON of what a message holds. Raises NotJSON."""
    try:
        return orjson.dumps(value, default=outcome_to_json)
    except TypeError as error:
        raise NotSerializable(f"the arguments of {bare(message.name)} must be JSON values: {error}") from error


#: What orjson says of a value that it cannot write, in words that name the value.
REASONS = {
    "Integer exceeds 64-bit range": "an integer is beyond 64 bits",
    "Recursion limit reached": "it is nested more than 250 deep, or holds itself",
    "Dict key must a type serializable with OPT_NON_STR_KEYS": "a key of a dictionary is neither text nor a number",
    "str is not valid UTF-8: surrogates not allowed": "a text is not valid UTF-8",
}


def dump_value(value: Any) -> bytes:
    """Return the JSON of a value that Huey keeps; `str` makes text of what JSON does not know. Raises NotStorable."""
    try:
        body = orjson.dumps(value_to_json(value), default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise NotStorable(REASONS.get(str(error), str(error))) from error
    # orjson writes null for what is not finite.
    if value is not None and b"null" in body and (place := find_not_finite(value)):
        raise NotStorable(f"{place}, which JSON cannot carry")
    return body


def find_not_finite(value: Any, name: str = "it") -> str | None:
    """Return which part of a value is NaN or infinite, such as `it['rates'][2] is nan`; None where none is."""
    match value:
        case float():
            return None if math.isfinite(value) else f"{name} is {value}"
        case dict():
            parts: Iterable[tuple[Any, str]] = (
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


def body_of(message: bytes) -> bytes:
    """The JSON of a message, for one who trusts where it comes from. Raises ValueError."""
    *_, body = message.split(b" ", 6)
    return body


def sign(key: hmac.HMAC, head: bytes, body: bytes) -> bytes:
    signing = key.copy()
    signing.update(head + body)
    return signing.hexdigest().encode()


def bare(name: str) -> str:
    """`tasks.close_abandoned_sessions` → `close_abandoned_sessions`."""
    return name.rpartition(".")[2]


def letter_to_json(letter: Letter) -> dict[str, Any]:
    envelope = letter.envelope._asdict() | {"asked_by": list(letter.envelope.asked_by)}
    return {"message": message_to_json(letter.message), "envelope": envelope}


def letter_of_json(content: dict[str, Any]) -> Letter:
    envelope = content["envelope"]
    envelope["asked_by"] = Asker(*envelope["asked_by"])
    envelope["enqueued_at"] = datetime.fromisoformat(envelope["enqueued_at"])
    return Letter(message_of_json(content["message"]), Envelope(**envelope))


def message_to_json(message: Message) -> dict[str, Any]:
    fields = {name: value for name, value in zip(message._fields, message, strict=True) if value is not None}
    for name in TO_JSON.keys() & fields.keys():
        fields[name] = TO_JSON[name](fields[name])
    fields["args"] = args_to_json(message.args)
    return fields


def message_of_json(fields: dict[str, Any]) -> Message:
    fields["args"] = args_of_json(fields["args"])
    for name in OF_JSON.keys() & fields.keys():
        fields[name] = OF_JSON[name](fields[name])
    return Message(**fields)


def time_to_json(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value


def time_of_json(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def chord_to_json(chord: Any) -> list[Any]:
    *place, callback = chord
    return [*place, message_to_json(callback)]


def chord_of_json(chord: list[Any]) -> tuple[Any, ...]:
    *place, callback = chord
    return (*place, message_of_json(callback))


TIMES, MESSAGES = ("eta", "expires", "expires_resolved"), ("on_complete", "on_error")
#: The fields of a message that JSON does not know as they are.
TO_JSON: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(TIMES, time_to_json), **dict.fromkeys(MESSAGES, message_to_json), "chord_config": chord_to_json,
}  # fmt: skip
OF_JSON: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(TIMES, time_of_json), **dict.fromkeys(MESSAGES, message_of_json), "chord_config": chord_of_json,
}  # fmt: skip


def value_to_json(value: Any) -> dict[str, Any]:
    if isinstance(value, Error):
        return {"error": value.metadata}
    if value is SKIPPED:
        return {"skipped": True}
    # Huey asks for the time a revocation ends as (datetime, bool).
    if isinstance(value, tuple) and value and isinstance(value[0], datetime):
        return {"until": value[0].isoformat(), "rest": value[1:]}
    return {"value": value}


def value_of_json(content: dict[str, Any]) -> Any:
    if "error" in content:
        return Error(content["error"])
    if "skipped" in content:
        return SKIPPED
    if "until" in content:
        return (datetime.fromisoformat(content["until"]), *content["rest"])
    return content["value"]
