"""Statistics of recently ended sessions for charts. Every query is bounded by the end time."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from peewee import SQL, Case, fn

from engine.database import on_postgresql
from models import ReadingSession as Session
from reading.sessions import ended_between


class HourStats(NamedTuple):
    """Sessions that ended in one clock hour. `average` is in minutes, None without sessions."""

    start: datetime
    closed: int
    average: float | None
    no_progress: int


def load_hourly(as_of: datetime, hours: int = 24) -> list[HourStats]:
    """Return the last `hours` clock hours, oldest first. The last one is not over yet."""
    this_hour = as_of.replace(minute=0, second=0, microsecond=0)
    starts = [this_hour - timedelta(hours=back) for back in reversed(range(hours))]
    hour = time_part("ended_at", "YYYY-MM-DD HH24", 1, 13)
    without = fn.SUM(Case(None, [(Session.end_position == Session.start_position, 1)], 0))
    query = Session.select(hour, fn.COUNT(SQL("*")), fn.AVG(Session.duration_minutes), without)
    rows: Any = query.where(ended_between(starts[0], as_of)).group_by(hour).tuples()
    figures = {name: rest for name, *rest in rows}
    hours_ended = []
    for start in starts:
        count, average, none = figures.get(f"{start:%Y-%m-%d %H}", (0, None, 0))
        average = None if average is None else round(float(average), 1)
        hours_ended.append(HourStats(start, int(count), average, int(none or 0)))
    return hours_ended


def count_abandoned_at(instants: Collection[datetime]) -> Counter[tuple[int, str]]:
    """Count the sessions closed at these times, by the hour of day (UTC) of their start and by device.

    An empty device means that the session has none.
    """
    if not instants:
        return Counter()
    hour, device = time_part("started_at", "HH24", 12, 2), fn.COALESCE(Session.device_type, "")
    closed = (Session.is_active == SQL("false")) & Session.ended_at.in_(list(instants))
    rows: Any = Session.select(hour, device, fn.COUNT(SQL("*"))).where(closed).group_by(hour, device).tuples()
    return Counter({(int(began), name): count for began, name, count in rows if began is not None})


def time_part(column: str, pattern: str, start: int, length: int) -> SQL:
    """Return the SQL for a part of a time's text, in UTC."""
    if on_postgresql():
        return SQL(f"to_char({column} AT TIME ZONE 'UTC', '{pattern}')")
    return SQL(f"substr({column}, {start}, {length})")
