"""A caller's dictionary arrives as it was sent, also one that looks like what a chord's callback gets of a member."""

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


def letter(*args: Any, **kwargs: Any) -> SignedMessage:
    return SignedMessage(
        Message("an-id", "tasks.note", args=args, kwargs=kwargs), Envelope(Requester("code", "here"), now(), "1")
    )


@given(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=2), values, max_size=2))
def test_every_argument_comes_back_as_it_went_whatever_its_keys(args: list[Any], kwargs: dict[str, Any]) -> None:
    sent = letter(*args, **kwargs)
    sent = sent._replace(message=sent.message._replace(on_complete=sent.message, on_error=sent.message))
    assert WIRE.deserialize(WIRE.serialize(sent)) == sent
    ((_, data),) = MessageBatch(WIRE, letter(), [tuple(args)])
    assert WIRE.deserialize(data).message.args == tuple(args)


def test_what_a_chord_hands_on_comes_back_beside_what_only_looks_like_it() -> None:
    mixed = [Error({"error": "ValueError()"}), SKIPPED, *ODD]
    assert WIRE.deserialize(WIRE.serialize(letter(mixed))).message.args == (mixed,)


def test_a_message_of_the_version_before_is_read_as_ever() -> None:
    body = b'{"message":{"id":"an-id","name":"tasks.note","args":[[{"$error":{"error":"x"}},{"$skipped":true},7]],'
    body += b'"kwargs":{}},"envelope":{"asked_by":["code","here"],"enqueued_at":"2026-11-23T00:00:00+00:00",'
    body += b'"code_version":"1","parent_id":null,"attempt":1,"retries":0}}'
    old = WIRE.sign(b"run", b"1 run tasks.note 1 an-id ", body)
    assert WIRE.deserialize(old).message.args == ([Error({"error": "x"}), SKIPPED, 7],)


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


def work_off(queue: Queue) -> None:
    while (task := queue.dequeue()) is not None:
        queue.execute(task)
    writer.write_down(queue)


def test_it_arrives_so_in_every_way_that_a_run_may_come(queue: Queue) -> None:
    seen: list[Any] = []

    @queue.task(retries=1)
    def note(given: Any, keyword: Any = None) -> Any:
        seen.append((given, keyword))
        if len(seen) == 1:
            raise ValueError("once more")
        return given

    run = note(ODD, keyword=ODD)  # and its second attempt
    work_off(queue)
    note.map([(ODD, ODD)])
    queue.enqueue(note.s(ODD).then(note))
    queue.enqueue(chord([note.s(one) for one in ODD], note.s(keyword=ODD)))
    work_off(queue)
    assert [given for given, _ in seen if isinstance(given, list)] == [ODD] * 6
    assert [given for given, _ in seen if not isinstance(given, list)] == ODD
    assert run.get(preserve=True) == ODD
    record = Run.get_by_id(run.id)
    assert (record.args, record.kwargs) == ([ODD], {"keyword": ODD})
    queues = {"light": queue}
    runs.retry(queues, run.id, Requester("operator", "vera"))
    runs.run_again(queues, run.id, record.args, record.kwargs, by=Requester("operator", "vera"))
    work_off(queue)
    assert seen[-2:] == [(ODD, ODD)] * 2


def test_what_a_chord_has_handed_on_is_handed_on_again_by_a_retry(queue: Queue) -> None:
    seen: list[Any] = []
    odd, fail = queue.task(name="odd")(lambda: {"$error": 1}), queue.task(name="fail")(lambda: 1 / 0)
    gather = queue.task(name="gather")(seen.append)
    queue.enqueue(chord([odd.s(), fail.s()], gather.s(id="gathered")))
    work_off(queue)
    runs.retry({"light": queue}, "gathered", Requester("operator", "vera"))
    work_off(queue)
    assert len(seen) == 2 and seen[0] == seen[1]
    assert seen[0][0] == {"$error": 1} and isinstance(seen[0][1], Error)
