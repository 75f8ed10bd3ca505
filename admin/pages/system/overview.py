"""Overview page: problems, reading sessions, throughput, queues and workers."""

from datetime import datetime
from typing import NamedTuple

from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext

import tasks
from admin.auth.access import requires_role
from admin.display import attention, bar_chart
from admin.forms.list_filters import read_choice
from admin.operations.sessions import CLEANUP
from admin.operations.statistics import WINDOWS, Window, window_buckets
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint
from config import settings
from engine.history import run_counts
from engine.history.run_counts import WindowTotals
from engine.models import Run, State, now
from engine.monitor import consumers, registered_tasks, status
from reading import sessions as reading

LATEST_RUNS = 8
UPCOMING_SHOWN = 6
DAY_WINDOW = WINDOWS[1]

#: Rows of the table: state, label, and the search that finds its runs.
OUTCOMES = (
    ("succeeded", lazy_gettext("succeeded"), "state:succeeded ended:{ago}"),
    ("failed", lazy_gettext("failed"), "state:failed ended:{ago}"),
    ("dead", lazy_gettext("dead"), "state:dead ended:{ago}"),
)


class Column(NamedTuple):
    """A time window of the table of outcomes."""

    window: Window
    totals: WindowTotals
    finished: int  # without cancelled and expired runs
    waited: run_counts.Percentiles | None
    ran: run_counts.Percentiles | None


class Upcoming(NamedTuple):
    task: str
    queue: str
    due_at: datetime
    paused: bool


@blueprint.get("/")
@requires_role("viewer")
def overview() -> ResponseReturnValue:
    as_of = now()
    shown = requested_window()
    columns = overview_columns(as_of)
    hour, week = columns[0].totals, columns[-1].totals
    figures = reading.load_overview(as_of, settings.abandoned_after)
    engine = attention.load_attention(as_of, hour, week, figures.abandoned)
    runs = Run.recent(LATEST_RUNS)
    upcoming = upcoming_ticks(as_of, {pause.name for pause in engine.attention.schedules})
    return live_refresh.render_page(
        "system/overview.html",
        as_of=as_of,
        figures=figures,
        sessions_chart=bar_chart.sessions_chart(reading.closed_per_hour(as_of), as_of),
        runs_chart=bar_chart.runs_chart(window_buckets(shown, as_of), shown.step, as_of),
        shown=shown,
        windows=WINDOWS,
        outcomes=OUTCOMES,
        columns=columns,
        oldest=oldest_waiting(engine.queues),
        runs=runs,
        first_time=not (runs or week.ended),
        next_cleanup=next((tick.due_at for tick in upcoming if tick.task == CLEANUP and not tick.paused), None),
        upcoming=upcoming[:UPCOMING_SHOWN],
        more_upcoming=len(upcoming[UPCOMING_SHOWN:]),
        workers=engine.workers,
        queues=engine.queues,
        attention=engine.attention,
        lease=consumers.LEASE_TIME,
    )


def requested_window() -> Window:
    hours = int(read_choice("hours", [str(window.hours) for window in (DAY_WINDOW, *WINDOWS)]))
    return next(window for window in WINDOWS if window.hours == hours)


def overview_columns(as_of: datetime) -> list[Column]:
    totals = run_counts.load_windows(
        {window.ago: (run_counts.window_start(as_of, window.hours), None) for window in WINDOWS}
    )
    return [overview_column(window, totals[window.ago]) for window in WINDOWS]


def overview_column(window: Window, totals: WindowTotals) -> Column:
    finished = totals.counts[State.SUCCEEDED] + totals.failed
    return Column(window, totals, finished, run_counts.percentiles(totals.waited), run_counts.percentiles(totals.ran))


def oldest_waiting(queues: list[status.QueueStatus]) -> status.QueueStatus | None:
    """Return the queue with the oldest waiting run."""
    waiting = [queue for queue in queues if queue.oldest_waiting_ms is not None]
    return max(waiting, key=lambda queue: queue.oldest_waiting_ms or 0, default=None)


def upcoming_ticks(as_of: datetime, paused: set[str]) -> list[Upcoming]:
    """Return the next tick of each periodic task, soonest first."""
    ticks_due = []
    for fact in registered_tasks.list_tasks(tasks.queues):
        due_at = registered_tasks.next_tick(tasks.queues, fact.name, as_of) if fact.periodic else None
        if due_at:
            ticks_due.append(Upcoming(fact.name, fact.queue, due_at, fact.name in paused))
    return sorted(ticks_due, key=lambda tick: (tick.due_at, tick.task))
