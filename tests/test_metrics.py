"""What Prometheus is told: right whoever answers, after deletions and restarts, and within bounds."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from browsers import app_with_people, bearer_headers
from flask import Flask
from installation import Installation, free_port
from library import attempt, consumer_of, run, session
from prometheus_client.parser import text_string_to_metric_families
from waiting import wait_until

import tasks
from admin.api import metrics, request_metrics
from engine.broker.messages import Requester
from engine.control import queues, runs
from engine.database import database
from engine.history import run_counts
from engine.history.writer import write_down
from engine.models import HistoryCursor, Run, Tick, now
from engine.monitor import alerts
from engine.monitor.alerts import Signal

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(text: str) -> Scrape:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Scrape, name: str, **labels: str) -> float | None:
    return found.get((f"dewey_{name}", frozenset(labels.items())))


@pytest.fixture
def scrape(app: Flask) -> Callable[[], Scrape]:
    return lambda: scraped(app.test_client().get("/metrics").text)


def ended(task: str = "get_cleanup_statistics", state: str = "succeeded", **values: Any) -> Run:
    one = run(task, state, ended_at=now(), **{"wait_ms": 40.0, "run_ms": 1500.0, **values})
    run_counts.add(Counter(run_counts.keys_of(one)))
    return one


# --- who may -------------------------------------------------------------------------------------------------


def test_it_is_open_to_this_machine_and_asks_everybody_else_for_a_token(app: Flask) -> None:
    client = app.test_client()
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.content_type.startswith("text/plain; version=")
    assert client.get("/metrics", headers={"X-Forwarded-For": "10.0.0.1"}).status_code == 401
    stranger = {"REMOTE_ADDR": "10.0.0.1"}
    assert client.get("/metrics", environ_base=stranger).status_code == 401
    assert client.get("/metrics", environ_base=stranger, headers=bearer_headers("viewer")).status_code == 200


def test_a_scraper_that_speaks_openmetrics_gets_it(app: Flask) -> None:
    answer = app.test_client().get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


# --- runs ----------------------------------------------------------------------------------------------------


def test_runs_are_counted_by_state_task_and_queue(scrape: Callable[[], Scrape]) -> None:
    for state in ("succeeded", "succeeded", "failed"):
        ended(state=state)
    ended("process_book", "dead", queue="heavy")
    found = scrape()
    of = {"task": "get_cleanup_statistics", "queue": "light"}
    assert value(found, "runs_ended_total", state="succeeded", **of) == 2
    assert value(found, "runs_ended_total", state="failed", **of) == 1
    assert value(found, "runs_ended_total", state="expired", **of) == 0
    assert value(found, "runs_ended_total", state="dead", task="process_book", queue="heavy") == 1


def test_a_counter_never_falls(app: Flask, scrape: Callable[[], Scrape]) -> None:
    gone, again = ended(state="failed"), ended(state="failed")
    attempt(again, 1, "failed", ended_at=now(), next_at=now())
    run_counts.add({run_counts.key_of(again, now(), run_counts.RETRIED): 1})
    before = scrape()
    with database.atomic():
        run_counts.uncount([gone])
        gone.delete_instance()
    old = Counter(run_counts.keys_of(again))
    again.state, again.ended_at, again.run_ms = "succeeded", now(), 90.0
    new = Counter(run_counts.keys_of(again))
    new.subtract(old)
    run_counts.add(new)
    after = scrape()
    counters = [key for key in before if key[0].endswith(("_total", "_bucket", "_count", "_sum"))]
    assert len(counters) > 20
    assert [key for key in counters if after[key] < before[key]] == []
    of = {"task": "get_cleanup_statistics", "queue": "light"}
    assert value(after, "runs_ended_total", state="failed", **of) == 2
    assert value(after, "runs_ended_total", state="succeeded", **of) == 1
    assert value(after, "attempts_retried_total", **of) == 1


def test_a_retry_through_the_broker_counts_both_ends(each_database: str) -> None:
    app = app_with_people()
    run_id = str(tasks.get_cleanup_statistics(hours=0).id)
    for delivery in range(2):
        if delivery:
            runs.retry(tasks.queues, run_id, Requester("cli", "me"))
        tasks.light.execute(tasks.light.dequeue())
        write_down(tasks.light)
    found = scraped(app.test_client().get("/metrics").text)
    assert value(found, "runs_ended_total", state="failed", task="get_cleanup_statistics", queue="light") == 2


def test_durations_fall_into_the_buckets_that_they_are_shorter_than(scrape: Callable[[], Scrape]) -> None:
    for run_ms in (1.0, 3.0, 5.0, 100.0, 5_000.0, 10_000_000.0):
        ended(run_ms=run_ms)
    found = scrape()
    steps = {
        labels["le"]: count
        for (name, pairs), count in found.items()
        if name == "dewey_run_duration_seconds_bucket" and (labels := dict(pairs))
    }
    edges = sorted(map(float, steps))
    assert steps["0.0032"] == 2 and steps["0.0064"] == 3 and steps["0.1024"] == 4 and steps["6.5536"] == 5
    assert edges[-1] == float("inf") and steps["+Inf"] == 6
    assert [steps[key] for key in sorted(steps, key=float)] == sorted(steps.values())
    assert value(found, "run_duration_seconds_count", task="get_cleanup_statistics", queue="light") == 6
    total = value(found, "run_duration_seconds_sum", task="get_cleanup_statistics", queue="light")
    assert total == pytest.approx(10_005.109, rel=0.1)


def test_too_many_unknown_tasks_are_one(scrape: Callable[[], Scrape]) -> None:
    with database.atomic():
        for number in range(metrics.MOST_TASKS + 50):
            ended(f"forgotten_{number:03}", queue="light")
        ended("get_cleanup_statistics")
        ended("get_cleanup_statistics", queue="no_such_queue")
    found = scrape()
    ends = [dict(pairs) for name, pairs in found if name == "dewey_runs_ended_total"]
    known = sum(len(queue._registry._registry) for queue in tasks.queues.values())
    kept = metrics.MOST_TASKS - known
    assert {labels["task"] for labels in ends} == {
        "get_cleanup_statistics",
        "other",
        *(f"forgotten_{number:03}" for number in range(kept)),
    }
    assert {labels["queue"] for labels in ends} == {"light", "other"}
    assert value(found, "runs_ended_total", task="other", queue="light", state="succeeded") == 150 - kept
    assert value(found, "runs_ended_total", task="get_cleanup_statistics", queue="light", state="succeeded") == 1
    totals = [count for (name, _), count in found.items() if name == "dewey_runs_ended_total"]
    assert sum(totals) == metrics.MOST_TASKS + 52


# --- queues, consumers, schedule -----------------------------------------------------------------------------


def test_queues_tell_what_waits_since_when_and_what_runs(scrape: Callable[[], Scrape]) -> None:
    # The broker is one for all tests, and another may have left something held.
    held = value(scrape(), "runs_running", queue="light", task="get_cleanup_statistics") or 0
    for _ in range(3):
        tasks.get_cleanup_statistics(hours=3)
    tasks.get_cleanup_statistics.schedule(kwargs={"hours": 3}, delay=600)
    tasks.light.storage.deliveries.settle_and_claim("c1", "Worker-1", False, "{}")
    queues.pause(tasks.heavy, by=Requester("cli", "me"), reason="why not")
    found = scrape()
    assert value(found, "queue_depth", queue="light") == 2
    assert value(found, "queue_scheduled", queue="light") == 1
    assert 0 <= (value(found, "queue_oldest_seconds", queue="light") or 0) < 60
    assert value(found, "queue_oldest_seconds", queue="normal") == 0
    assert value(found, "runs_running", queue="light", task="get_cleanup_statistics") == held + 1
    assert (value(found, "queue_paused", queue="heavy"), value(found, "queue_paused", queue="light")) == (1, 0)
    assert value(found, "dead_runs", queue="light") == 0
    tasks.light.storage.deliveries.release("c1", "Worker-1", "the test is over", 9)


def test_consumers_and_their_workers_are_told_by_state(scrape: Callable[[], Scrape]) -> None:
    at = now()
    job = {"worker": "Worker-1", "run_id": "x", "task": "process_book", "since": at.isoformat()}
    consumer_of("light", worker_count=3, running=[job], scheduler_at=at - timedelta(seconds=4))
    consumer_of("heavy", quiet_at=at)
    consumer_of("normal", beat_at=at - timedelta(minutes=2))
    found = scrape()
    assert value(found, "consumers", queue="light", state="live") == 1
    assert value(found, "consumers", queue="heavy", state="quiet") == 1
    assert value(found, "consumers", queue="normal", state="lost") == 1
    assert value(found, "consumers", queue="normal", state="live") == 0
    workers = {state: value(found, "workers", queue="light", state=state) for state in ("busy", "idle")}
    assert workers == {"busy": 1, "idle": 2}
    assert value(found, "workers", queue="normal", state="idle") == 0
    assert 4 <= (value(found, "scheduler_lag_seconds", queue="light") or 0) < 30
    assert value(found, "scheduler_lag_seconds", queue="normal") is None


def test_sessions_ticks_drops_and_alerts_are_told(scrape: Callable[[], Scrape]) -> None:
    session(minutes_ago=5)
    session(minutes_ago=500)
    due_at = now() - timedelta(minutes=30)
    Tick.create(task="close_abandoned_sessions", due_at=due_at, queue="light", state="missed", seen_at=due_at)
    HistoryCursor.create(stream="light:1", position=3, dropped=7)
    alerts.fire(Signal("unserved", "light", 1, {"waiting": 0}), now(), [], now())
    found = scrape()
    assert (value(found, "sessions", state="active"), value(found, "sessions", state="abandoned")) == (2, 1)
    assert value(found, "sessions_closed_last_day") == 0
    assert value(found, "ticks_missed", task="close_abandoned_sessions") == 1
    assert value(found, "recorder_dropped_events_total") == 7
    assert value(found, "alerts_firing", rule="unserved") == 1 and value(found, "alerts_firing", rule="dead") == 0
    assert value(found, "watch_seen_timestamp_seconds") == 0


def test_while_the_database_is_away_the_broker_still_tells(app: Flask, scrape: Callable[[], Scrape]) -> None:
    assert value(scrape(), "up", part="database") == 1
    tasks.get_cleanup_statistics(hours=3)
    database.execute_sql("ALTER TABLE dewey_workers RENAME TO gone")
    found = scrape()
    assert (value(found, "up", part="database"), value(found, "up", part="broker")) == (0, 1)
    assert value(found, "queue_depth", queue="light") == 1
    assert value(found, "consumers", queue="light", state="live") is None


# --- requests ------------------------------------------------------------------------------------------------


def test_requests_are_told_by_view_method_and_status(app: Flask, scrape: Callable[[], Scrape]) -> None:
    client = app.test_client()
    for address in ("/healthz", "/healthz", "/no-such-page", "/no-other-page"):
        client.get(address)
    client.post("/healthz")
    client.open("/healthz", method="BREW")
    found = scrape()
    assert value(found, "http_requests_total", endpoint="api.health", method="GET", status="200") == 2
    assert value(found, "http_requests_total", endpoint="", method="GET", status="404") == 2
    assert value(found, "http_requests_total", endpoint="", method="POST", status="405") == 1
    assert value(found, "http_requests_total", endpoint="", method="other", status="405") == 1
    assert value(found, "http_request_duration_seconds_count", endpoint="api.health") == 2
    assert value(found, "http_request_duration_seconds_bucket", endpoint="api.health", le="+Inf") == 2


def test_what_cannot_be_written_is_kept_for_the_next_time(app: Flask) -> None:
    mine = request_metrics.traffic_of(app)
    mine.note("api.health", "GET", 200, 0.004)
    database.execute_sql("ALTER TABLE dewey_http_counts RENAME TO elsewhere")
    mine.write()
    database.execute_sql("ALTER TABLE elsewhere RENAME TO dewey_http_counts")
    mine.write()
    mine.write()
    [(kind, count)] = request_metrics.ever()
    assert (kind.endpoint, kind.method, kind.status, count) == ("api.health", "GET", 200, 1)


@pytest.fixture
def two_webs(tmp_path: Path, redis_url: str, fresh_postgresql: str) -> list[Installation]:
    """Two web servers on one database and one broker."""
    servers = {"REDIS_URL": redis_url, "DATABASE_URL": fresh_postgresql, "SECRET_KEY": "k" * 32}
    first = Installation(tmp_path, **servers)
    second = Installation(tmp_path, **servers)
    second.port = free_port()
    second.environment["PORT"] = str(second.port)
    assert first.flask("migrate").returncode == 0
    return [first, second]


def test_two_web_servers_tell_the_same_and_go_on_where_they_were(two_webs: list[Installation]) -> None:
    first, second = two_webs

    def healths(one: Installation) -> float:
        found = scraped(one.ask("GET", "/metrics").text)
        return value(found, "http_requests_total", endpoint="api.health", method="GET", status="200") or 0

    with first.web():
        with second.web():
            for _ in range(3):
                assert first.ask("GET", "/healthz").status == 200
            for _ in range(4):
                assert second.ask("GET", "/healthz").status == 200
            # Each has written its own at the latest when its few seconds are over.
            wait_until(lambda: healths(first) == 7)
            assert healths(second) == 7
            second.ask("GET", "/healthz")
        # One that ends writes down the last.
        wait_until(lambda: healths(first) == 8)
    with second.web():
        assert healths(second) == 8
        assert second.ask("GET", "/healthz").status == 200
        assert healths(second) == 9
