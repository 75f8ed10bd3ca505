"""A dictionary argument arrives unchanged, even one that looks like the result of a chord's member."""

import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huey import chord
from huey.registry import Message
from huey.utils import SKIPPED, Error
from hypothesis import given
from hypothesis import strategies as st

from engine.broker.messages import Envelope, MessageBatch, Requester, SignedJSON, SignedMessage
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.control import runs
from engine.hash_chain import derive_key
from engine.history import writer
from engine.models import Run, now
from engine.queues.queue import Queue

WIRE = SignedJSON("k" * 40)
ODD = [{"$error": 1}, {"$skipped": True}, {"$$error": {"$error": 2}}, {"$error": 1, "more": 2}, {"error": 3}, {}]
keys = st.from_regex(r"\A\$*(error|skipped|)\Z") | st.text(max_size=3)
values = st.recursive(
    st.none() | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=12,
)


def create_message(*args: Any, **kwargs: Any) -> SignedMessage:
    return SignedMessage(
        Message("an-id", "tasks.note", args=args, kwargs=kwargs), Envelope(Requester("code", "here"), now(), "1")
    )


@given(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=2), values, max_size=2))
def test_argument_survives_a_round_trip_whatever_its_keys(args: list[Any], kwargs: dict[str, Any]) -> None:
    sent = create_message(*args, **kwargs)
    sent = sent._replace(message=sent.message._replace(on_complete=sent.message, on_error=sent.message))
    assert WIRE.deserialize_message("q", WIRE.serialize_message("q", sent)) == sent
    ((_, data),) = MessageBatch(WIRE, "q", create_message(), [tuple(args)])
    assert WIRE.deserialize_message("q", data).message.args == tuple(args)


def test_chord_results_are_distinguished_from_lookalike_values() -> None:
    mixed = [Error({"error": "ValueError()"}), SKIPPED, *ODD]
    assert WIRE.deserialize_message("q", WIRE.serialize_message("q", create_message(mixed))).message.args == (mixed,)


def test_message_of_the_previous_version_is_readable() -> None:
    body = b'{"message":{"id":"an-id","name":"tasks.note","args":[[{"$error":{"error":"x"}},{"$skipped":true},7]],'
    body += b'"kwargs":{}},"envelope":{"asked_by":["code","here"],"enqueued_at":"2026-11-23T00:00:00+00:00",'
    body += b'"code_version":"1","parent_id":null,"attempt":1,"retries":0}}'
    header = b"1 run tasks.note 1 an-id "
    signature = hmac.digest(derive_key("k" * 40, b"run"), header + body, "sha256").hex().encode()
    old = header + signature + b" " + body
    assert WIRE.deserialize_message("q", old).message.args == ([Error({"error": "x"}), SKIPPED, 7],)


@pytest.fixture(params=["sqlite", "redis"])
def queue(request: pytest.FixtureRequest, tmp_path: Path, each_database: str) -> Iterator[Queue]:
    made = Queue("light")
    if request.param == "redis":
        made.storage = RedisStorage("light", request.getfixturevalue("redis_url"), 60, read_timeout=0.05)
    else:
        made.storage = SqliteStorage("light", tmp_path / "queue.db", 60, read_timeout=0.05)
    made.set_worker_identity("here", "Worker-1")
    yield made
    made.storage.close()


def process_all(queue: Queue) -> None:
    while (task := queue.dequeue()) is not None:
        queue.execute(task)
    writer.flush_events(queue)


def test_odd_argument_arrives_unchanged_on_every_path(queue: Queue) -> None:
    seen: list[Any] = []

    @queue.task(retries=1)
    def note(value: Any, keyword: Any = None) -> Any:
        seen.append((value, keyword))
        if len(seen) == 1:
            raise ValueError("once more")
        return value

    run = note(ODD, keyword=ODD)  # and its second attempt
    process_all(queue)
    note.map([(ODD, ODD)])
    queue.enqueue(note.s(ODD).then(note))
    queue.enqueue(chord([note.s(odd_value) for odd_value in ODD], note.s(keyword=ODD)))
    process_all(queue)
    assert [value for value, _ in seen if isinstance(value, list)] == [ODD] * 6
    assert [value for value, _ in seen if not isinstance(value, list)] == ODD
    assert run.get(preserve=True) == ODD
    record = Run.get_by_id(run.id)
    assert (record.args, record.kwargs) == ([ODD], {"keyword": ODD})
    queues = {"light": queue}
    runs.retry_run(queues, run.id, Requester("operator", "vera"))
    runs.run_again(queues, run.id, record.args, record.kwargs, by=Requester("operator", "vera"))
    process_all(queue)
    assert seen[-2:] == [(ODD, ODD)] * 2


def test_retried_chord_gets_the_same_results_again(queue: Queue) -> None:
    seen: list[Any] = []
    odd, fail = queue.task(name="odd")(lambda: {"$error": 1}), queue.task(name="fail")(lambda: 1 / 0)
    gather = queue.task(name="gather")(seen.append)
    queue.enqueue(chord([odd.s(), fail.s()], gather.s(id="gathered")))
    process_all(queue)
    runs.retry_run({"light": queue}, "gathered", Requester("operator", "vera"))
    process_all(queue)
    assert len(seen) == 2 and seen[0] == seen[1]
    assert seen[0][0] == {"$error": 1} and isinstance(seen[0][1], Error)
