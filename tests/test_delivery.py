"""Claim, hold, settle: the same guarantees on SQLite and on Redis."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from huey.registry import Message
from waiting import wait_until

from engine.broker.deliveries import Delivery, FinishedRun
from engine.broker.effects import Effects
from engine.broker.message_header import parse_header
from engine.broker.messages import Envelope, FinalResult, Requester, SignedJSON, SignedMessage
from engine.broker.redis.storage import RedisStorage
from engine.broker.sqlite.storage import SqliteStorage
from engine.exceptions import CancelRequested
from engine.history import events

Broker = Any
WIRE = SignedJSON("k" * 40)


def message(run_id: str, task: str = "echo", attempt: int = 1) -> bytes:
    envelope = Envelope(Requester("code", "test"), datetime.now(UTC), "test", attempt=attempt)
    return WIRE.serialize_message(
        "probe", SignedMessage(Message(run_id, f"sample_tasks.{task}", args=(), kwargs={}), envelope)
    )


@pytest.fixture(params=["sqlite", "redis"])
def brokers(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Broker]:
    """Return a function that opens separate connections to one broker."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        return lambda **options: RedisStorage("probe", url, options.pop("result_ttl", 60), **options)
    path = tmp_path / "queue.db"
    return lambda **options: SqliteStorage("probe", path, options.pop("result_ttl", 60), **options)


@pytest.fixture
def broker(brokers: Callable[..., Broker]) -> Broker:
    return brokers()


def enqueue(broker: Broker, *ids: str, priority: float | None = None, task: str = "echo") -> None:
    for run_id in ids:
        broker.messages.write(Effects().enqueue(run_id, message(run_id, task), priority))


def claim(broker: Broker, worker: str = "w1", consumer: str = "c1", look_first: bool = False) -> Any:
    return broker.deliveries.settle_and_claim(consumer, worker, look_first, "{}").claimed


def settle(broker: Broker, taken: Delivery, effects: Effects, consumer: str = "c1") -> bool:
    return bool(broker.deliveries.settle(consumer, FinishedRun(taken, effects)))


def final_result(run_id: str) -> bytes:
    """Return a result that ends an attempt."""
    return WIRE.serialize_value("probe", run_id, FinalResult("done", 1, run_id))


def event_kinds(broker: Broker) -> list[str]:
    return [events.parse_event(line)["kind"] for _, line in broker.events.read(0, 100)]


def test_messages_are_claimed_in_order_and_once(broker: Broker) -> None:
    enqueue(broker, "a", "b", "c")
    assert [claim(broker, f"w{number}").run_id for number in range(3)] == ["a", "b", "c"]
    assert claim(broker, "w4") is None


def test_priority_goes_first_but_a_minute_of_waiting_outweighs_a_step(broker: Broker) -> None:
    enqueue(broker, "plain")
    enqueue(broker, "urgent", priority=2)
    old = datetime.now(UTC) - timedelta(minutes=3)
    broker.messages.write(Effects().enqueue("old", message("old"), None, old))
    broker.messages.enqueue_due(time.time())
    assert [claim(broker, f"w{number}").run_id for number in range(3)] == ["old", "urgent", "plain"]


def test_large_batch_does_not_duplicate_a_waiting_message(broker: Broker) -> None:
    enqueue(broker, "r1500")
    ids, effects = [f"r{number}" for number in range(2500)], Effects()
    for run_id in ids:
        effects.enqueue(run_id, message(run_id))
    assert broker.messages.write(effects) == ids
    waiting = [parse_header(data).run_id for data in broker.messages.waiting()]
    assert waiting == ["r1500", *(run_id for run_id in ids if run_id != "r1500")]


