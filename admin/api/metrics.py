"""`/metrics` for Prometheus: read from the records and the broker each time it is asked, never from this process.

So it says the same whichever web process answers, and goes on where it was after a restart. What the broker or the
database cannot say while it is away is left out; `dewey_up` tells which.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from flask import Blueprint, Response, current_app, request
from peewee import PeeweeException
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

import tasks
from admin.api import request_metrics
from admin.auth.access import open_to_loopback
from config import settings
from engine.exceptions import BrokerAway
from engine.history import lag as history_lag
from engine.history import rejected as rejected_events
from engine.history import run_totals
from engine.history.run_counts import PER_DOUBLING, RETRIED, bucket_bounds
from engine.history.run_totals import Of
from engine.models import ENDED, now
from engine.monitor import alerts, consumers, health, registered_tasks
from engine.monitor.alert_rules import RULES
from engine.version import code_version
from reading import sessions

blueprint = Blueprint("metrics", __name__)

Labels = tuple[str, ...]

#: So many tasks have series of their own; those that the code does not know any more are the first to be folded.
MOST_TASKS = 100
OTHER = "other"

#: Where the buckets of durations end, as whole doublings: from 3.2 ms to almost an hour, and of requests to 13 s.
RUN_EDGES = [PER_DOUBLING * doubling - 1 for doubling in range(5, 26)]
REQUEST_EDGES = [PER_DOUBLING * doubling - 1 for doubling in range(4, 18)]


@blueprint.get("/metrics")
@open_to_loopback
def metrics() -> Response:
    request_metrics.traffic_of(current_app).write()
    registry = CollectorRegistry()
    registry.register(Everything())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


class Everything(Collector):
    def describe(self) -> Iterable[Metric]:
        """Nothing is asked when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield gauge("build_info", "The version of the code of the web server.", ["version"], {(code_version(),): 1})
        up = {"broker": 1, "database": 1}
        for part in (of_queues, of_consumers, of_history, of_lifetime, of_sessions, of_requests, of_alerts):
            try:
                yield from part()
            except BrokerAway:
                up["broker"] = 0
            except PeeweeException:
                up["database"] = 0
        yield gauge("up", "1 while it answers.", ["part"], {(part,): value for part, value in up.items()})


# --- the parts -----------------------------------------------------------------------------------------------


def of_queues() -> list[Metric]:
    """What the broker says, and nobody else is needed for."""
    at = now().timestamp()
    facts = {
        name: (
            one.messages.count_waiting(),
            one.messages.count_scheduled(),
            one.messages.oldest_waiting(),
            one.dead_letters.count(),
            "" in one.pauses.all(),
        )
        for name, one in ((name, queue.storage) for name, queue in tasks.queues.items())
    }
    running = Counter(
        (name, held.task) for name, queue in tasks.queues.items() for held in queue.storage.deliveries.held()
    )
    return [
        by_queue("queue_depth", "Runs that wait in the queue.", {name: one[0] for name, one in facts.items()}),
        by_queue(
            "queue_scheduled", "Runs that are due later, retries too.", {name: one[1] for name, one in facts.items()}
        ),
        by_queue(
            "queue_oldest_seconds",
            "For how long the oldest run has waited; 0 where none waits.",
            {name: max(at - one[2], 0) if one[2] else 0 for name, one in facts.items()},
        ),
        by_queue("queue_paused", "1 while somebody has paused it.", {name: int(one[4]) for name, one in facts.items()}),
        by_queue("dead_runs", "Dead runs that wait for a decision.", {name: one[3] for name, one in facts.items()}),
        gauge("runs_running", "Runs that are being executed.", ["queue", "task"], folded_tasks(running)),
    ]


