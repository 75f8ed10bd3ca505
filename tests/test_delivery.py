"""Take, hold, settle: the same promises on SQLite and on Redis."""

import json
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

Broker = Any
WIRE = SignedJSON("k" * 40)


def message(run_id: str, task: str = "echo", attempt: int = 1) -> bytes:
    envelope = Envelope(Requester("code", "test"), datetime.now(UTC), "test", attempt=attempt)
    return WIRE.serialize(SignedMessage(Message(run_id, f"probes.{task}", args=(), kwargs={}), envelope))


@pytest.fixture(params=["sqlite", "redis"])
def brokers(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Broker]:
    """Makes connections of their own to one broker."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        return lambda **options: RedisStorage("probe", url, options.pop("result_ttl", 60), **options)
    path = tmp_path / "queue.db"
    return lambda **options: SqliteStorage("probe", path, options.pop("result_ttl", 60), **options)


@pytest.fixture
def broker(brokers: Callable[..., Broker]) -> Broker:
    return brokers()


def put(broker: Broker, *ids: str, priority: float | None = None, task: str = "echo") -> None:
    for run_id in ids:
        broker.messages.write(Effects().enqueue(run_id, message(run_id, task), priority))


def take(broker: Broker, worker: str = "w1", consumer: str = "c1", look_first: bool = False) -> Any:
    return broker.deliveries.settle_and_claim(consumer, worker, look_first, "{}").claimed


def settle(broker: Broker, taken: Delivery, effects: Effects, consumer: str = "c1") -> bool:
    return bool(broker.deliveries.settle(consumer, FinishedRun(taken, effects)))


def final(run_id: str) -> bytes:
    """A result that ends an attempt."""
    return bytes(WIRE.serialize(FinalResult("done", 1, run_id)))


def kinds(broker: Broker) -> list[str]:
    return [json.loads(event)["kind"] for _, event in broker.events.read(0, 100)]


def test_messages_come_in_order_and_only_once(broker: Broker) -> None:
    put(broker, "a", "b", "c")
    assert [take(broker, f"w{one}").run_id for one in range(3)] == ["a", "b", "c"]
    assert take(broker, "w4") is None


def test_a_higher_priority_goes_first_and_a_minute_of_waiting_outweighs_one_step(broker: Broker) -> None:
    put(broker, "plain")
    put(broker, "urgent", priority=2)
    old = datetime.now(UTC) - timedelta(minutes=3)
    broker.messages.write(Effects().enqueue("old", message("old"), None, old))
    broker.messages.enqueue_due(time.time())
    assert [take(broker, f"w{one}").run_id for one in range(3)] == ["old", "urgent", "plain"]


def test_very_many_come_in_at_once_and_what_was_there_before_comes_only_once(broker: Broker) -> None:
    put(broker, "r1500")
    ids, effects = [f"r{number}" for number in range(2500)], Effects()
    for run_id in ids:
        effects.enqueue(run_id, message(run_id))
    assert broker.messages.write(effects) == ids
    waiting = [parse_header(data).run_id for data in broker.messages.waiting()]
    assert waiting == ["r1500", *(run_id for run_id in ids if run_id != "r1500")]


def test_the_oldest_is_known_wherever_a_priority_has_moved_it(broker: Broker) -> None:
    times = [time.time()]
    for run_id, priority in (("hurried", 9), ("plain", None), ("patient", -9)):
        put(broker, run_id, priority=priority)
        times.append(time.time())
    for number, (before, after) in enumerate(pairwise(times)):
        assert before - 0.01 <= broker.messages.oldest_waiting() <= after + 0.01
        assert take(broker, f"w{number}")
    assert broker.messages.oldest_waiting() is None


def test_the_oldest_is_known_also_behind_very_many_that_were_hurried_past_it(broker: Broker) -> None:
    put(broker, "plain")
    came_in, effects = broker.messages.oldest_waiting(), Effects()
    for number in range(1100):
        effects.enqueue(f"r{number}", message(f"r{number}"), 5)
    broker.messages.write(effects)
    assert broker.messages.oldest_waiting() == came_in
    assert parse_header(broker.messages.waiting(1)[0]).run_id == "r0"


def test_what_is_taken_is_held_until_it_is_settled(broker: Broker) -> None:
    put(broker, "a")
    taken = take(broker)
    assert [(one.run_id, one.task, one.worker) for one in broker.deliveries.held()] == [("a", "echo", "w1")]
    assert settle(broker, taken, Effects().result("a", b"42"))
    assert (broker.deliveries.held(), broker.results.get("a"), broker.messages.get("a")) == ([], b"42", None)


def test_a_worker_that_is_unsure_gets_what_it_holds_before_anything_new(broker: Broker) -> None:
    put(broker, "a", "b")
    first = take(broker)
    assert take(broker, look_first=True)[:3] == first[:3]
    assert take(broker, "w2", look_first=True).run_id == "b"


def test_what_a_dead_worker_held_goes_back_to_its_place(broker: Broker) -> None:
    put(broker, "a", "b")
    take(broker, "w1")
    assert broker.deliveries.release("c1", "w1", "w1 died", 5) == 1
    again = take(broker, "w2")
    assert (again.run_id, again.delivery) == ("a", 2)
    assert kinds(broker) == ["returned"]


def test_one_worker_is_not_taken_for_another(broker: Broker) -> None:
    put(broker, "a")
    take(broker, "w1")
    assert broker.deliveries.release("c1", "w2", "w2 died", 5) == 0
    assert broker.deliveries.release("c2", None, "c2 died", 5) == 0
    assert len(broker.deliveries.held()) == 1


def test_one_delivery_alone_is_given_back_and_its_worker_keeps_the_others_and_its_locks(broker: Broker) -> None:
    put(broker, "a", "b")
    stray, other = take(broker), take(broker)
    broker.heartbeats.record("c1", {})
    assert broker.locks.acquire("door", "o1", "c1", "w1", None, 30)
    assert broker.deliveries.release("c1", "w1", "not executed", 5, only=stray._replace(delivery=2)) == 0
    assert broker.deliveries.release("c1", "w2", "not executed", 5, only=stray) == 0
    assert broker.deliveries.release("c1", "w1", "not executed", 5, only=stray) == 1
    assert [one.run_id for one in broker.deliveries.held()] == [other.run_id]
    assert list(broker.locks.all()) == ["door"]
    assert take(broker, "w2").delivery == 2


def test_a_delivery_that_is_given_back_alone_counts(broker: Broker) -> None:
    put(broker, "a")
    for _ in range(2):
        broker.deliveries.release("c1", "w1", "not executed", 2, only=take(broker))
    assert [run_id for run_id, _ in broker.dead_letters.all()] == ["a"]


def test_a_late_finisher_changes_nothing(broker: Broker) -> None:
    put(broker, "a")
    late = take(broker, "w1", "c1")
    broker.deliveries.release("c1", "w1", "silent", 5)
    current = take(broker, "w1", "c1")
    assert not settle(broker, late, Effects().result("a", b"late"))
    assert broker.results.get("a") is None
    assert settle(broker, current, Effects().result("a", b"right"))
    assert broker.results.get("a") == b"right"


def test_a_retry_is_stored_with_the_settling_and_keeps_the_count_of_deliveries(broker: Broker) -> None:
    put(broker, "a")
    assert settle(broker, take(broker), Effects().enqueue("a", message("a", attempt=2)))
    assert take(broker).delivery == 2


def test_a_message_that_takes_down_too_many_workers_is_dead_and_blocks_nobody(broker: Broker) -> None:
    put(broker, "poison", "good")
    for _ in range(2):
        take(broker)
        broker.deliveries.release("c1", "w1", "w1 died", 2)
    assert take(broker).run_id == "good"
    assert broker.messages.count_waiting() == 0
    assert broker.messages.get("poison") is not None


def test_handing_back_at_shutdown_never_counts(broker: Broker) -> None:
    put(broker, "a")
    for _ in range(4):
        take(broker)
        broker.deliveries.release("c1", None, "shutdown", 2, counts=False)
    assert take(broker).delivery == 5


def test_a_buried_message_is_kept_with_its_reason(broker: Broker) -> None:
    broker.enqueue(b"garbage")
    taken = take(broker)
    broker.deliveries.dead_letter("c1", taken, "not a message")
    assert (broker.deliveries.held(), broker.messages.count_waiting(), kinds(broker)[-1]) == ([], 0, "dead")
    assert broker.messages.get(taken.run_id) == b"garbage"


def test_a_silent_consumer_loses_what_it_holds_after_a_lease_and_a_live_one_does_not(broker: Broker) -> None:
    put(broker, "a", "b")
    broker.heartbeats.record("dead", {})
    take(broker, "w1", "dead")
    assert broker.deliveries.reap(1, 5) == []  # the first look after an outage
    while not (gone := broker.deliveries.reap(1, 5)):
        broker.heartbeats.record("alive", {})
        if not [one for one in broker.deliveries.held() if one.consumer == "alive"]:
            take(broker, "w1", "alive")
    assert gone == ["dead"]
    assert [one.consumer for one in broker.deliveries.held()] == ["alive"]


def test_nobody_is_reaped_in_the_first_round_after_an_outage(broker: Broker) -> None:
    put(broker, "a")
    broker.heartbeats.record("c1", {})
    take(broker)
    broker.deliveries.reap(1, 5)
    back_at = time.monotonic() + 1.1
    wait_until(lambda: time.monotonic() > back_at)  # an outage: nobody beats and nobody reaps
    assert [broker.deliveries.reap(1, 5), broker.deliveries.reap(1, 5)] == [[], []], "nor by the second who looks"


def test_due_messages_move_in_one_step_and_no_other(broker: Broker) -> None:
    now = datetime.now(UTC)
    for name, seconds in (("late", -5), ("just", 0), ("soon", 60)):
        broker.messages.write(Effects().enqueue(name, message(name), None, now + timedelta(seconds=seconds)))
    assert broker.messages.enqueue_due(now.timestamp() + 0.001) == 2
    assert (broker.messages.count_waiting(), broker.messages.count_scheduled()) == (2, 1)
    assert [take(broker, f"w{one}").run_id for one in range(2)] == ["late", "just"]


def test_a_scheduled_message_keeps_its_priority(broker: Broker) -> None:
    now = datetime.now(UTC)
    broker.messages.write(Effects().enqueue("plain", message("plain"), None, now - timedelta(seconds=1)))
    broker.messages.write(Effects().enqueue("urgent", message("urgent"), 5, now))
    broker.messages.enqueue_due(time.time() + 1)
    assert take(broker).run_id == "urgent"


def test_a_tick_lets_one_message_in_however_many_schedulers_try(brokers: Callable[..., Broker]) -> None:
    schedulers = [brokers() for _ in range(3)]
    let_in = [
        one.ticks.record("echo", 100, Effects().enqueue(f"t{n}", message(f"t{n}"), None))
        for n, one in enumerate(schedulers)
    ]
    assert let_in == [True, False, False]
    assert schedulers[0].messages.count_waiting() == 1
    assert schedulers[0].ticks.last() == {"echo": 100}
    assert not schedulers[1].ticks.record("echo", 99, Effects())
    assert schedulers[2].ticks.record("echo", 101, Effects())


def test_a_paused_queue_hands_nothing_out_and_a_paused_task_is_passed_over(broker: Broker) -> None:
    put(broker, "a", task="first")
    put(broker, "b", task="second")
    info = {"by": "vera", "kind": "operator", "at": "2026-11-28T12:00:00+00:00", "reason": None}
    broker.pauses.put("", info)
    assert take(broker) is None
    assert broker.pauses.all() == {"": info}
    broker.pauses.put("first", {})
    assert broker.pauses.remove("")
    assert not broker.pauses.remove("")
    assert take(broker).run_id == "b"
    assert take(broker, "w2") is None
    broker.pauses.remove("first")
    assert take(broker, "w2").run_id == "a"


def test_a_second_message_of_a_run_that_is_held_changes_nothing(broker: Broker) -> None:
    put(broker, "a")
    taken = take(broker)
    put(broker, "a")
    assert broker.messages.count_waiting() == 0
    assert settle(broker, taken, Effects())


def test_results_live_for_their_time_and_are_read_as_often_as_wanted(brokers: Callable[..., Broker]) -> None:
    broker = brokers(result_ttl=2)
    broker.messages.write(Effects().result("a", b"1"))
    assert [broker.pop_data("a"), broker.pop_data("a")] == [b"1", b"1"]
    wait_until(lambda: broker.results.get("a") is None)
    broker.results.delete_expired()
    assert broker.result_items() == {}


def test_waiting_for_a_result_keeps_its_timeout_and_serves_all_who_wait(brokers: Callable[..., Broker]) -> None:
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


def test_the_age_of_the_oldest_is_that_of_waiting_and_not_of_priority(broker: Broker) -> None:
    assert broker.messages.oldest_waiting() is None
    before = time.time()
    put(broker, "a", priority=5)
    assert before - 1 <= broker.messages.oldest_waiting() <= time.time() + 1
    take(broker)
    assert broker.messages.oldest_waiting() is None


def test_events_beyond_the_bound_are_dropped_and_counted(broker: Broker) -> None:
    from engine.broker.storage import DROPPED_COUNTER

    for number in range(10):
        broker.messages.write(Effects().event(f'{{"n": {number}}}'))
    broker.events.drop_oldest(4)
    assert [event for _, event in broker.events.read(0, 100)] == [b'{"n": %d}' % number for number in range(6, 10)]
    assert broker.results.increment(DROPPED_COUNTER, 0) == 6
    last = broker.events.read(0, 100)[1][0]
    broker.events.trim(last)
    assert len(broker.events.read(0, 100)) == 2


def test_beats_tell_who_lives(broker: Broker) -> None:
    before = time.time()
    broker.heartbeats.record("c1", {"pid": 1})
    [beat] = broker.heartbeats.all()
    assert (beat.consumer, beat.info) == ("c1", {"pid": 1})
    assert before - 0.01 <= beat.at <= time.time() + 0.01
    broker.heartbeats.remove("c1")
    assert broker.heartbeats.all() == []


def test_an_idle_worker_wakes_when_something_comes(brokers: Callable[..., Broker]) -> None:
    import threading

    broker = brokers(read_timeout=60)
    assert take(broker) is None
    started = time.monotonic()
    threading.Timer(0.1, lambda: put(brokers(), "a")).start()
    broker.deliveries.wait_for_work()
    assert time.monotonic() - started < 30
    assert take(broker).run_id == "a"


def test_settling_and_taking_the_next_are_one_step(broker: Broker) -> None:
    put(broker, "a", "b")
    first = take(broker)
    turn = broker.deliveries.settle_and_claim("c1", "w1", False, "{}", FinishedRun(first, Effects().result("a", b"1")))
    assert (turn.settled, turn.claimed.run_id, broker.results.get("a")) == (True, "b", b"1")
    again = broker.deliveries.settle_and_claim("c1", "w1", False, "{}", FinishedRun(first, Effects().result("a", b"2")))
    assert (again.settled, again.claimed, broker.results.get("a")) == (False, None, b"1")


def test_a_message_that_is_sent_again_has_no_effect(broker: Broker) -> None:
    put(broker, "a")
    wire = broker.messages.get("a")
    broker.enqueue(wire)
    assert broker.messages.count_waiting() == 1
    taken = take(broker)
    broker.enqueue(wire)
    assert settle(broker, taken, Effects().result("a", b"1"))
    broker.enqueue(wire)
    broker.add_to_schedule(wire, datetime.now(UTC))
    assert (broker.messages.count_waiting(), broker.messages.count_scheduled(), take(broker)) == (0, 0, None)


def test_a_message_of_an_earlier_attempt_does_not_replace_a_later_one(broker: Broker) -> None:
    put(broker, "a")
    settle(broker, take(broker), Effects().enqueue("a", message("a", attempt=2)))
    broker.enqueue(message("a", attempt=1))
    assert broker.messages.get("a").startswith(b"1 run probes.echo 2 a ")


def test_a_run_is_cancelled_while_it_waits_and_marked_while_it_runs(broker: Broker) -> None:
    put(broker, "waits", "runs")
    broker.messages.write(Effects().enqueue("later", message("later"), None, datetime.now(UTC) + timedelta(hours=1)))
    assert [broker.messages.cancel(one, "vera") for one in ("waits", "later", "nobody")] == [
        "removed",
        "removed",
        "unknown",
    ]
    assert take(broker).run_id == "runs"
    assert broker.messages.cancel("runs", "vera") == "running"
    assert broker.deliveries.cancelled() == {"runs": "vera"}
    assert (broker.messages.count_waiting(), broker.messages.count_scheduled()) == (0, 0)


def test_a_cancelled_run_is_settled_by_nothing_but_its_cancel(broker: Broker) -> None:
    put(broker, "a", "b")
    taken, retry = take(broker), Effects().enqueue("a", message("a", attempt=2))
    broker.messages.cancel("a", "vera")
    for settle_it in (
        lambda done: broker.deliveries.settle("c1", done),
        lambda done: broker.deliveries.settle_and_claim("c1", "w1", False, "", done),
    ):
        with pytest.raises(CancelRequested, match="vera"):
            settle_it(FinishedRun(taken, retry))
        with pytest.raises(CancelRequested, match="vera"):
            settle_it(FinishedRun(taken, Effects().result("a", final("a")).event("{}")))
    assert broker.messages.locate("a").state == "held"
    assert (
        broker.deliveries.settle_and_claim(
            "c1", "w1", False, "", FinishedRun(taken, Effects(), is_cancel=True)
        ).claimed.run_id
        == "b"
    )
    assert broker.messages.locate("a") is None


def test_a_cancelled_run_is_not_started_again_when_its_worker_dies(broker: Broker) -> None:
    put(broker, "a")
    take(broker)
    broker.messages.cancel("a", "vera")
    assert broker.deliveries.release("c1", "w1", "died", 5) == 1
    assert broker.messages.locate("a") is None
    assert kinds(broker)[-2:] == ["returned", "cancelled"]


def test_a_queue_is_purged_of_what_waits_and_of_nothing_else(broker: Broker) -> None:
    put(broker, *"abcd")
    taken = take(broker)
    assert (broker.messages.purge("vera", 2), broker.messages.purge("vera", 2), broker.messages.purge("vera", 2)) == (
        2,
        1,
        0,
    )
    assert [one.run_id for one in broker.deliveries.held()] == [taken.run_id]
    assert kinds(broker).count("cancelled") == 3


def test_the_dead_are_listed_put_back_and_discarded(broker: Broker) -> None:
    put(broker, "a", "b")
    for worker in ("w1", "w2"):
        take(broker, worker)
        broker.deliveries.release("c1", worker, "died", 1)
    assert dict(broker.dead_letters.all()).keys() == {"a", "b"}
    assert (broker.dead_letters.requeue("a"), broker.dead_letters.requeue("a"), broker.dead_letters.discard("b")) == (
        True,
        False,
        True,
    )
    assert (take(broker).run_id, broker.dead_letters.all()) == ("a", [])


def test_the_message_of_a_discarded_run_that_comes_again_changes_nothing(broker: Broker) -> None:
    put(broker, "a")
    take(broker)
    broker.deliveries.release("c1", "w1", "died", 1)
    assert broker.dead_letters.discard("a")
    put(broker, "a")
    assert broker.messages.locate("a") is None
    broker.messages.clear_finished("a")
    put(broker, "a")
    assert broker.messages.locate("a").state == "waiting"


def test_of_two_runs_that_are_to_be_unique_the_first_is_kept_while_it_waits_or_runs(broker: Broker) -> None:
    def post(run_id: str) -> list[str]:
        return list(broker.messages.write(Effects().enqueue(run_id, message(run_id), unique="report:x")))

    assert [post("a"), post("b")] == [["a"], ["a"]]
    taken = take(broker)
    assert post("c") == ["a"]
    settle(broker, taken, Effects())
    assert post("d") == ["d"]
    assert broker.messages.count_waiting() == 1


def test_what_is_to_be_stored_once_is_stored_once(broker: Broker) -> None:
    for name in ("a", "b"):
        broker.messages.write(Effects().enqueue(name, message(name), once="chord:1"))
    assert broker.messages.count_waiting() == 1


def test_no_more_starts_than_the_rate_allows_in_any_window(broker: Broker) -> None:
    limits = '{"slow": [2, 1]}'
    for number in range(5):
        put(broker, f"s{number}", task="slow")
    put(broker, "quick")
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


def test_a_lock_dies_with_its_worker_its_consumer_or_its_time(broker: Broker) -> None:
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