def test_oldest_message_is_found_whatever_its_priority(broker: Broker) -> None:
    times = [time.time()]
    for run_id, priority in (("hurried", 9), ("plain", None), ("patient", -9)):
        enqueue(broker, run_id, priority=priority)
        times.append(time.time())
    for number, (before, after) in enumerate(pairwise(times)):
        assert before - 0.01 <= broker.messages.oldest_waiting() <= after + 0.01
        assert claim(broker, f"w{number}")
    assert broker.messages.oldest_waiting() is None


def test_oldest_message_is_found_behind_many_of_higher_priority(broker: Broker) -> None:
    enqueue(broker, "plain")
    came_in, effects = broker.messages.oldest_waiting(), Effects()
    for number in range(1100):
        effects.enqueue(f"r{number}", message(f"r{number}"), 5)
    broker.messages.write(effects)
    assert broker.messages.oldest_waiting() == came_in
    assert parse_header(broker.messages.waiting(1)[0]).run_id == "r0"


def test_claimed_message_is_held_until_settled(broker: Broker) -> None:
    enqueue(broker, "a")
    taken = claim(broker)
    assert [(message.run_id, message.task, message.worker) for message in broker.deliveries.held()] == [
        ("a", "echo", "w1")
    ]
    assert settle(broker, taken, Effects().result("a", b"42"))
    assert (broker.deliveries.held(), broker.results.get("a"), broker.messages.get("a")) == ([], b"42", None)


def test_unsure_worker_gets_its_held_message_first(broker: Broker) -> None:
    enqueue(broker, "a", "b")
    first = claim(broker)
    assert claim(broker, look_first=True)[:3] == first[:3]
    assert claim(broker, "w2", look_first=True).run_id == "b"


def test_message_of_a_dead_worker_returns_to_its_place(broker: Broker) -> None:
    enqueue(broker, "a", "b")
    claim(broker, "w1")
    assert broker.deliveries.release("c1", "w1", "w1 died", 5) == 1
    again = claim(broker, "w2")
    assert (again.run_id, again.delivery) == ("a", 2)
    assert event_kinds(broker) == ["returned"]


def test_release_affects_only_the_named_worker(broker: Broker) -> None:
    enqueue(broker, "a")
    claim(broker, "w1")
    assert broker.deliveries.release("c1", "w2", "w2 died", 5) == 0
    assert broker.deliveries.release("c2", None, "c2 died", 5) == 0
    assert len(broker.deliveries.held()) == 1


def test_single_delivery_is_released_and_the_worker_keeps_the_rest(broker: Broker) -> None:
    enqueue(broker, "a", "b")
    stray, other = claim(broker), claim(broker)
    broker.heartbeats.record("c1", {})
    assert broker.locks.acquire("door", "o1", "c1", "w1", None, 30)
    assert broker.deliveries.release("c1", "w1", "not executed", 5, only=stray._replace(delivery=2)) == 0
    assert broker.deliveries.release("c1", "w2", "not executed", 5, only=stray) == 0
    assert broker.deliveries.release("c1", "w1", "not executed", 5, only=stray) == 1
    assert [message.run_id for message in broker.deliveries.held()] == [other.run_id]
    assert list(broker.locks.all()) == ["door"]
    assert claim(broker, "w2").delivery == 2


def test_single_release_counts_as_a_delivery(broker: Broker) -> None:
    enqueue(broker, "a")
    for _ in range(2):
        broker.deliveries.release("c1", "w1", "not executed", 2, only=claim(broker))
    assert [run_id for run_id, _ in broker.dead_letters.all()] == ["a"]


def test_late_settle_changes_nothing(broker: Broker) -> None:
    enqueue(broker, "a")
    late = claim(broker, "w1", "c1")
    broker.deliveries.release("c1", "w1", "silent", 5)
    current = claim(broker, "w1", "c1")
    assert not settle(broker, late, Effects().result("a", b"late"))
    assert broker.results.get("a") is None
    assert settle(broker, current, Effects().result("a", b"right"))
    assert broker.results.get("a") == b"right"


