"""Reading sessions: closing abandoned ones, and statistics. The current time is an argument."""

import json
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from peewee import (
    SQL,
    Case,
    DatabaseError,
    Expression,
    ModelSelect,
    OperationalError,
    ProgrammingError,
    Select,
    Tuple,
    fn,
)

from engine.database import database, on_postgresql
from models import ReadingSession as Session

logger = logging.getLogger(__name__)

HOURS = range(1, 169)


class InvalidHours(ValueError):
    """`hours` is not a whole number from 1 to 168."""


class CleanupResult(TypedDict):
    """The outcome of a cleanup. `deadline`: sessions that started before it were closed (ISO 8601)."""

    closed_count: int
    execution_time_ms: float
    deadline: str
    error: str | None


class CleanupStatistics(TypedDict):
    total_closed: int
    total_active: int
    avg_duration_minutes: float
    no_progress_count: int
    period_hours: int
    timestamp: str


class SessionOverview(NamedTuple):
    active: int
    abandoned: int
    closed: int
    avg_duration_minutes: float
    no_progress: int


# --- closing -------------------------------------------------------------------------------------------------


def close_abandoned(
    as_of: datetime,
    older_than: timedelta,
    batch_size: int,
    *,
    already: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CleanupResult:
    """Close every session that is open and started strictly longer than `older_than` before `as_of`.

    Each batch is one short transaction. A row that another transaction holds is skipped, so that concurrent runs share
    the
    work. The next run sees it again. A row that the database rejects (a constraint, a trigger) is left open and logged.
    An
    error of the statement or the connection raises, with earlier batches committed. `already` is the number that
    earlier
    attempts of the same run, with the same `as_of`, closed.

    Returns the four keys `closed_count, execution_time_ms, deadline, error`.
    """
    started = time.perf_counter()
    logger.info("Starting close_abandoned_sessions task")
    try:
        closed = already + close_in_batches(as_of, older_than, batch_size, on_progress)
    except Exception as error:
        logger.error("Error closing abandoned sessions: %s", error, exc_info=True)
        raise
    elapsed_ms = (time.perf_counter() - started) * 1000
    if closed:
        logger.info("Closed %d abandoned sessions in %.2fms", closed, elapsed_ms)
    return cleanup_result(as_of - older_than, closed, elapsed_ms)


def cleanup_result(deadline: datetime, closed: int, elapsed_ms: float, error: str | None = None) -> CleanupResult:
    return {
        "closed_count": closed,
        "execution_time_ms": round(elapsed_ms, 2),
        "deadline": deadline.isoformat(),
        "error": error,
    }


def close_in_batches(
    as_of: datetime, older_than: timedelta, batch_size: int, on_progress: Callable[[int, int], None]
) -> int:
    total = count_abandoned(as_of, older_than)
    if not total:
        logger.info("No abandoned sessions found")
        return 0
    logger.info("Found %d abandoned sessions", total)
    abandoned, closed, last = Session.abandoned(as_of, older_than), 0, None
    while True:
        with database.atomic():
            batch = lock_next_batch(abandoned, last, batch_size)
            closed += close_batch(batch, as_of)
        on_progress(closed, total)
        if len(batch) < batch_size:
            break
        last = batch[-1]
    logger.info("Successfully closed %d/%d sessions", closed, total)
    return closed


class BatchRow(NamedTuple):
    """A session's id and start, as text: PostgreSQL has times, such as -infinity, that Python does not."""

    id: UUID
    place: str


def lock_next_batch(abandoned: Expression, after: BatchRow | None, batch_size: int) -> list[BatchRow]:
    query = Session.select(Session.id, Session.started_at.cast("text").alias("place")).where(abandoned)
    if after is not None:
        last_id = SQL("%s::uuid" if on_postgresql() else "?", [after.id.hex])
        query = query.where(Tuple(Session.started_at, Session.id) > Tuple(timestamp_literal(after.place), last_id))
    query = query.order_by(Session.started_at, Session.id).limit(batch_size)
    if on_postgresql():
        # NO KEY: rows of other tables that refer to these sessions can still be written.
        query = query.for_update("FOR NO KEY UPDATE", skip_locked=True)  # type: ignore[arg-type]
    rows: Any = query.tuples()
    return [BatchRow(*row) for row in rows]


def timestamp_literal(place: str) -> SQL:
    return SQL("%s::timestamptz" if on_postgresql() else "?", [place])


def close_batch(batch: list[BatchRow], as_of: datetime) -> int:
    """Close these sessions. A rejected batch is halved until the rejected rows are found. Returns the number closed."""
    if not batch:
        return 0
    try:
        with database.atomic():
            closed = close_where(as_of, by_ids(batch))
            if closed < len(batch):
                log_kept_open(batch)
            if logger.isEnabledFor(logging.DEBUG):
                log_closed(batch, as_of)
            return closed
    except (OperationalError, ProgrammingError):
        raise
    except DatabaseError as error:
        if len(batch) == 1:
            logger.warning("Failed to close session %s: %s", batch[0].id, str(error).splitlines()[0])
            return 0
    half = len(batch) // 2
    return close_batch(batch[:half], as_of) + close_batch(batch[half:], as_of)


def close_where(as_of: datetime, which: Expression) -> int:
    """Close every open session that meets the condition. Returns the number closed."""
    without_progress = Case(None, [(Session.end_position == 0, Session.start_position)], Session.end_position)
    return int(
        Session.update(
            is_active=False,
            ended_at=as_of,
            duration_minutes=whole_minutes_until(as_of),
            end_position=without_progress,
        )
        .where(which & Session.open())
        .execute()
    )


def whole_minutes_until(as_of: datetime) -> SQL:
    """Return SQL for the whole minutes from `started_at` to `as_of`, exact to the microsecond, 0 for a later start."""
    if on_postgresql():
        return SQL("greatest(floor(extract(epoch FROM (%s::timestamptz - started_at)) / 60), 0)::int", [as_of])
    # SQLite's own date functions round to milliseconds, so seconds and fraction are compared separately.
    fraction = str(as_of)[19:26]
    seconds = "? - CAST(strftime('%s', substr(started_at, 1, 19)) AS INTEGER) - (? < substr(started_at, 20, 7))"
    return SQL(f"max(({seconds}) / 60, 0)", [int(as_of.timestamp()), fraction])


def by_ids(batch: list[BatchRow]) -> Expression:
    """Return the condition "`id` is one of these", with one parameter for any number of ids.

    It also bounds the starts, so that the cleanup index finds the rows without a scan of all open sessions.
    """
    starts = (Session.started_at >= timestamp_literal(batch[0].place)) & (
        Session.started_at <= timestamp_literal(batch[-1].place)
    )
    if on_postgresql():
        return starts & Expression(Session.id, "=", SQL("ANY(%s::uuid[])", [[str(row.id) for row in batch]]))
    return starts & Session.id.in_(SQL("(SELECT value FROM json_each(?))", [json.dumps([row.id.hex for row in batch])]))


def log_kept_open(batch: list[BatchRow]) -> None:
    for row in Session.select(Session.id).where(by_ids(batch) & Session.open()):
        logger.warning("Failed to close session %s: a trigger kept it open", row.id)


def log_closed(batch: list[BatchRow], as_of: datetime) -> None:
    columns = (Session.id, Session.user, Session.book, Session.duration_minutes)
    for row in Session.select(*columns).where(by_ids(batch) & (Session.ended_at == as_of)).dicts():
        logger.debug("Closed session %(id)s for user %(user)s, book %(book)s, duration %(duration_minutes)dmin", row)


def close_one(session_id: UUID, as_of: datetime) -> bool:
    """Close one open session, whatever its age. False if it does not exist or is not open."""
    with database.atomic():
        return close_where(as_of, Session.id == session_id) == 1


# --- counting ------------------------------------------------------------------------------------------------


def count_abandoned(as_of: datetime, older_than: timedelta) -> int:
    return int(Session.select().where(Session.abandoned(as_of, older_than)).count())


def count_closed_at(instant: datetime) -> int:
    """Return the number of sessions closed at exactly this time: those of one run."""
    return int(Session.select().where((Session.is_active == SQL("false")) & (Session.ended_at == instant)).count())


def count_active() -> int:
    """Return the number of active sessions, including those marked active although ended."""
    return session_counts(is_active())[0]


def is_active() -> Expression:
    return Session.is_active == SQL("true")


def session_counts(*conditions: Expression) -> list[int]:
    columns = [Session.select(fn.COUNT(SQL("*"))).where(condition) for condition in conditions]
    return [int(count) for count in next(iter(Select(columns=columns).bind(database).tuples()))]


def cleanup_statistics(as_of: datetime, hours: int) -> CleanupStatistics:
    """Return statistics of active sessions and those closed in the last `hours` (1–168). Raises InvalidHours."""
    if type(hours) is not int or hours not in HOURS:
        raise InvalidHours(f"hours must be a whole number from {HOURS[0]} to {HOURS[-1]}, not {hours!r}")
    closed, average, no_progress = closed_stats(as_of - timedelta(hours=hours), as_of)
    return {
        "total_closed": closed,
        "total_active": count_active(),
        "avg_duration_minutes": average,
        "no_progress_count": no_progress,
        "period_hours": hours,
        "timestamp": as_of.isoformat(),
    }


def closed_stats(since: datetime, until: datetime) -> tuple[int, float, int]:
    """Return the number of sessions that ended in this time, their average minutes (2 places), and those without
    progress.
    """
    return averages(*closed_columns(since, until).scalar(as_tuple=True))


def closed_columns(since: datetime, until: datetime) -> "ModelSelect[Session]":
    no_progress = Case(None, [(Session.end_position == Session.start_position, 1)], 0)
    columns = (
        fn.COUNT(SQL("*")).alias("closed"),
        fn.AVG(Session.duration_minutes).alias("average"),
        fn.SUM(no_progress).alias("without"),
    )
    return Session.select(*columns).where(ended_between(since, until))


def averages(count: int, average: float | Decimal | None, without: int | None) -> tuple[int, float, int]:
    return int(count), round(float(average or 0), 2), int(without or 0)


def ended_between(since: datetime, until: datetime) -> Expression:
    return (Session.is_active == SQL("false")) & (Session.ended_at >= since) & (Session.ended_at <= until)


def load_overview(as_of: datetime, older_than: timedelta) -> SessionOverview:
    closed = closed_columns(as_of - timedelta(hours=24), as_of).alias("figures")
    numbers = [
        Session.select(fn.COUNT(SQL("*"))).where(condition)
        for condition in (is_active(), Session.abandoned(as_of, older_than))
    ]
    columns = [*numbers, closed.c.closed, closed.c.average, closed.c.without]
    now_active, abandoned, *rest = next(iter(Select([closed], columns).bind(database).tuples()))
    return SessionOverview(int(now_active), int(abandoned), *averages(*rest))


def closed_per_hour(as_of: datetime, hours: int = 24) -> list[tuple[datetime, int]]:
    """Return the sessions ended in each of the last `hours` clock hours, oldest first. The last one is not over yet."""
    this_hour = as_of.replace(minute=0, second=0, microsecond=0)
    starts = [this_hour - timedelta(hours=back) for back in reversed(range(hours))]
    hour = SQL(
        "to_char(ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')" if on_postgresql() else "substr(ended_at, 1, 13)"
    )
    rows: Any = Session.select(hour, fn.COUNT(SQL("*"))).where(ended_between(starts[0], as_of)).group_by(hour).tuples()
    counts: dict[str, int] = dict(rows)
    return [(start, counts.get(f"{start:%Y-%m-%d %H}", 0)) for start in starts]