def of_consumers() -> Iterator[Metric]:
    """What the records say of those who work, and of what went wrong."""
    as_of = now()
    facts = health.look(tasks.queues, as_of)
    states = Counter({(name, state): 0 for name in tasks.queues for state in ("live", "quiet", "late", "lost")})
    slots = Counter({(name, state): 0 for name in tasks.queues for state in ("busy", "idle")})
    for one in facts.consumers:
        state = one.state(as_of, consumers.LEASE)
        states[one.queue, "quiet" if state == "live" and one.quiet_at else state] += 1
        if state in ("live", "late"):
            slots[one.queue, "busy"] += len(one.running)
            slots[one.queue, "idle"] += max(one.worker_count - len(one.running), 0)
    yield gauge("consumers", "Consumers by what they are.", ["queue", "state"], only_queues(states))
    yield gauge("workers", "Workers of the consumers that are there.", ["queue", "state"], only_queues(slots))
    unserved = {
        name: int(wanted and not consumers.live(facts.consumers, name))
        for name, wanted in ((name, settings.workers.get(name, 1) > 0) for name in tasks.queues)
    }
    yield by_queue("queue_unserved", "1 while a queue that should have a live worker has none.", unserved)
    lags = {name: lag.total_seconds() for name, lag in facts.lags.items()}
    yield by_queue("scheduler_lag_seconds", "For how long no live scheduler has looked at the clock.", lags)
    missed = {(one.task,): one.ticks for one in facts.missed}
    yield gauge("ticks_missed", "Ticks of the last day that nobody made up for.", ["task"], missed)
    yield counter("recorder_dropped_events", "Events that never became history.", [], {(): facts.dropped})


def of_history() -> Iterator[Metric]:
    """How far behind it is, which the broker knows without the database too; and what never got into it."""
    lags = history_lag.lags(tasks.queues)
    unread = {name: lag.events for name, lag in lags.items()}
    yield by_queue("recorder_unread_events", "Events that are not in the history yet.", unread)
    seconds = {name: lag.seconds for name, lag in lags.items()}
    yield by_queue("recorder_lag_seconds", "For how long the oldest of them has waited; 0: none waits.", seconds)
    rejected = {(name,): count for name, count in rejected_events.total(list(tasks.queues)).items()}
    yield counter("recorder_rejected_events", "Events that could not be written to the history.", ["queue"], rejected)


def of_lifetime() -> list[Metric]:
    found = run_totals.lifetime()
    of = folding(found.counts)
    ended, retried = Counter[Labels](), Counter[Labels]()
    for one, counts in found.counts.items():
        for state in ENDED:
            ended[*of(one), str(state)] += counts[state]
        retried[of(one)] += counts[RETRIED]
    return [
        counter("runs_ended", "Runs by how they ended.", ["task", "queue", "state"], ended),
        counter("attempts_retried", "Attempts that failed and were tried again.", ["task", "queue"], retried),
        histogram(
            "run_wait_seconds",
            "From due to the first start. The sum is an estimate, within a tenth.",
            ["task", "queue"],
            merged(found.waited, of),
            RUN_EDGES,
        ),
        histogram(
            "run_duration_seconds",
            "Of the last attempt. The sum is an estimate, within a tenth.",
            ["task", "queue"],
            merged(found.ran, of),
            RUN_EDGES,
        ),
    ]


def of_sessions() -> list[Metric]:
    found = sessions.overview(now(), settings.abandoned_after)
    open_ones = {("active",): found.active, ("abandoned",): found.abandoned}
    return [
        gauge("sessions", "Open reading sessions; the abandoned are active too.", ["state"], open_ones),
        gauge("sessions_closed_last_day", "Reading sessions that ended in the last 24 hours.", [], {(): found.closed}),
    ]


def of_requests() -> list[Metric]:
    answered: Counter[Labels] = Counter()
    took: dict[Labels, Counter[int]] = {}
    for kind, count in request_metrics.ever():
        answered[kind.endpoint, kind.method, str(kind.status)] += count
        took.setdefault((kind.endpoint,), Counter())[kind.bucket] += count
    return [
        counter("http_requests", "Requests answered.", ["endpoint", "method", "status"], answered),
        histogram(
            "http_request_duration_seconds",
            "The sum is an estimate.",
            ["endpoint"],
            took,
            REQUEST_EDGES,
            request_metrics.middle_ms,
        ),
    ]


