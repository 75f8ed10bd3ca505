"""`/metrics` for Prometheus, read from the database and the broker at each request.

Every web process returns the same figures, and a restart does not reset them. Figures of an unavailable database or
broker are left out, and `dewey_up` shows which one is unavailable.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from flask import Blueprint, Response, current_app, request
from peewee import PeeweeException
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

import tasks
from admin.api import request_metrics
from admin.auth.access import local_or_viewer
from config import settings
from engine.exceptions import BrokerUnavailable
from engine.history import lag as history_lag
from engine.history import rejected as rejected_events
from engine.history import run_totals
from engine.history.run_counts import BUCKETS_PER_DOUBLING, RETRIED, bucket_bounds
from engine.history.run_totals import MetricKey
from engine.models import ENDED, now
from engine.monitor import alerts, consumers, health, registered_tasks
from engine.monitor.alert_rules import RULES
from engine.queues.queue import Queue
from engine.version import code_version
from reading import sessions

blueprint = Blueprint("metrics", __name__)

Labels = tuple[str, ...]

#: Most tasks with a label. Further ones count as OTHER_TASKS, unregistered ones first.
MAX_TASK_LABELS = 100
OTHER_TASKS = "other"

#: Upper bounds of the duration buckets in doublings: 3.2 ms to almost an hour, for requests up to 13 s.
RUN_EDGES = [BUCKETS_PER_DOUBLING * doubling - 1 for doubling in range(5, 26)]
REQUEST_EDGES = [BUCKETS_PER_DOUBLING * doubling - 1 for doubling in range(4, 18)]


@blueprint.get("/metrics")
@local_or_viewer
def metrics() -> Response:
    request_metrics.request_counter(current_app).write()
    registry = CollectorRegistry()
    registry.register(DeweyCollector())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


class DeweyCollector(Collector):
    def describe(self) -> Iterable[Metric]:
        """Return no metrics, so that registration makes no query."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield gauge("build_info", "The version of the code of the web server.", ["version"], {(code_version(),): 1})
        up = {"broker": 1, "database": 1}
        for part in (
            queue_metrics,
            consumer_metrics,
            history_metrics,
            total_metrics,
            session_metrics,
            http_metrics,
            alert_metrics,
        ):
            try:
                yield from part()
            except BrokerUnavailable:
                up["broker"] = 0
            except PeeweeException:
                up["database"] = 0
        yield gauge("up", "1 if this part responds.", ["part"], {(part,): value for part, value in up.items()})


# --- the parts -----------------------------------------------------------------------------------------------


class QueueFigures(NamedTuple):
    depth: int
    scheduled: int
    oldest_at: float | None  # Unix seconds
    dead: int
    is_paused: bool


def queue_figures(queue: Queue) -> QueueFigures:
    return QueueFigures(
        depth=queue.storage.messages.count_waiting(),
        scheduled=queue.storage.messages.count_scheduled(),
        oldest_at=queue.storage.messages.oldest_waiting(),
        dead=queue.storage.dead_letters.count(),
        is_paused="" in queue.storage.pauses.all(),
    )


def queue_metrics() -> list[Metric]:
    """Return metrics that need only the broker."""
    at = now().timestamp()
    figures = {name: queue_figures(queue) for name, queue in tasks.queues.items()}
    depth = {name: queue.depth for name, queue in figures.items()}
    scheduled = {name: queue.scheduled for name, queue in figures.items()}
    oldest = {name: max(at - queue.oldest_at, 0) if queue.oldest_at else 0 for name, queue in figures.items()}
    paused = {name: int(queue.is_paused) for name, queue in figures.items()}
    dead = {name: queue.dead for name, queue in figures.items()}
    running = Counter[Labels](
        (name, delivery.task) for name, queue in tasks.queues.items() for delivery in queue.storage.deliveries.held()
    )
    return [
        queue_gauge("queue_depth", "Runs waiting in the queue.", depth),
        queue_gauge("queue_scheduled", "Runs that are due later, retries included.", scheduled),
        queue_gauge("queue_oldest_seconds", "Waiting time of the oldest run, 0 if none waits.", oldest),
        queue_gauge("queue_paused", "1 while the queue is paused.", paused),
        queue_gauge("dead_runs", "Dead runs not yet re-queued or discarded.", dead),
        gauge("runs_running", "Running runs.", ["queue", "task"], cap_task_labels(running)),
    ]


