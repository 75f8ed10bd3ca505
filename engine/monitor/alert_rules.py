"""Alert rules, their thresholds, and the rules that are broken now."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple, TypedDict

from config import settings
from engine.monitor import alerts
from engine.monitor.alerts import REPEAT_AFTER, Alert, Signal
from engine.monitor.health import HealthReport, Rate

#: With fewer failures than this their percentage is not significant.
MIN_FAILURES = 5

#: A condition that clears within this time was a restart or a deploy.
GRACE_PERIOD = timedelta(minutes=1)
IMMEDIATELY = timedelta(0)


class Snapshot(NamedTuple):
    """The input of the rules. `abandoned`: abandoned reading sessions, counted by the caller."""

    facts: HealthReport
    rates: Mapping[str, Rate]
    abandoned: int
    latest: Mapping[str, Alert | None]  # by rule whose count never falls: its latest alert


class Rule(NamedTuple):
    """An alert rule. `threshold` is shown, 0: off, None: fixed. `find` returns all candidates, broken or not."""

    name: str
    threshold: float | None
    patience: timedelta
    needs_broker: bool
    counts_up: bool
    find: Callable[[Snapshot], list[Signal]]
    is_broken: Callable[[Snapshot, Signal], bool]


def oldest_waiting(snapshot: Snapshot) -> list[Signal]:
    """Paused queues are left out: a pause is an operator's decision."""
    return [
        Signal("oldest", queue.name, (queue.oldest_waiting_ms or 0) / 60_000, {"waiting": queue.waiting})
        for queue in snapshot.facts.queues
        if not queue.paused
    ]


def failing_tasks(snapshot: Snapshot) -> list[Signal]:
    return [
        Signal("failing", task, rate.percent, {"failed": rate.failed, "finished": rate.finished})
        for task, rate in snapshot.rates.items()
    ]


def missed_ticks(snapshot: Snapshot) -> list[Signal]:
    return [Signal("missed", task, ticks, {"last": last.isoformat()}) for task, ticks, last in snapshot.facts.missed]


def unserved_queues(snapshot: Snapshot) -> list[Signal]:
    return [Signal("unserved", queue.name, 1, {"waiting": queue.waiting}) for queue in snapshot.facts.unserved]


def late_schedules(snapshot: Snapshot) -> list[Signal]:
    return [Signal("late", name, snapshot.facts.lags[name].total_seconds(), {}) for name in snapshot.facts.late]


def dead_runs(snapshot: Snapshot) -> list[Signal]:
    return [Signal("dead", name, count, {}) for name, count in snapshot.facts.dead.items()]


def dropped_events(snapshot: Snapshot) -> list[Signal]:
    return [Signal("dropped", "", snapshot.facts.dropped, {})]


def forged_values(snapshot: Snapshot) -> list[Signal]:
    return [Signal("forged", "", snapshot.facts.rejected, {})]


def abandoned_sessions(snapshot: Snapshot) -> list[Signal]:
    return [Signal("abandoned", "", snapshot.abandoned, {})]


def broker_outage(snapshot: Snapshot) -> list[Signal]:
    return [Signal("broker", "", 1, {})] if snapshot.facts.broker else []


def database_outage(snapshot: Snapshot) -> list[Signal]:
    """Return nothing: this code needs the database. `admin.alerts.database_outage` reports its outage."""
    return []


def above(threshold: float) -> Callable[[Snapshot, Signal], bool]:
    return lambda snapshot, signal: 0 < threshold < signal.value


def always_broken(snapshot: Snapshot, signal: Signal) -> bool:
    return True


def fails_often(snapshot: Snapshot, signal: Signal) -> bool:
    share = settings.alert_failure_percent
    return 0 < share <= signal.value and int(signal.facts["failed"]) >= MIN_FAILURES


def grows_again(snapshot: Snapshot, signal: Signal) -> bool:
    """True until the count has not grown for a while. The count itself never falls."""
    last = snapshot.latest[signal.rule]
    if last is None:
        return signal.value > 0
    still_news = last.ended_at is None and snapshot.facts.as_of - last.changed_at < REPEAT_AFTER
    return signal.value > last.value or still_news


RULES = {
    rule.name: rule
    for rule in (
        Rule("database", None, GRACE_PERIOD, False, False, database_outage, always_broken),
        Rule("broker", None, GRACE_PERIOD, False, False, broker_outage, always_broken),
        Rule("unserved", None, GRACE_PERIOD, True, False, unserved_queues, always_broken),
        Rule("late", None, GRACE_PERIOD, False, False, late_schedules, always_broken),
        Rule("missed", None, GRACE_PERIOD, False, False, missed_ticks, always_broken),
        Rule(
            "oldest",
            settings.alert_oldest_minutes,
            IMMEDIATELY,
            True,
            False,
            oldest_waiting,
            above(settings.alert_oldest_minutes),
        ),
        Rule("failing", settings.alert_failure_percent, IMMEDIATELY, False, False, failing_tasks, fails_often),
        Rule("dead", None, IMMEDIATELY, True, True, dead_runs, above(0.5)),
        Rule("dropped", None, IMMEDIATELY, False, True, dropped_events, grows_again),
        Rule("forged", None, IMMEDIATELY, False, True, forged_values, grows_again),
        Rule(
            "abandoned",
            settings.alert_abandoned,
            IMMEDIATELY,
            False,
            False,
            abandoned_sessions,
            above(settings.alert_abandoned),
        ),
    )
}


class Worst(TypedDict):
    value: float
    subject: str


class Evaluation(NamedTuple):
    """`signals`: broken rules. `worst`: JSON by rule. `unknown`: rules that need the broker while it is unavailable."""

    signals: list[Signal]
    worst: dict[str, Worst]
    unknown: set[str]


def evaluate(snapshot: Snapshot) -> Evaluation:
    judged = Evaluation([], {}, set())
    for rule in RULES.values():
        if rule.needs_broker and snapshot.facts.broker:
            judged.unknown.add(rule.name)
            continue
        signals = rule.find(snapshot)
        judged.signals.extend(signal for signal in signals if rule.is_broken(snapshot, signal))
        if worst := max(signals, key=lambda signal: signal.value, default=None):
            judged.worst[rule.name] = {"value": worst.value, "subject": worst.subject}
    return judged


def take_snapshot(facts: HealthReport, rates: Mapping[str, Rate], abandoned: int) -> Snapshot:
    latest = {rule: alerts.latest_alert(rule) for rule in ("dropped", "forged")}
    return Snapshot(facts, rates, abandoned, latest)