def test_retry_is_stored_on_settle_and_keeps_the_delivery_count(broker: Broker) -> None:
    enqueue(broker, "a")
    assert settle(broker, claim(broker), Effects().enqueue("a", message("a", attempt=2)))
    assert claim(broker).delivery == 2


def test_message_over_its_delivery_limit_is_dead_lettered(broker: Broker) -> None:
    enqueue(broker, "poison", "good")
    for _ in range(2):
        claim(broker)
        broker.deliveries.release("c1", "w1", "w1 died", 2)
    assert claim(broker).run_id == "good"
    assert broker.messages.count_waiting() == 0
    assert broker.messages.get("poison") is not None


def test_release_at_shutdown_never_counts_as_a_delivery(broker: Broker) -> None:
    enqueue(broker, "a")
    for _ in range(4):
        claim(broker)
        broker.deliveries.release("c1", None, "shutdown", 2, counts=False)
    assert claim(broker).delivery == 5


def test_dead_letter_is_kept_with_its_reason(broker: Broker) -> None:
    broker.enqueue(b"garbage")
    taken = claim(broker)
    broker.deliveries.dead_letter("c1", taken, "not a message")
    assert (broker.deliveries.held(), broker.messages.count_waiting(), event_kinds(broker)[-1]) == ([], 0, "dead")
    assert broker.messages.get(taken.run_id) == b"garbage"


def test_stale_consumer_is_reaped_after_a_lease_and_a_live_one_is_not(broker: Broker) -> None:
    enqueue(broker, "a", "b")
    broker.heartbeats.record("dead", {})
    claim(broker, "w1", "dead")
    assert broker.deliveries.reap(1, 5) == []  # the first check after an outage
    while not (gone := broker.deliveries.reap(1, 5)):
        broker.heartbeats.record("alive", {})
        if not [message for message in broker.deliveries.held() if message.consumer == "alive"]:
            claim(broker, "w1", "alive")
    assert gone == ["dead"]
    assert [message.consumer for message in broker.deliveries.held()] == ["alive"]


def test_first_reap_after_an_outage_reaps_no_consumer(broker: Broker) -> None:
    enqueue(broker, "a")
    broker.heartbeats.record("c1", {})
    claim(broker)
    broker.deliveries.reap(1, 5)
    back_at = time.monotonic() + 1.1
    wait_until(lambda: time.monotonic() > back_at)  # an outage: no heartbeats and no checks for lost consumers
    assert [broker.deliveries.reap(1, 5), broker.deliveries.reap(1, 5)] == [[], []], (
        "the second check must return none either"
    )


def test_only_due_messages_are_moved(broker: Broker) -> None:
    now = datetime.now(UTC)
    for name, seconds in (("late", -5), ("just", 0), ("soon", 60)):
        broker.messages.write(Effects().enqueue(name, message(name), None, now + timedelta(seconds=seconds)))
    assert broker.messages.enqueue_due(now.timestamp() + 0.001) == 2
    assert (broker.messages.count_waiting(), broker.messages.count_scheduled()) == (2, 1)
    assert [claim(broker, f"w{number}").run_id for number in range(2)] == ["late", "just"]


def test_scheduled_message_keeps_its_priority(broker: Broker) -> None:
    now = datetime.now(UTC)
    broker.messages.write(Effects().enqueue("plain", message("plain"), None, now - timedelta(seconds=1)))
    broker.messages.write(Effects().enqueue("urgent", message("urgent"), 5, now))
    broker.messages.enqueue_due(time.time() + 1)
    assert claim(broker).run_id == "urgent"


def test_tick_enqueues_once_for_concurrent_schedulers(brokers: Callable[..., Broker]) -> None:
    schedulers = [brokers() for _ in range(3)]
    let_in = [
        scheduler.ticks.record("echo", 100, Effects().enqueue(f"t{n}", message(f"t{n}"), None))
        for n, scheduler in enumerate(schedulers)
    ]
    assert let_in == [True, False, False]
    assert schedulers[0].messages.count_waiting() == 1
    assert schedulers[0].ticks.last() == {"echo": 100}
    assert not schedulers[1].ticks.record("echo", 99, Effects())
    assert schedulers[2].ticks.record("echo", 101, Effects())