def consumer_metrics() -> Iterator[Metric]:
    """Return metrics of consumers, schedulers and lost events."""
    as_of = now()
    facts = health.check_health(tasks.queues, as_of)
    states = Counter[Labels]({(name, state): 0 for name in tasks.queues for state in ("live", "quiet", "late", "lost")})
    slots = Counter[Labels]({(name, state): 0 for name in tasks.queues for state in ("busy", "idle")})
    for consumer in facts.consumers:
        state = consumer.state(as_of, consumers.LEASE_TIME)
        states[consumer.queue, "quiet" if state == "live" and consumer.quiet_at else state] += 1
        if state in ("live", "late"):
            slots[consumer.queue, "busy"] += len(consumer.running)
            slots[consumer.queue, "idle"] += max(consumer.worker_count - len(consumer.running), 0)
    yield gauge("consumers", "Consumers by state.", ["queue", "state"], known_queues(states))
    yield gauge("workers", "Workers of live and late consumers.", ["queue", "state"], known_queues(slots))
    unserved = {
        name: int(is_wanted and not consumers.live_consumers(facts.consumers, name))
        for name, is_wanted in ((name, settings.workers.get(name, 1) > 0) for name in tasks.queues)
    }
    yield queue_gauge("queue_unserved", "1 while a queue that needs a live worker has none.", unserved)
    lags = {name: lag.total_seconds() for name, lag in facts.lags.items()}
    yield queue_gauge("scheduler_lag_seconds", "Time since the last check by a live scheduler.", lags)
    missed: dict[Labels, int] = {(schedule.task,): schedule.ticks for schedule in facts.missed}
    yield gauge("ticks_missed", "Missed ticks of the last day that were not caught up.", ["task"], missed)
    yield counter("recorder_dropped_events", "Events lost before they reached the history.", [], {(): facts.dropped})


def history_metrics() -> Iterator[Metric]:
    """Yield the history lag, which needs only the broker, then rejected events."""
    lags = history_lag.load_lags(tasks.queues)
    unread = {name: lag.events for name, lag in lags.items()}
    yield queue_gauge("recorder_unread_events", "Events that are not in the history yet.", unread)
    seconds = {name: lag.seconds for name, lag in lags.items()}
    yield queue_gauge("recorder_lag_seconds", "Age of the oldest unread event, 0 without one.", seconds)
    rejected: dict[Labels, int] = {
        (name,): count for name, count in rejected_events.count_rejected(list(tasks.queues)).items()
    }
    yield counter("recorder_rejected_events", "Events that could not be written to the history.", ["queue"], rejected)


def total_metrics() -> list[Metric]:
    totals = run_totals.load_lifetime_totals()
    labels_of = fold_task_label(totals.counts)
    ended, retried = Counter[Labels](), Counter[Labels]()
    for key, counts in totals.counts.items():
        for state in ENDED:
            ended[*labels_of(key), str(state)] += counts[state]
        retried[labels_of(key)] += counts[RETRIED]
    return [
        counter("runs_ended", "Ended runs by state.", ["task", "queue", "state"], ended),
        counter("attempts_retried", "Attempts that failed and were tried again.", ["task", "queue"], retried),
        histogram(
            "run_wait_seconds",
            "From due time to first start. The sum is an estimate within 10%.",
            ["task", "queue"],
            merge_durations(totals.waited, labels_of),
            RUN_EDGES,
        ),
        histogram(
            "run_duration_seconds",
            "Duration of the last attempt. The sum is an estimate within 10%.",
            ["task", "queue"],
            merge_durations(totals.ran, labels_of),
            RUN_EDGES,
        ),
    ]


def session_metrics() -> list[Metric]:
    figures = sessions.load_overview(now(), settings.abandoned_after)
    unended: dict[Labels, int] = {("active",): figures.active, ("abandoned",): figures.abandoned}
    return [
        gauge("sessions", "Open reading sessions. Abandoned ones count as active too.", ["state"], unended),
        gauge(
            "sessions_closed_last_day", "Reading sessions that ended in the last 24 hours.", [], {(): figures.closed}
        ),
    ]


