"""What is worth an alert, once, by whoever watches; when people are told of it, and when it is over."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from browsers import app_with_people
from flask import Flask
from library import consumer_of, run, session

import tasks
from admin.alerts import channels, delivery, watcher
from admin.alerts.watcher import Watch
from config import QUEUES, parse_quiet_hours
from engine.broker.messages import Requester
from engine.control import queues
from engine.database import database, on_postgresql, release
from engine.exceptions import BrokerAway
from engine.history import run_counts
from engine.models import HistoryCursor, Tick, WorkerProcess, now
from engine.monitor import alert_rules, alerts
from engine.monitor import alerts as engine_alerts
from engine.monitor.alerts import Alert, Notice, Signal, Watcher

AT_ONCE = timedelta(0)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def one_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerts are to be told; these tests look at what is about to be sent."""
    monkeypatch.setattr(channels, "channels", lambda: ["webhook"])


@pytest.fixture
def impatient(each_database: str) -> Watch:
    """One that waits for nothing, in a house where every queue is served."""
    app_with_people()
    serve()
    return Watch(lambda rule: AT_ONCE, AT_ONCE)


def serve() -> None:
    WorkerProcess.delete().execute()
    for queue in QUEUES:
        # Tests look hours ahead, and it is alive then too.
        consumer_of(queue, beat_at=now() + 9 * HOUR, scheduler_at=now() + 9 * HOUR)


def firing() -> list[tuple[str, str]]:
    return [(one.rule, one.subject) for one in alerts.open_alerts()]


def told() -> list[str]:
    return [one.event for one in reversed(alerts.newest(100)) if one.state != "dropped"]


def ended(task: str, state: str, times: int = 1) -> None:
    for _ in range(times):
        one = run(task, state, ended_at=now(), wait_ms=1, run_ms=1)
        run_counts.add(Counter(run_counts.keys_of(one)))


# --- the rules -----------------------------------------------------------------------------------------------


def no_worker() -> Any:
    WorkerProcess.update(stopped_at=now()).where(WorkerProcess.queue == "heavy").execute()
    return serve


def late_clock() -> Any:
    WorkerProcess.update(scheduler_at=now() - MINUTE).where(WorkerProcess.queue == "light").execute()
    return serve


def missed_tick() -> Any:
    due_at = now() - timedelta(minutes=30)
    Tick.create(task="close_abandoned_sessions", due_at=due_at, queue="light", state="missed", seen_at=due_at)
    return lambda: Tick.update(state="late").execute()


def waits_long() -> Any:
    tasks.get_cleanup_statistics(hours=3)
    tasks.light.storage.database.execute("UPDATE message SET since = since - 3600 WHERE queue = 'light'")
    return tasks.light.flush


def fails_often() -> Any:
    ended("get_cleanup_statistics", "succeeded", 15)
    ended("get_cleanup_statistics", "failed", 5)
    return lambda: ended("get_cleanup_statistics", "succeeded", 6)


def dead_run() -> Any:
    tasks.light.storage.enqueue(b"what cannot be read")
    tasks.light.dequeue()

    def discard() -> None:
        for run_id, _data in tasks.light.storage.dead_letters.all():
            tasks.light.storage.dead_letters.discard(run_id)

    return discard


def piled_up() -> Any:
    with database.atomic():
        for _ in range(3):
            session(minutes_ago=500)
    return lambda: database.execute_sql("UPDATE reading_sessions SET is_active = false")