def test_paused_queue_is_not_claimed_and_a_paused_task_is_skipped(broker: Broker) -> None:
    enqueue(broker, "a", task="first")
    enqueue(broker, "b", task="second")
    info = {"by": "vera", "kind": "operator", "at": "2026-11-28T12:00:00+00:00", "reason": None}
    broker.pauses.put("", info)
    assert claim(broker) is None
    assert broker.pauses.all() == {"": info}
    broker.pauses.put("first", {})
    assert broker.pauses.remove("")
    assert not broker.pauses.remove("")
    assert claim(broker).run_id == "b"
    assert claim(broker, "w2") is None
    broker.pauses.remove("first")
    assert claim(broker, "w2").run_id == "a"


def test_second_message_of_a_held_run_changes_nothing(broker: Broker) -> None:
    enqueue(broker, "a")
    taken = claim(broker)
    enqueue(broker, "a")
    assert broker.messages.count_waiting() == 0
    assert settle(broker, taken, Effects())


def test_result_is_readable_repeatedly_until_it_expires(brokers: Callable[..., Broker]) -> None:
    broker = brokers(result_ttl=2)
    broker.messages.write(Effects().result("a", b"1"))
    assert [broker.pop_data("a").data, broker.pop_data("a").data] == [b"1", b"1"]
    wait_until(lambda: broker.results.get("a") is None)
    broker.results.delete_expired()
    assert broker.result_items() == {}