def http_metrics() -> list[Metric]:
    answered: Counter[Labels] = Counter()
    took: dict[Labels, Counter[int]] = {}
    for kind, count in request_metrics.load_totals():
        answered[kind.endpoint, kind.method, str(kind.status)] += count
        took.setdefault((kind.endpoint,), Counter())[kind.bucket] += count
    return [
        counter("http_requests", "Requests answered.", ["endpoint", "method", "status"], answered),
        histogram(
            "http_request_duration_seconds",
            "Duration of requests. The sum is an estimate.",
            ["endpoint"],
            took,
            REQUEST_EDGES,
            request_metrics.bucket_middle_ms,
        ),
    ]


def alert_metrics() -> list[Metric]:
    firing = Counter[Labels]({(rule,): 0 for rule in RULES})
    firing.update((alert.rule,) for alert in alerts.open_alerts())
    beats = [watcher.beat_at.timestamp() for watcher in alerts.list_watchers()]
    return [
        gauge("alerts_firing", "Alerts that have not been resolved.", ["rule"], firing),
        gauge(
            "watch_seen_timestamp_seconds",
            "Time of the last check by an alert watcher, 0 without one.",
            [],
            {(): max(beats, default=0)},
        ),
    ]


# --- bounded labels ------------------------------------------------------------------------------------------


def fold_task_label(keys: Iterable[MetricKey]) -> Callable[[MetricKey], Labels]:
    """Return a function that gives the labels of a key: `other` for tasks over the limit and for unknown queues."""
    own = [fact.name for fact in registered_tasks.list_tasks(tasks.queues)]
    unregistered = sorted({key.task for key in keys} - set(own))
    task_names = {*own[:MAX_TASK_LABELS], *unregistered[: max(MAX_TASK_LABELS - len(own), 0)]}
    return lambda key: (
        key.task if key.task in task_names else OTHER_TASKS,
        key.queue if key.queue in tasks.queues else OTHER_TASKS,
    )


def cap_task_labels(running: Mapping[Labels, int]) -> Counter[Labels]:
    labels_of = fold_task_label(MetricKey(task, queue) for queue, task in running)
    counts: Counter[Labels] = Counter()
    for (queue, task), count in running.items():
        counts[tuple(reversed(labels_of(MetricKey(task, queue))))] += count
    return counts


def known_queues(values: Mapping[Labels, int]) -> dict[Labels, int]:
    return {labels: value for labels, value in values.items() if labels[0] in tasks.queues}


def merge_durations(
    durations: Mapping[MetricKey, Counter[int]], labels_of: Callable[[MetricKey], Labels]
) -> dict[Labels, Counter[int]]:
    by_labels: dict[Labels, Counter[int]] = {}
    for key, buckets in durations.items():
        by_labels.setdefault(labels_of(key), Counter()).update(buckets)
    return by_labels


# --- families ------------------------------------------------------------------------------------------------


def queue_gauge(name: str, help_text: str, values: Mapping[str, float]) -> Metric:
    return gauge(name, help_text, ["queue"], {(queue,): value for queue, value in values.items()})


def gauge(name: str, help_text: str, labels: list[str], values: Mapping[Labels, float]) -> Metric:
    return add_samples(GaugeMetricFamily(f"dewey_{name}", help_text, labels=labels), values)


def counter(name: str, help_text: str, labels: list[str], values: Mapping[Labels, float]) -> Metric:
    return add_samples(CounterMetricFamily(f"dewey_{name}", help_text, labels=labels), values)


def add_samples(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[Labels, float]) -> Metric:
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def histogram(
    name: str,
    help_text: str,
    labels: list[str],
    durations: Mapping[Labels, Mapping[int, int]],
    edges: list[int],
    middle: Callable[[int], float] = lambda bucket: sum(bucket_bounds(bucket)) / 2,
) -> Metric:
    """Return a histogram of bucket counts. `edges`: the last bucket below each bound."""
    family = HistogramMetricFamily(f"dewey_{name}", help_text, labels=labels)
    ends = [str(floatToGoString(round(bucket_bounds(edge)[1] / 1000, 6))) for edge in edges]
    for key, buckets in sorted(durations.items()):
        steps = Counter[int]()
        for bucket, count in buckets.items():
            steps[bisect_left(edges, bucket)] += count
        cumulated = list(accumulate(steps[index] for index in range(len(edges) + 1)))
        total = sum(count * middle(bucket) / 1000 for bucket, count in buckets.items())
        family.add_metric(key, list(zip([*ends, "+Inf"], cumulated, strict=True)), sum_value=total)
    return family
