"""Prometheus metrics: correct on every web server, after deletions and restarts, and bounded in number."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from browsers import bearer_headers, create_app_with_people
from consumers import KEY
from factories import create_attempt, create_consumer, create_run, create_session
from flask import Flask
from installation import Installation, find_free_port
from prometheus_client.parser import text_string_to_metric_families
from waiting import wait_until

import tasks
from admin.api import metrics, request_metrics
from engine.broker.messages import Requester
from engine.control import queues, runs
from engine.database import database
from engine.history import run_counts
from engine.history.writer import flush_events
from engine.models import HistoryCursor, Run, Tick, now
from engine.monitor import alerts
from engine.monitor.alerts import Signal

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse_metrics(text: str) -> Scrape:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metric_value(samples: Scrape, name: str, **labels: str) -> float | None:
    return samples.get((f"dewey_{name}", frozenset(labels.items())))


@pytest.fixture
def scrape(app: Flask) -> Callable[[], Scrape]:
    return lambda: parse_metrics(app.test_client().get("/metrics").text)


def create_ended_run(task: str = "get_cleanup_statistics", state: str = "succeeded", **values: Any) -> Run:
    run = create_run(task, state, ended_at=now(), **{"wait_ms": 40.0, "run_ms": 1500.0, **values})
    run_counts.increment(Counter(run_counts.counter_keys(run)))
    return run


# --- access --------------------------------------------------------------------------------------------------


def test_metrics_are_open_to_loopback_and_need_a_token_elsewhere(app: Flask) -> None:
    client = app.test_client()
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.content_type.startswith("text/plain; version=")
    assert client.get("/metrics", headers={"X-Forwarded-For": "10.0.0.1"}).status_code == 401
    stranger = {"REMOTE_ADDR": "10.0.0.1"}
    assert client.get("/metrics", environ_base=stranger).status_code == 401
    assert client.get("/metrics", environ_base=stranger, headers=bearer_headers("viewer")).status_code == 200


def test_metrics_are_served_as_openmetrics_on_request(app: Flask) -> None:
    answer = app.test_client().get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


# --- runs ----------------------------------------------------------------------------------------------------


def test_runs_are_counted_by_state_task_and_queue(scrape: Callable[[], Scrape]) -> None:
    for state in ("succeeded", "succeeded", "failed"):
        create_ended_run(state=state)
    create_ended_run("process_book", "dead", queue="heavy")
    metrics = scrape()
    of = {"task": "get_cleanup_statistics", "queue": "light"}
    assert metric_value(metrics, "runs_ended_total", state="succeeded", **of) == 2
    assert metric_value(metrics, "runs_ended_total", state="failed", **of) == 1
    assert metric_value(metrics, "runs_ended_total", state="expired", **of) == 0
    assert metric_value(metrics, "runs_ended_total", state="dead", task="process_book", queue="heavy") == 1


def test_counters_never_decrease(app: Flask, scrape: Callable[[], Scrape]) -> None:
    gone, again = create_ended_run(state="failed"), create_ended_run(state="failed")
    create_attempt(again, 1, "failed", ended_at=now(), next_at=now())
    run_counts.increment({run_counts.counter_key(again, now(), run_counts.RETRIED): 1})
    before = scrape()
    with database.atomic():
        run_counts.decrement([gone])
        gone.delete_instance()
    old = Counter(run_counts.counter_keys(again))
    again.state, again.ended_at, again.run_ms = "succeeded", now(), 90.0
    new = Counter(run_counts.counter_keys(again))
    new.subtract(old)
    run_counts.increment(new)
    after = scrape()
    counters = [key for key in before if key[0].endswith(("_total", "_bucket", "_count", "_sum"))]
    assert len(counters) > 20
    assert [key for key in counters if after[key] < before[key]] == []
    of = {"task": "get_cleanup_statistics", "queue": "light"}
    assert metric_value(after, "runs_ended_total", state="failed", **of) == 2
    assert metric_value(after, "runs_ended_total", state="succeeded", **of) == 1
    assert metric_value(after, "attempts_retried_total", **of) == 1


def test_retry_through_the_broker_counts_both_ends(each_database: str) -> None:
    app = create_app_with_people()
    run_id = str(tasks.get_cleanup_statistics(hours=0).id)
    for delivery in range(2):
        if delivery:
            runs.retry_run(tasks.queues, run_id, Requester("cli", "me"))
        tasks.light.execute(tasks.light.dequeue())
        flush_events(tasks.light)
    metrics = parse_metrics(app.test_client().get("/metrics").text)
    assert metric_value(metrics, "runs_ended_total", state="failed", task="get_cleanup_statistics", queue="light") == 2


def test_durations_fall_into_their_buckets(scrape: Callable[[], Scrape]) -> None:
    for run_ms in (1.0, 3.0, 5.0, 100.0, 5_000.0, 10_000_000.0):
        create_ended_run(run_ms=run_ms)
    metrics = scrape()
    steps = {
        labels["le"]: count
        for (name, pairs), count in metrics.items()
        if name == "dewey_run_duration_seconds_bucket" and (labels := dict(pairs))
    }
    edges = sorted(map(float, steps))
    assert steps["0.0032"] == 2 and steps["0.0064"] == 3 and steps["0.1024"] == 4 and steps["6.5536"] == 5
    assert edges[-1] == float("inf") and steps["+Inf"] == 6
    assert [steps[key] for key in sorted(steps, key=float)] == sorted(steps.values())
    assert metric_value(metrics, "run_duration_seconds_count", task="get_cleanup_statistics", queue="light") == 6
    total = metric_value(metrics, "run_duration_seconds_sum", task="get_cleanup_statistics", queue="light")
    assert total == pytest.approx(10_005.109, rel=0.1)


def test_surplus_unknown_tasks_share_one_label(scrape: Callable[[], Scrape]) -> None:
    with database.atomic():
        for number in range(metrics.MAX_TASK_LABELS + 50):
            create_ended_run(f"forgotten_{number:03}", queue="light")
        create_ended_run("get_cleanup_statistics")
        create_ended_run("get_cleanup_statistics", queue="no_such_queue")
    samples = scrape()
    ends = [dict(pairs) for name, pairs in samples if name == "dewey_runs_ended_total"]
    known_count = sum(len(queue._registry._registry) for queue in tasks.queues.values())
    kept = metrics.MAX_TASK_LABELS - known_count
    assert {labels["task"] for labels in ends} == {
        "get_cleanup_statistics",
        "other",
        *(f"forgotten_{number:03}" for number in range(kept)),
    }
    assert {labels["queue"] for labels in ends} == {"light", "other"}
    assert metric_value(samples, "runs_ended_total", task="other", queue="light", state="succeeded") == 150 - kept
    assert (
        metric_value(samples, "runs_ended_total", task="get_cleanup_statistics", queue="light", state="succeeded") == 1
    )
    totals = [count for (name, _), count in samples.items() if name == "dewey_runs_ended_total"]
    assert sum(totals) == metrics.MAX_TASK_LABELS + 52


# --- queues, consumers, schedule -----------------------------------------------------------------------------


def test_queue_metrics_show_waiting_oldest_and_running(scrape: Callable[[], Scrape]) -> None:
    # All tests share one broker, and another test may have left held runs.
    held = metric_value(scrape(), "runs_running", queue="light", task="get_cleanup_statistics") or 0
    for _ in range(3):
        tasks.get_cleanup_statistics(hours=3)
    tasks.get_cleanup_statistics.schedule(kwargs={"hours": 3}, delay=600)
    tasks.light.storage.deliveries.settle_and_claim("c1", "Worker-1", False, "{}")
    queues.pause_queue(tasks.heavy, by=Requester("cli", "me"), reason="why not")
    metrics = scrape()
    assert metric_value(metrics, "queue_depth", queue="light") == 2
    assert metric_value(metrics, "queue_scheduled", queue="light") == 1
    assert 0 <= (metric_value(metrics, "queue_oldest_seconds", queue="light") or 0) < 60
    assert metric_value(metrics, "queue_oldest_seconds", queue="normal") == 0
    assert metric_value(metrics, "runs_running", queue="light", task="get_cleanup_statistics") == held + 1
    assert (
        metric_value(metrics, "queue_paused", queue="heavy"),
        metric_value(metrics, "queue_paused", queue="light"),
    ) == (1, 0)
    assert metric_value(metrics, "dead_runs", queue="light") == 0
    tasks.light.storage.deliveries.release("c1", "Worker-1", "the test is over", 9)


def test_consumers_and_workers_are_counted_by_state(scrape: Callable[[], Scrape]) -> None:
    at = now()
    job = {"worker": "Worker-1", "run_id": "x", "task": "process_book", "since": at.isoformat()}
    create_consumer("light", worker_count=3, running=[job], scheduler_at=at - timedelta(seconds=4))
    create_consumer("heavy", quiet_at=at)
    create_consumer("normal", beat_at=at - timedelta(minutes=2))
    metrics = scrape()
    assert metric_value(metrics, "consumers", queue="light", state="live") == 1
    assert metric_value(metrics, "consumers", queue="heavy", state="quiet") == 1
    assert metric_value(metrics, "consumers", queue="normal", state="lost") == 1
    assert metric_value(metrics, "consumers", queue="normal", state="live") == 0
    workers = {state: metric_value(metrics, "workers", queue="light", state=state) for state in ("busy", "idle")}
    assert workers == {"busy": 1, "idle": 2}
    assert metric_value(metrics, "workers", queue="normal", state="idle") == 0
    assert 4 <= (metric_value(metrics, "scheduler_lag_seconds", queue="light") or 0) < 30
    assert metric_value(metrics, "scheduler_lag_seconds", queue="normal") is None


def test_sessions_ticks_dropped_events_and_alerts_are_exported(scrape: Callable[[], Scrape]) -> None:
    create_session(minutes_ago=5)
    create_session(minutes_ago=500)
    due_at = now() - timedelta(minutes=30)
    Tick.create(task="close_abandoned_sessions", due_at=due_at, queue="light", state="missed", seen_at=due_at)
    HistoryCursor.create(stream="light:1", position=3, dropped=7)
    alerts.open_alert(Signal("unserved", "light", 1, {"waiting": 0}), now(), [], now())
    metrics = scrape()
    assert (
        metric_value(metrics, "sessions", state="active"),
        metric_value(metrics, "sessions", state="abandoned"),
    ) == (2, 1)
    assert metric_value(metrics, "sessions_closed_last_day") == 0
    assert metric_value(metrics, "ticks_missed", task="close_abandoned_sessions") == 1
    assert metric_value(metrics, "recorder_dropped_events_total") == 7
    assert (
        metric_value(metrics, "alerts_firing", rule="unserved") == 1
        and metric_value(metrics, "alerts_firing", rule="dead") == 0
    )
    assert metric_value(metrics, "watch_seen_timestamp_seconds") == 0


def test_broker_metrics_are_exported_while_the_database_is_unavailable(
    app: Flask, scrape: Callable[[], Scrape]
) -> None:
    assert metric_value(scrape(), "up", part="database") == 1
    tasks.get_cleanup_statistics(hours=3)
    database.execute_sql("ALTER TABLE dewey_workers RENAME TO gone")
    metrics = scrape()
    assert (metric_value(metrics, "up", part="database"), metric_value(metrics, "up", part="broker")) == (0, 1)
    assert metric_value(metrics, "queue_depth", queue="light") == 1
    assert metric_value(metrics, "consumers", queue="light", state="live") is None


# --- requests ------------------------------------------------------------------------------------------------


def test_requests_are_counted_by_view_method_and_status(app: Flask, scrape: Callable[[], Scrape]) -> None:
    client = app.test_client()
    for address in ("/healthz", "/healthz", "/no-such-page", "/no-other-page"):
        client.get(address)
    client.post("/healthz")
    client.open("/healthz", method="BREW")
    metrics = scrape()
    assert metric_value(metrics, "http_requests_total", endpoint="api.health", method="GET", status="200") == 2
    assert metric_value(metrics, "http_requests_total", endpoint="", method="GET", status="404") == 2
    assert metric_value(metrics, "http_requests_total", endpoint="", method="POST", status="405") == 1
    assert metric_value(metrics, "http_requests_total", endpoint="", method="other", status="405") == 1
    assert metric_value(metrics, "http_request_duration_seconds_count", endpoint="api.health") == 2
    assert metric_value(metrics, "http_request_duration_seconds_bucket", endpoint="api.health", le="+Inf") == 2


def test_unwritten_request_counts_are_kept(app: Flask) -> None:
    counter = request_metrics.request_counter(app)
    counter.record("api.health", "GET", 200, 0.004)
    database.execute_sql("ALTER TABLE dewey_http_counts RENAME TO elsewhere")
    counter.write()
    database.execute_sql("ALTER TABLE elsewhere RENAME TO dewey_http_counts")
    counter.write()
    counter.write()
    [(kind, count)] = request_metrics.load_totals()
    assert (kind.endpoint, kind.method, kind.status, count) == ("api.health", "GET", 200, 1)


@pytest.fixture
def two_web_servers(tmp_path: Path, redis_url: str, fresh_postgresql: str) -> list[Installation]:
    """Run two web servers on one database and one broker."""
    servers = {"REDIS_URL": redis_url, "DATABASE_URL": fresh_postgresql, "SECRET_KEY": KEY}
    first = Installation(tmp_path, **servers)
    second = Installation(tmp_path, **servers)
    second.port = find_free_port()
    second.environment["PORT"] = str(second.port)
    assert first.flask("migrate").returncode == 0
    return [first, second]


def test_two_web_servers_export_the_same_totals_across_restarts(two_web_servers: list[Installation]) -> None:
    first, second = two_web_servers

    def healths(server: Installation) -> float:
        metrics = parse_metrics(server.ask("GET", "/metrics").text)
        return metric_value(metrics, "http_requests_total", endpoint="api.health", method="GET", status="200") or 0

    with first.web():
        with second.web():
            for _ in range(3):
                assert first.ask("GET", "/healthz").status == 200
            for _ in range(4):
                assert second.ask("GET", "/healthz").status == 200
            # Each has written its counts by the end of its interval.
            wait_until(lambda: healths(first) == 7)
            assert healths(second) == 7
            second.ask("GET", "/healthz")
        # A server that ends writes its last counts.
        wait_until(lambda: healths(first) == 8)
    with second.web():
        assert healths(second) == 8
        assert second.ask("GET", "/healthz").status == 200
        assert healths(second) == 9
