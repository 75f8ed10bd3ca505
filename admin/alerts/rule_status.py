"""How each rule stands, for the page and the terminal: as whoever watches saw it last."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from admin.alerts import text
from engine.monitor import alerts as engine_alerts
from engine.monitor.alert_rules import RULES
from engine.monitor.alerts import Alert, Watcher


class Standing(NamedTuple):
    """`state`: firing, ok, off, or unknown where nobody watches. `seen`: the worst that was measured, in words."""

    rule: str
    name: str
    threshold: str
    state: str
    seen: str
    alerts: list[Alert]

    @property
    def since(self) -> datetime | None:
        return min((alert.began_at for alert in self.alerts), default=None)


class Board(NamedTuple):
    rules: list[Standing]
    watching: list[Watcher]
    firing: int


def board(as_of: datetime) -> Board:
    """What fires stands first. Two statements."""
    firing = engine_alerts.open_alerts()
    watching = engine_alerts.watching(as_of)
    seen: dict[str, Any] = watching[0].seen if watching else {}
    standings = [
        standing(name, [alert for alert in firing if alert.rule == name], bool(watching), seen) for name in RULES
    ]
    standings.sort(key=lambda status: status.state != "firing")
    return Board(standings, watching, len(firing))


def standing(rule: str, firing: list[Alert], watched: bool, seen: Mapping[str, Any]) -> Standing:
    off = RULES[rule].threshold == 0
    state = "firing" if firing else "off" if off else "ok" if watched else "unknown"
    return Standing(
        rule=rule,
        name=text.rule_name(rule),
        threshold="" if off else text.threshold(RULES[rule]),
        state=state,
        seen=text.measured(rule, seen.get(rule)),
        alerts=firing,
    )