def test_wait_for_a_result_times_out_and_serves_all_waiters(brokers: Callable[..., Broker]) -> None:
    import threading

    started = time.monotonic()
    assert not brokers().results.wait("a", timeout=0.3)
    assert 0.3 <= time.monotonic() - started < 20
    got: list[bool] = []
    waiting = [threading.Thread(target=lambda: got.append(brokers().results.wait("a", timeout=60))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    brokers().messages.write(Effects().result("a", b"1"))
    for thread in waiting:
        thread.join(30)
    assert got == [True] * 3


def test_oldest_waiting_age_ignores_priority(broker: Broker) -> None:
    assert broker.messages.oldest_waiting() is None
    before = time.time()
    enqueue(broker, "a", priority=5)
    assert before - 1 <= broker.messages.oldest_waiting() <= time.time() + 1
    claim(broker)
    assert broker.messages.oldest_waiting() is None


def test_events_beyond_the_limit_are_dropped_and_counted(broker: Broker) -> None:
    from engine.broker.storage import DROPPED_COUNTER

    for number in range(10):
        broker.messages.write(Effects().event(f'{{"n": {number}}}'))
    broker.events.drop_oldest(4)
    assert [events.parse_event(line) for _, line in broker.events.read(0, 100)] == [
        {"n": number} for number in range(6, 10)
    ]
    assert broker.results.increment(DROPPED_COUNTER, 0) == 6
    last = broker.events.read(0, 100)[1][0]
    broker.events.trim(last)
    assert len(broker.events.read(0, 100)) == 2


def test_heartbeats_list_live_consumers(broker: Broker) -> None:
    before = time.time()
    broker.heartbeats.record("c1", {"pid": 1})
    [beat] = broker.heartbeats.all()
    assert (beat.consumer, beat.info) == ("c1", {"pid": 1})
    assert before - 0.01 <= beat.at <= time.time() + 0.01
    broker.heartbeats.remove("c1")
    assert broker.heartbeats.all() == []


def test_idle_worker_wakes_when_a_message_arrives(brokers: Callable[..., Broker]) -> None:
    import threading

    broker = brokers(read_timeout=60)
    assert claim(broker) is None
    started = time.monotonic()
    threading.Timer(0.1, lambda: enqueue(brokers(), "a")).start()
    broker.deliveries.wait_for_work()
    assert time.monotonic() - started < 30
    assert claim(broker).run_id == "a"


def test_settle_and_claim_are_one_step(broker: Broker) -> None:
    enqueue(broker, "a", "b")
    first = claim(broker)
    turn = broker.deliveries.settle_and_claim("c1", "w1", False, "{}", FinishedRun(first, Effects().result("a", b"1")))
    assert (turn.settled, turn.claimed.run_id, broker.results.get("a")) == (True, "b", b"1")
    again = broker.deliveries.settle_and_claim("c1", "w1", False, "{}", FinishedRun(first, Effects().result("a", b"2")))
    assert (again.settled, again.claimed, broker.results.get("a")) == (False, None, b"1")


def test_resent_message_has_no_effect(broker: Broker) -> None:
    enqueue(broker, "a")
    wire = broker.messages.get("a")
    broker.enqueue(wire)
    assert broker.messages.count_waiting() == 1
    taken = claim(broker)
    broker.enqueue(wire)
    assert settle(broker, taken, Effects().result("a", b"1"))
    broker.enqueue(wire)
    broker.add_to_schedule(wire, datetime.now(UTC))
    assert (broker.messages.count_waiting(), broker.messages.count_scheduled(), claim(broker)) == (0, 0, None)


def test_message_of_an_earlier_attempt_does_not_replace_a_later_one(broker: Broker) -> None:
    enqueue(broker, "a")
    settle(broker, claim(broker), Effects().enqueue("a", message("a", attempt=2)))
    broker.enqueue(message("a", attempt=1))
    assert broker.messages.get("a").startswith(b"2 run sample_tasks.echo 2 a ")


def test_cancel_removes_a_waiting_run_and_marks_a_running_one(broker: Broker) -> None:
    enqueue(broker, "waits", "runs")
    broker.messages.write(Effects().enqueue("later", message("later"), None, datetime.now(UTC) + timedelta(hours=1)))
    assert [broker.messages.cancel(run_id, "vera") for run_id in ("waits", "later", "missing")] == [
        "removed",
        "removed",
        "unknown",
    ]
    assert claim(broker).run_id == "runs"
    assert broker.messages.cancel("runs", "vera") == "running"
    assert broker.deliveries.cancelled() == {"runs": "vera"}
    assert (broker.messages.count_waiting(), broker.messages.count_scheduled()) == (0, 0)


def test_cancelled_run_is_settled_only_by_its_cancel(broker: Broker) -> None:
    enqueue(broker, "a", "b")
    taken, retry = claim(broker), Effects().enqueue("a", message("a", attempt=2))
    broker.messages.cancel("a", "vera")
    for settle_it in (
        lambda done: broker.deliveries.settle("c1", done),
        lambda done: broker.deliveries.settle_and_claim("c1", "w1", False, "", done),
    ):
        with pytest.raises(CancelRequested, match="vera"):
            settle_it(FinishedRun(taken, retry))
        with pytest.raises(CancelRequested, match="vera"):
            settle_it(FinishedRun(taken, Effects().result("a", final_result("a")).event("{}")))
    assert broker.messages.locate("a").state == "held"
    assert (
        broker.deliveries.settle_and_claim(
            "c1", "w1", False, "", FinishedRun(taken, Effects(), is_cancel=True)
        ).claimed.run_id
        == "b"
    )
    assert broker.messages.locate("a") is None


def test_cancelled_run_is_not_redelivered_when_its_worker_dies(broker: Broker) -> None:
    enqueue(broker, "a")
    claim(broker)
    broker.messages.cancel("a", "vera")
    assert broker.deliveries.release("c1", "w1", "died", 5) == 1
    assert broker.messages.locate("a") is None
    assert event_kinds(broker)[-2:] == ["returned", "cancelled"]


def test_purge_removes_only_waiting_messages(broker: Broker) -> None:
    enqueue(broker, *"abcd")
    taken = claim(broker)
    assert (broker.messages.purge("vera", 2), broker.messages.purge("vera", 2), broker.messages.purge("vera", 2)) == (
        2,
        1,
        0,
    )
    assert [message.run_id for message in broker.deliveries.held()] == [taken.run_id]
    assert event_kinds(broker).count("cancelled") == 3


def test_dead_letters_are_listed_requeued_and_discarded(broker: Broker) -> None:
    enqueue(broker, "a", "b")
    for worker in ("w1", "w2"):
        claim(broker, worker)
        broker.deliveries.release("c1", worker, "died", 1)
    assert dict(broker.dead_letters.all()).keys() == {"a", "b"}
    assert (broker.dead_letters.requeue("a"), broker.dead_letters.requeue("a"), broker.dead_letters.discard("b")) == (
        True,
        False,
        True,
    )
    assert (claim(broker).run_id, broker.dead_letters.all()) == ("a", [])


def test_the_message_of_a_discarded_run_that_comes_again_changes_nothing(broker: Broker) -> None:
    enqueue(broker, "a")
    claim(broker)
    broker.deliveries.release("c1", "w1", "died", 1)
    assert broker.dead_letters.discard("a")
    enqueue(broker, "a")
    assert broker.messages.locate("a") is None
    broker.messages.clear_finished("a")
    enqueue(broker, "a")
    assert broker.messages.locate("a").state == "waiting"


def test_unique_message_returns_the_existing_run_until_it_ends(broker: Broker) -> None:
    def post(run_id: str) -> list[str]:
        return list(broker.messages.write(Effects().enqueue(run_id, message(run_id), unique="report:x")))

    assert [post("a"), post("b")] == [["a"], ["a"]]
    taken = claim(broker)
    assert post("c") == ["a"]
    settle(broker, taken, Effects())
    assert post("d") == ["d"]
    assert broker.messages.count_waiting() == 1


def test_message_with_a_once_key_is_stored_once(broker: Broker) -> None:
    for name in ("a", "b"):
        broker.messages.write(Effects().enqueue(name, message(name), once="chord:1"))
    assert broker.messages.count_waiting() == 1


def test_rate_limit_holds_in_any_window(broker: Broker) -> None:
    limits = '{"slow": [2, 1]}'
    for number in range(5):
        enqueue(broker, f"s{number}", task="slow")
    enqueue(broker, "quick")
    taken = 0

    def take_all() -> bool:
        nonlocal taken
        broker.messages.enqueue_due(time.time())
        taken += bool(broker.deliveries.settle_and_claim("c1", f"w{taken}", False, limits).claimed)
        return taken == 6

    wait_until(take_all)
    started = sorted(held.held_at for held in broker.deliveries.held() if held.task == "slow")
    assert len(started) == 5
    assert all(later - earlier >= 0.99 for earlier, later in zip(started, started[2:], strict=False))


def test_lock_is_released_with_its_worker_consumer_or_timeout(broker: Broker) -> None:
    broker.heartbeats.record("c1", {})
    assert broker.locks.acquire("door", "o1", "c1", "w1", None, 30)
    assert not broker.locks.acquire("door", "o2", "c1", "w2", None, 30)
    assert not broker.locks.release("door", "o2")
    broker.deliveries.release("c1", "w1", "w1 died", 5)
    assert broker.locks.acquire("door", "o2", "c1", "w2", None, 30)
    broker.heartbeats.remove("c1")
    assert broker.locks.acquire("door", "o3", "", "", 0.05, 30)
    wait_until(lambda: broker.locks.acquire("door", "o4", "", "", 30, 30))
    assert broker.locks.release("door")
    assert broker.locks.all() == {}
