"""Alerts are raised once, however many watchers run. Tests cover the time of notices and the end of alerts."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from browsers import create_app_with_people
from factories import create_consumer, create_run, create_session
from flask import Flask

import tasks
from admin.alerts import channels, delivery, watcher
from admin.alerts.watcher import AlertWatcher
from config import QUEUES, parse_quiet_hours
from engine.broker.messages import Requester
from engine.control import queues
from engine.database import database, on_postgresql, release_connection
from engine.exceptions import BrokerUnavailable
from engine.history import run_counts
from engine.models import Consumer, HistoryCursor, Tick, now
from engine.monitor import alert_rules, alerts
from engine.monitor import alerts as engine_alerts
from engine.monitor.alerts import Alert, Notice, Signal, Watcher

NO_DELAY = timedelta(0)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def one_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure one channel, so that notices are due. These tests read the due notices."""
    monkeypatch.setattr(channels, "configured_channels", lambda: ["webhook"])


@pytest.fixture
def watch(each_database: str) -> AlertWatcher:
    """Return a watcher without delays. Every queue has a live worker."""
    create_app_with_people()
    start_consumers()
    return AlertWatcher(lambda rule: NO_DELAY, NO_DELAY)


def start_consumers() -> None:
    Consumer.delete().execute()
    for queue in QUEUES:
        # Tests check times hours ahead, at which it must still be live.
        create_consumer(queue, beat_at=now() + 9 * HOUR, scheduler_at=now() + 9 * HOUR)


def open_alert_keys() -> list[tuple[str, str]]:
    return [(alert.rule, alert.subject) for alert in alerts.open_alerts()]


def sent_events() -> list[str]:
    return [notice.event for notice in reversed(alerts.newest_notices(100)) if notice.state != "dropped"]


def add_ended_runs(task: str, state: str, times: int = 1) -> None:
    for _ in range(times):
        run = create_run(task, state, ended_at=now(), wait_ms=1, run_ms=1)
        run_counts.increment(Counter(run_counts.counter_keys(run)))


# --- the rules -----------------------------------------------------------------------------------------------


def stop_heavy_consumer() -> Any:
    Consumer.update(stopped_at=now()).where(Consumer.queue == "heavy").execute()
    return start_consumers


def delay_scheduler() -> Any:
    Consumer.update(scheduler_at=now() - MINUTE).where(Consumer.queue == "light").execute()
    return start_consumers


def add_missed_tick() -> Any:
    due_at = now() - timedelta(minutes=30)
    Tick.create(task="close_abandoned_sessions", due_at=due_at, queue="light", state="missed", seen_at=due_at)
    return lambda: Tick.update(state="late").execute()


def age_waiting_run() -> Any:
    tasks.get_cleanup_statistics(hours=3)
    tasks.light.storage.database.execute("UPDATE message SET since = since - 3600 WHERE queue = 'light'")
    return tasks.light.flush


def add_failures() -> Any:
    add_ended_runs("get_cleanup_statistics", "succeeded", 15)
    add_ended_runs("get_cleanup_statistics", "failed", 5)
    return lambda: add_ended_runs("get_cleanup_statistics", "succeeded", 6)


def add_dead_letter() -> Any:
    tasks.light.storage.enqueue(b"what cannot be read")
    tasks.light.dequeue()

    def discard() -> None:
        for run_id, _data in tasks.light.storage.dead_letters.all():
            tasks.light.storage.dead_letters.discard(run_id)

    return discard


def add_abandoned_sessions() -> Any:
    with database.atomic():
        for _ in range(3):
            create_session(minutes_ago=500)
    return lambda: database.execute_sql("UPDATE reading_sessions SET is_active = false")


