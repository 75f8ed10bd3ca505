"""The status of each alert rule at the last check, for page and terminal."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from admin.alerts import text
from engine.monitor import alerts as engine_alerts
from engine.monitor.alert_rules import RULES
from engine.monitor.alerts import Alert, Watcher


class RuleStatus(NamedTuple):
    """`state`: firing, ok, off, or unknown without a watcher. `seen`: the worst measured value as text."""

    rule: str
    name: str
    threshold: str
    state: str
    seen: str
    alerts: list[Alert]

    @property
    def since(self) -> datetime | None:
        return min((alert.began_at for alert in self.alerts), default=None)


class AlertsStatus(NamedTuple):
    rules: list[RuleStatus]
    watching: list[Watcher]
    firing: int


def load_alerts_status(as_of: datetime) -> AlertsStatus:
    """Return the rules, firing ones first. Takes two statements."""
    firing = engine_alerts.open_alerts()
    watching = engine_alerts.is_watched(as_of)
    seen: dict[str, Any] = watching[0].seen if watching else {}
    standings = [
        build_rule_status(name, [alert for alert in firing if alert.rule == name], bool(watching), seen)
        for name in RULES
    ]
    standings.sort(key=lambda status: status.state != "firing")
    return AlertsStatus(standings, watching, len(firing))


def build_rule_status(rule: str, firing: list[Alert], watched: bool, seen: Mapping[str, Any]) -> RuleStatus:
    off = RULES[rule].threshold == 0
    state = "firing" if firing else "off" if off else "ok" if watched else "unknown"
    return RuleStatus(
        rule=rule,
        name=text.rule_name(rule),
        threshold="" if off else text.threshold_text(RULES[rule]),
        state=state,
        seen=text.measured_text(rule, seen.get(rule)),
        alerts=firing,
    )
