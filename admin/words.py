"""How numbers, times, durations and people are written on the pages: Jinja filters, and whole sentences."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from jinja2 import StrictUndefined

from engine.paging import COUNTED_TO
from engine.records import Run, State, now

NONE = "–"
MINUTE, HOUR, DAY = 60, 3600, 86_400


def add_to(app: Flask) -> None:
    filters = (
        number,
        bounded,
        percent,
        duration,
        minutes,
        timer,
        ago,
        due,
        so_far,
        open_for,
        instant,
        since,
        clock,
        exact,
        short,
        asker,
        as_call,
        as_json,
    )
    app.jinja_env.filters.update({one.__name__: one for one in filters})
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(counted=counted, outcome=outcome, now=now)


# --- numbers -------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """1234567 → 1,234,567; 23.50 → 23.5."""
    if value is None:
        return NONE
    return f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else f"{value:,}"


def bounded(count: int) -> str:
    """A count that was not taken further than anyone reads."""
    return f"{COUNTED_TO:,}+" if count > COUNTED_TO else number(count)


def percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0
    if 0 < share < 0.1:
        return "< 0.1 %"
    return f"{share:.1f}".removesuffix(".0") + " %"


def counted(one: str, many: str, num: int, **values: Any) -> str:
    """The sentence for this many: `%(num)s` stands for the number, `%(name)s` for another value."""
    return (one if num == 1 else many) % {"num": bounded(num), **values}


# --- times ---------------------------------------------------------------------------------------------------


def duration(ms: float | None) -> str:
    """41 ms, 1.2 s, 48 s, 4 min 12 s, 3 h 5 min, 2 d 4 h."""
    if ms is None:
        return NONE
    if ms < 1:
        return "< 1 ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 9950:
        return f"{ms / 1000:.1f} s"
    return spell(round(ms / 1000))


def minutes(value: int | None) -> str:
    if value is None:
        return NONE
    return spell(value * MINUTE) if value > 0 else f"{value} min"


def spell(seconds: int) -> str:
    """The two largest units, the smaller one only where it is not 0."""
    units = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s"))
    first = next((i for i, (size, _name) in enumerate(units) if seconds >= size), len(units) - 1)
    parts = []
    for size, name in units[first : first + 2]:
        count, seconds = divmod(seconds, size)
        if count or not parts:
            parts.append(f"{count} {name}")
    return " ".join(parts)


def timer(until: datetime, at: datetime | None = None) -> str:
    """mm:ss that are left, h:mm:ss from an hour on."""
    left = max(0, round((until - (at or now())).total_seconds()))
    hours, rest = divmod(left, HOUR)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}"


def ago(instant: datetime, at: datetime | None = None) -> str:
    seconds = round(((at or now()) - instant).total_seconds())
    if abs(seconds) < 2:
        return "now"
    size, name = next(unit for unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s")) if abs(seconds) >= unit[0])
    return f"{seconds // size} {name} ago" if seconds > 0 else f"in {-seconds // size} {name}"


def due(instant: datetime, at: datetime | None = None) -> str:
    return ago(instant, at) if instant > (at or now()) else "now"


def clock(instant: datetime, at: datetime | None = None) -> str:
    """17:30:00 today, 22 Nov 17:30 this year, 22 Nov 2025 before (or after) it; UTC."""
    instant, at = instant.astimezone(UTC), at or now()
    if instant.date() == at.date():
        return f"{instant:%H:%M:%S}"
    return (
        f"{instant.day} {instant:%b %H:%M}" if instant.year == at.year else f"{instant.day} {instant:%b} {instant.year}"
    )


def so_far(instant: datetime, at: datetime | None = None) -> str:
    """How long it has lasted, in whole seconds."""
    return spell(max(0, int(((at or now()) - instant).total_seconds())))


def open_for(instant: datetime, at: datetime | None = None) -> str:
    """How long it has lasted, in whole minutes after the first one: a column of these does not fidget."""
    seconds = int(((at or now()) - instant).total_seconds())
    return spell(max(0, seconds if seconds < MINUTE else seconds // MINUTE * MINUTE))


def since(ms: float) -> datetime:
    """When it began, to the second: two pages that are asked for at once agree on it."""
    return (now() - timedelta(milliseconds=ms)).replace(microsecond=0)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def exact(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


# --- runs ----------------------------------------------------------------------------------------------------


def short(identifier: Any) -> str:
    """Enough of an id to recognise it."""
    text = str(identifier)
    return text if len(text) <= 8 else text[:8] + "…"


def asker(run: Run) -> str:
    kind, name = run.asked_by_kind, run.asked_by
    match kind:
        case "schedule":
            return "schedule"
        case "operator":
            return name or "an operator"
        case "token":
            return f"token {name}"
        case "cli":
            return f"command line ({name})" if name else "command line"
        case "run":
            return f"run {short(name)}"
        case "code":
            return "code"
    return "unknown"


def as_call(run: Run) -> str:
    """name(1, key="value"), as Python would call it, with JSON values."""
    words = [as_json(value) for value in run.args or []]
    words += [f"{key}={as_json(value)}" for key, value in (run.kwargs or {}).items()]
    return f"{run.task}({', '.join(words)})"


def as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def outcome(run: Run) -> str:
    """What came of a run, in a few words; empty where its state says it all."""
    match run.state:
        case State.FAILED | State.DEAD | State.RETRYING:
            return (run.error or "").strip().splitlines()[-1] if (run.error or "").strip() else ""
        case State.SUCCEEDED:
            return told(run)
    return ""


def told(run: Run) -> str:
    """The result of a task that is known, in its own words; of any other one, the JSON."""
    match run.task, run.result:
        case "close_abandoned_sessions", {"closed_count": 0}:
            return "nothing to close"
        case "close_abandoned_sessions", {"closed_count": int(count)}:
            return counted("closed %(num)s session", "closed %(num)s sessions", count)
        case "get_cleanup_statistics", {"total_closed": int(count), "period_hours": hours}:
            return counted(
                "%(num)s session closed in %(hours)s h", "%(num)s sessions closed in %(hours)s h", count, hours=hours
            )
        case "cleanup_old_task_results", {"results": int(results), "runs": int(runs), "workers": int(workers)}:
            return removed(results, runs, workers)
        case _, None:
            return ""
    return as_json(run.result)


def removed(results: int, runs: int, workers: int) -> str:
    parts = (
        results and counted("%(num)s result", "%(num)s results", results),
        runs and counted("%(num)s run", "%(num)s runs", runs),
        workers and counted("%(num)s worker", "%(num)s workers", workers),
    )
    return f"removed {', '.join(filter(None, parts))}" if any(parts) else "nothing to remove"