@pytest.mark.parametrize(
    ("trouble", "alert"),
    [
        (stop_heavy_consumer, ("unserved", "heavy")),
        (delay_scheduler, ("late", "light")),
        (add_missed_tick, ("missed", "close_abandoned_sessions")),
        (age_waiting_run, ("oldest", "light")),
        (add_failures, ("failing", "get_cleanup_statistics")),
        (add_dead_letter, ("dead", "light")),
        (add_abandoned_sessions, ("abandoned", "")),
    ],
    ids=lambda value: value.__name__ if callable(value) else value[0],
)
def test_problem_fires_its_alert_and_its_end_resolves_it(
    watch: AlertWatcher, trouble: Callable[[], Any], alert: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    low = alert_rules.RULES["abandoned"]._replace(is_broken=alert_rules.above(2))
    monkeypatch.setitem(alert_rules.RULES, "abandoned", low)
    watch.check(now())
    assert open_alert_keys() == [] and sent_events() == []
    mend = trouble()
    for _ in range(3):
        watch.check(now())
        assert open_alert_keys() == [alert]
    assert sent_events() == ["fired"]
    engine_alerts.claim_notice(alerts.newest_notices(1)[0], now())  # a channel that was about to send gets the end too
    mend()
    for _ in range(2):
        watch.check(now())
    assert open_alert_keys() == []
    assert sent_events() == ["fired", "resolved"]
    mend_again = trouble()
    watch.check(now())
    assert (open_alert_keys(), sent_events()) == ([alert], ["fired", "resolved", "fired"])
    mend_again()


def test_few_failures_or_a_small_share_fire_no_alert(watch: AlertWatcher) -> None:
    add_ended_runs("get_cleanup_statistics", "failed", 4)
    add_ended_runs("process_bulk", "failed", 5)
    add_ended_runs("process_bulk", "succeeded", 25)
    watch.check(now())
    assert open_alert_keys() == []


def test_paused_queue_fires_no_oldest_alert(watch: AlertWatcher) -> None:
    age_waiting_run()
    queues.pause_queue(tasks.light, by=Requester("cli", "me"))
    watch.check(now())
    assert open_alert_keys() == []


def test_dropped_events_resolve_after_an_hour_without_more(watch: AlertWatcher) -> None:
    at = now()
    HistoryCursor.create(stream="light:1", position=3, dropped=7)
    watch.check(at)
    HistoryCursor.update(dropped=9).execute()
    watch.check(at + 10 * MINUTE)
    assert (open_alert_keys(), sent_events()) == ([("dropped", "")], ["fired"])
    watch.check(at + HOUR)
    assert (open_alert_keys(), sent_events()) == ([("dropped", "")], ["fired", "worse"])
    assert alerts.newest_notices(1)[0].facts["value"] == 9
    Notice.update(tries=1).execute()
    watch.check(at + 2 * HOUR + MINUTE)
    assert (open_alert_keys(), sent_events()) == ([], ["fired", "worse", "resolved"])
    watch.check(at + 3 * HOUR)
    assert open_alert_keys() == []
    HistoryCursor.update(dropped=10).execute()
    watch.check(at + 4 * HOUR)
    assert open_alert_keys() == [("dropped", "")]


def test_more_dead_runs_escalate_at_most_once_an_hour(watch: AlertWatcher) -> None:
    at = now()
    add_dead_letter()
    watch.check(at)
    add_dead_letter()
    watch.check(at + MINUTE)
    assert sent_events() == ["fired"]
    watch.check(at + HOUR)
    watch.check(at + HOUR + MINUTE)
    assert sent_events() == ["fired", "worse"]


def test_unavailable_broker_fires_its_alert_and_keeps_the_others(
    watch: AlertWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_heavy_consumer()
    watch.check(now())

    def away() -> int:
        raise BrokerUnavailable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(tasks.heavy.storage.messages, "count_waiting", away)
        for _ in range(2):
            watch.check(now())
        assert sorted(open_alert_keys()) == [("broker", ""), ("unserved", "heavy")]
    watch.check(now())
    assert open_alert_keys() == [("unserved", "heavy")]


def test_short_problem_fires_no_alert_and_flapping_fires_one(each_database: str) -> None:
    create_app_with_people()
    start_consumers()
    watch, at = AlertWatcher(), now()
    mend = stop_heavy_consumer()
    watch.check(at)
    mend()
    watch.check(at + 30 * timedelta(seconds=1))
    assert open_alert_keys() == []
    mend = stop_heavy_consumer()
    watch.check(at + MINUTE)
    watch.check(at + 1.5 * MINUTE)
    assert open_alert_keys() == []
    watch.check(at + 2 * MINUTE)
    assert open_alert_keys() == [("unserved", "heavy")]
    for minutes in (3.0, 3.9, 5.0, 5.9):
        mend() if minutes % 1 == 0 else stop_heavy_consumer()
        watch.check(at + minutes * MINUTE)
    assert sent_events() == ["fired"]
    mend()
    watch.check(at + 7 * MINUTE)
    watch.check(at + 8 * MINUTE)
    assert open_alert_keys() == []


# --- two watchers --------------------------------------------------------------------------------------------


def test_concurrent_watchers_fire_and_resolve_an_alert_once(each_database: str) -> None:
    signal, at = Signal("unserved", "heavy", 1, {"waiting": 0}), now()
    barrier, outcomes = Barrier(6), []

    def together(number: int, what: Callable[[], bool]) -> None:
        barrier.wait()
        outcomes.append(what())
        release_connection()

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
    assert all_at_once(lambda n: alerts.open_alert(signal, moments[n], ["webhook", "email"], at)) == one_true
    assert Notice.select().count() == 2
    Notice.update(tries=1).execute()
    assert all_at_once(lambda n: alerts.resolve_alert(Alert.get(), at, at)) == one_true
    assert Notice.select().count() == 4
    seen = [alerts.newest_notices(1)[0] for _ in range(6)]
    assert all_at_once(lambda n: alerts.claim_notice(seen[n], at)) == one_true
    assert on_postgresql() == each_database.startswith("postgresql")


# --- quiet hours ---------------------------------------------------------------------------------------------


def parse_time(text: str) -> datetime:
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
def test_notices_wait_for_the_end_of_quiet_hours(
    quiet: str, at: str, told_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(delivery.settings, alert_quiet_hours=parse_quiet_hours(quiet))
    monkeypatch.setattr(delivery, "settings", changed)
    assert delivery.notify_at(parse_time(at)) == parse_time(told_at)


@pytest.mark.parametrize(("at", "told_at"), [("00:10", "00:30"), ("00:40", "00:40"), ("01:10", "01:30")])
def test_quiet_hours_end_in_each_pass_of_a_repeated_hour(
    at: str, told_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 01:00 UTC the clocks of Berlin go from 03:00 back to 02:00."""
    quiet = parse_quiet_hours("22:00-02:30 Europe/Berlin")
    monkeypatch.setattr(delivery, "settings", replace(delivery.settings, alert_quiet_hours=quiet))
    first, last = (datetime.fromisoformat(f"2026-10-25T{time}:00+00:00") for time in (at, told_at))
    assert delivery.notify_at(first) == last


def test_alert_that_ends_in_quiet_hours_sends_no_notice(watch: AlertWatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    at = now()
    monkeypatch.setattr(watcher, "notify_at", lambda as_of: at + HOUR)
    mend = stop_heavy_consumer()
    watch.check(at)
    assert alerts.due_notices(at) == []
    mend()
    watch.check(at + MINUTE)
    assert (open_alert_keys(), sent_events(), alerts.due_notices(at + 2 * HOUR)) == ([], [], [])
    stop_heavy_consumer()
    watch.check(at + 2 * MINUTE)
    assert [notice.event for notice in alerts.due_notices(at + HOUR)] == ["fired"]


# --- watchers, and pruning -----------------------------------------------------------------------------------


def test_watcher_row_stores_its_last_check(watch: AlertWatcher) -> None:
    tasks.get_cleanup_statistics(hours=3)
    watch.check(now())
    [watcher_row] = alerts.is_watched(now())
    assert watcher_row.id == watch.me.id and watcher_row.seen["oldest"]["subject"] in QUEUES
    assert json.dumps(watcher_row.seen)
    assert alerts.is_watched(now() + 2 * MINUTE) == []
    watch.deregister()
    assert alerts.is_watched(now()) == [] and Watcher.select().count() == 1
    later = AlertWatcher()
    later.check(now() + timedelta(days=2))
    assert Watcher.select().count() == 1


def test_old_alerts_are_deleted_and_open_ones_kept(sqlite_database: None) -> None:
    at = now()
    for subject in ("heavy", "light"):
        alerts.open_alert(Signal("unserved", subject, 1, {"waiting": 0}), at, ["webhook"], at)
    Notice.update(state="sent", tries=1).execute()
    alerts.resolve_alert(Alert.get(Alert.subject == "heavy"), at, at)
    Notice.update(state="sent").execute()
    alerts.delete_older(at + MINUTE)
    assert open_alert_keys() == [("unserved", "light")] and Alert.select().count() == 1
    assert Notice.select().count() == 0


def test_disabled_rule_never_fires(app: Flask) -> None:
    assert not alert_rules.above(0)(None, Signal("oldest", "light", 1e9, {}))  # type: ignore[arg-type]