@pytest.mark.parametrize(
    ("trouble", "alert"),
    [
        (no_worker, ("unserved", "heavy")),
        (late_clock, ("late", "light")),
        (missed_tick, ("missed", "close_abandoned_sessions")),
        (waits_long, ("oldest", "light")),
        (fails_often, ("failing", "get_cleanup_statistics")),
        (dead_run, ("dead", "light")),
        (piled_up, ("abandoned", "")),
    ],
    ids=lambda value: value.__name__ if callable(value) else value[0],
)
def test_what_is_wrong_is_told_once_and_that_it_is_over_once(
    impatient: Watch, trouble: Callable[[], Any], alert: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    low = alert_rules.RULES["abandoned"]._replace(is_broken=alert_rules.beyond(2))
    monkeypatch.setitem(alert_rules.RULES, "abandoned", low)
    impatient.look(now())
    assert firing() == [] and told() == []
    mend = trouble()
    for _ in range(3):
        impatient.look(now())
        assert firing() == [alert]
    assert told() == ["fired"]
    engine_alerts.claim(alerts.newest(1)[0], now())  # whom somebody begins to tell is told the end too
    mend()
    for _ in range(2):
        impatient.look(now())
    assert firing() == []
    assert told() == ["fired", "resolved"]
    mend_again = trouble()
    impatient.look(now())
    assert (firing(), told()) == ([alert], ["fired", "resolved", "fired"])
    mend_again()


def test_few_failures_and_a_small_share_of_many_are_no_alert(impatient: Watch) -> None:
    ended("get_cleanup_statistics", "failed", 4)
    ended("process_bulk", "failed", 5)
    ended("process_bulk", "succeeded", 25)
    impatient.look(now())
    assert firing() == []


def test_a_paused_queue_may_wait_as_long_as_it_is_paused(impatient: Watch) -> None:
    waits_long()
    queues.pause(tasks.light, by=Requester("cli", "me"))
    impatient.look(now())
    assert firing() == []


def test_dropped_events_are_over_when_there_are_no_more_for_an_hour(impatient: Watch) -> None:
    at = now()
    HistoryCursor.create(stream="light:1", position=3, dropped=7)
    impatient.look(at)
    HistoryCursor.update(dropped=9).execute()
    impatient.look(at + 10 * MINUTE)
    assert (firing(), told()) == ([("dropped", "")], ["fired"])
    impatient.look(at + HOUR)
    assert (firing(), told()) == ([("dropped", "")], ["fired", "worse"])
    assert alerts.newest(1)[0].facts["value"] == 9
    Notice.update(tries=1).execute()
    impatient.look(at + 2 * HOUR + MINUTE)
    assert (firing(), told()) == ([], ["fired", "worse", "resolved"])
    impatient.look(at + 3 * HOUR)
    assert firing() == []
    HistoryCursor.update(dropped=10).execute()
    impatient.look(at + 4 * HOUR)
    assert firing() == [("dropped", "")]


def test_more_dead_runs_are_told_again_but_not_every_minute(impatient: Watch) -> None:
    at = now()
    dead_run()
    impatient.look(at)
    dead_run()
    impatient.look(at + MINUTE)
    assert told() == ["fired"]
    impatient.look(at + HOUR)
    impatient.look(at + HOUR + MINUTE)
    assert told() == ["fired", "worse"]


def test_without_the_broker_that_is_told_and_the_rest_stays_as_it_was(
    impatient: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_worker()
    impatient.look(now())

    def away() -> int:
        raise BrokerAway("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(tasks.heavy.storage.messages, "count_waiting", away)
        for _ in range(2):
            impatient.look(now())
        assert sorted(firing()) == [("broker", ""), ("unserved", "heavy")]
    impatient.look(now())
    assert firing() == [("unserved", "heavy")]


def test_what_passes_within_a_minute_is_no_alert_and_what_comes_and_goes_is_one(each_database: str) -> None:
    app_with_people()
    serve()
    watch, at = Watch(), now()
    mend = no_worker()
    watch.look(at)
    mend()
    watch.look(at + 30 * timedelta(seconds=1))
    assert firing() == []
    mend = no_worker()
    watch.look(at + MINUTE)
    watch.look(at + 1.5 * MINUTE)
    assert firing() == []
    watch.look(at + 2 * MINUTE)
    assert firing() == [("unserved", "heavy")]
    for minutes in (3.0, 3.9, 5.0, 5.9):
        mend() if minutes % 1 == 0 else no_worker()
        watch.look(at + minutes * MINUTE)
    assert told() == ["fired"]
    mend()
    watch.look(at + 7 * MINUTE)
    watch.look(at + 8 * MINUTE)
    assert firing() == []


# --- two of them ---------------------------------------------------------------------------------------------


def test_of_many_who_see_the_same_at_once_one_fires_and_one_resolves(each_database: str) -> None:
    found, at = Signal("unserved", "heavy", 1, {"waiting": 0}), now()
    barrier, outcomes = Barrier(6), []

    def together(number: int, what: Callable[[], bool]) -> None:
        barrier.wait()
        outcomes.append(what())
        release()

    def all_at_once(what: Callable[[int], bool]) -> list[bool]:
        outcomes.clear()
        threads = [Thread(target=together, args=[n, lambda n=n: what(n)]) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(outcomes)

    one_true = [False] * 5 + [True]
    moments = [at + timedelta(microseconds=number) for number in range(6)]
    assert all_at_once(lambda n: alerts.fire(found, moments[n], ["webhook", "email"], at)) == one_true
    assert Notice.select().count() == 2
    Notice.update(tries=1).execute()
    assert all_at_once(lambda n: alerts.resolve(Alert.get(), at, at)) == one_true
    assert Notice.select().count() == 4
    seen = [alerts.newest(1)[0] for _ in range(6)]
    assert all_at_once(lambda n: alerts.claim(seen[n], at)) == one_true
    assert on_postgresql() == each_database.startswith("postgresql")


# --- quiet hours ---------------------------------------------------------------------------------------------


def at_time(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}:00+00:00").astimezone(UTC)


@pytest.mark.parametrize(
    ("quiet", "at", "told_at"),
    [
        ("", "23 23:30", "23 23:30"),
        ("22:00-07:00", "23 21:59", "23 21:59"),
        ("22:00-07:00", "23 22:00", "24 07:00"),
        ("22:00-07:00", "24 06:59", "24 07:00"),
        ("22:00-07:00", "24 07:00", "24 07:00"),
        ("12:00-13:30", "24 12:10", "24 13:30"),
        ("12:00-13:30", "24 11:00", "24 11:00"),
        ("22:00-07:00 Europe/Berlin", "23 21:30", "24 06:00"),
        ("22:00-07:00 Europe/Berlin", "24 06:30", "24 06:30"),
    ],
)
def test_in_quiet_hours_nobody_is_told_before_they_end(
    quiet: str, at: str, told_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(delivery.settings, alert_quiet_hours=parse_quiet_hours(quiet))
    monkeypatch.setattr(delivery, "settings", changed)
    assert delivery.told_from(at_time(at)) == at_time(told_at)


@pytest.mark.parametrize(("at", "told_at"), [("00:10", "00:30"), ("00:40", "00:40"), ("01:10", "01:30")])
def test_quiet_hours_end_in_each_pass_of_an_hour_that_comes_twice(
    at: str, told_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 01:00 UTC the clocks of Berlin go from 03:00 back to 02:00."""
    quiet = parse_quiet_hours("22:00-02:30 Europe/Berlin")
    monkeypatch.setattr(delivery, "settings", replace(delivery.settings, alert_quiet_hours=quiet))
    first, last = (datetime.fromisoformat(f"2026-10-25T{time}:00+00:00") for time in (at, told_at))
    assert delivery.told_from(first) == last


def test_what_is_over_before_the_quiet_hours_end_is_told_to_nobody(
    impatient: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now()
    monkeypatch.setattr(watcher, "told_from", lambda as_of: at + HOUR)
    mend = no_worker()
    impatient.look(at)
    assert alerts.due(at) == []
    mend()
    impatient.look(at + MINUTE)
    assert (firing(), told(), alerts.due(at + 2 * HOUR)) == ([], [], [])
    no_worker()
    impatient.look(at + 2 * MINUTE)
    assert [one.event for one in alerts.due(at + HOUR)] == ["fired"]


# --- those who watch, and what goes --------------------------------------------------------------------------


def test_who_watches_is_on_record_with_what_it_saw(impatient: Watch) -> None:
    tasks.get_cleanup_statistics(hours=3)
    impatient.look(now())
    [one] = alerts.watching(now())
    assert one.id == impatient.me.id and one.seen["oldest"]["subject"] in QUEUES
    assert json.dumps(one.seen)
    assert alerts.watching(now() + 2 * MINUTE) == []
    impatient.say_goodbye()
    assert alerts.watching(now()) == [] and Watcher.select().count() == 1
    later = Watch()
    later.look(now() + timedelta(days=2))
    assert Watcher.select().count() == 1


def test_old_alerts_go_and_open_ones_stay(library: None) -> None:
    at = now()
    for subject in ("heavy", "light"):
        alerts.fire(Signal("unserved", subject, 1, {"waiting": 0}), at, ["webhook"], at)
    Notice.update(state="sent", tries=1).execute()
    alerts.resolve(Alert.get(Alert.subject == "heavy"), at, at)
    Notice.update(state="sent").execute()
    alerts.forget(at + MINUTE)
    assert firing() == [("unserved", "light")] and Alert.select().count() == 1
    assert Notice.select().count() == 0


def test_a_rule_that_is_off_never_fires(app: Flask) -> None:
    assert not alert_rules.beyond(0)(None, Signal("oldest", "light", 1e9, {}))  # type: ignore[arg-type]