def of_alerts() -> list[Metric]:
    firing = Counter({(rule,): 0 for rule in RULES})
    firing.update((one.rule,) for one in alerts.open_alerts())
    beats = [one.beat_at.timestamp() for one in alerts.watchers()]
    return [
        gauge("alerts_firing", "Alerts that have not been resolved.", ["rule"], firing),
        gauge(
            "watch_seen_timestamp_seconds", "When `flask watch` last looked; 0: never.", [], {(): max(beats, default=0)}
        ),
    ]


# --- bounded labels ------------------------------------------------------------------------------------------


def folding(known: Iterable[Of]) -> Callable[[Of], Labels]:
    """What an entry counts as: itself, or `other` once there are too many tasks, and in a queue that is not ours."""
    own = [fact.name for fact in registered_tasks.registered(tasks.queues)]
    others = sorted({one.task for one in known} - set(own))
    kept = {*own[:MOST_TASKS], *others[: max(MOST_TASKS - len(own), 0)]}
    return lambda one: (one.task if one.task in kept else OTHER, one.queue if one.queue in tasks.queues else OTHER)


def folded_tasks(running: Mapping[Labels, int]) -> Counter[Labels]:
    of = folding(Of(task, queue) for queue, task in running)
    found: Counter[Labels] = Counter()
    for (queue, task), count in running.items():
        found[tuple(reversed(of(Of(task, queue))))] += count
    return found


def only_queues(values: Mapping[Labels, int]) -> dict[Labels, int]:
    return {labels: value for labels, value in values.items() if labels[0] in tasks.queues}


def merged(durations: Mapping[Of, Counter[int]], of: Callable[[Of], Labels]) -> dict[Labels, Counter[int]]:
    found: dict[Labels, Counter[int]] = {}
    for one, buckets in durations.items():
        found.setdefault(of(one), Counter()).update(buckets)
    return found


# --- families ------------------------------------------------------------------------------------------------


def by_queue(name: str, told: str, values: Mapping[str, float]) -> Metric:
    return gauge(name, told, ["queue"], {(queue,): value for queue, value in values.items()})


def gauge(name: str, told: str, labels: list[str], values: Mapping[Labels, float]) -> Metric:
    return filled(GaugeMetricFamily(f"dewey_{name}", told, labels=labels), values)


def counter(name: str, told: str, labels: list[str], values: Mapping[Labels, float]) -> Metric:
    return filled(CounterMetricFamily(f"dewey_{name}", told, labels=labels), values)


def filled(family: Any, values: Mapping[Labels, float]) -> Metric:
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def histogram(
    name: str,
    told: str,
    labels: list[str],
    durations: Mapping[Labels, Mapping[int, int]],
    edges: list[int],
    middle: Callable[[int], float] = lambda bucket: sum(bucket_bounds(bucket)) / 2,
) -> Metric:
    """Of durations by bucket; the edges are the last buckets that lie below them."""
    family = HistogramMetricFamily(f"dewey_{name}", told, labels=labels)
    ends = [floatToGoString(round(bucket_bounds(edge)[1] / 1000, 6)) for edge in edges]
    for key, buckets in sorted(durations.items()):
        steps = Counter[int]()
        for bucket, count in buckets.items():
            steps[bisect_left(edges, bucket)] += count
        cumulated = list(accumulate(steps[place] for place in range(len(edges) + 1)))
        total = sum(count * middle(bucket) / 1000 for bucket, count in buckets.items())
        family.add_metric(key, list(zip([*ends, "+Inf"], cumulated, strict=True)), sum_value=total)
    return family
