"""What programs ask about runs: the list with its filter, one of them, what it logged, and why it does not run."""

from datetime import datetime
from typing import Annotated, Any, NamedTuple

from flask import abort
from flask_babel import gettext as _

import tasks
from admin.problems import BadInput
from admin.reads import Cursor, Limit, read
from admin.reasons import as_data as reason_as_data
from admin.run import known
from admin.run_filter import SPANS, RunFilter
from admin.schemas import columns
from config import QUEUES
from engine.find import count_by_state, find
from engine.paging import COUNTED_TO, BadPage
from engine.records import Attempt, LogLine, Run, State
from engine.why import why

#: As on the page of runs, whose address takes the same.
FILTERS: dict[str, Any] = {
    "state": {"description": f"One or more, with commas between: {', '.join(State)}."},
    "task": {"description": "Names of tasks, with commas between."},
    "queue": {"description": f"One or more, with commas between: {', '.join(QUEUES)}."},
    "last": {"enum": ["", *SPANS], "description": "Asked for in this time."},
    "from": {"description": "Asked for then or later: a date or an instant."},
    "to": {"description": "Asked for before then."},
    "worker": {"description": "Run by a worker whose name begins so."},
    "by": {"description": "Asked for by these people or programs."},
    "ended": {"description": "Ended in this time: 24h, or from..to."},
    "q": {"maxLength": 500, "description": "As in the search box, such as `state:failed args.hours:24 refused`."},
}


class RunPage(NamedTuple):
    """`searched_to`: the page ended for having looked at enough; `next` searches on from there."""

    runs: list[Run]
    next: str | None
    searched_to: datetime | None


class RunCounts(NamedTuple):
    """By state; one more than `counted_to` stands for more than that. None where no index can tell."""

    counts: dict[str, int] | None
    counted_to: int


RunInFull = NamedTuple("RunInFull", [*columns(Run).items(), ("history", list[Attempt])])


class Log(NamedTuple):
    lines: list[LogLine]
    next: str | None


class Causes(NamedTuple):
    """Each with `cause`, `text` and what belongs to it; the main one first."""

    causes: list[dict[str, Any]]


@read(
    "runs.list",
    "/runs",
    filters=FILTERS,
    columns=("id", "task", "state", "queue", "enqueued_at", "run_ms", "attempts", "asked_by"),
)
def runs(before: Cursor = "", limit: Limit = 30) -> RunPage:
    """Runs, newest first."""
    try:
        return RunPage(*find(RunFilter().found, limit, before))
    except BadPage as error:
        raise BadInput("before", str(error)) from error


@read("runs.counts", "/runs/counts", filters=FILTERS)
def run_counts() -> RunCounts:
    """How many runs are in each state."""
    return RunCounts(count_by_state(RunFilter().found), COUNTED_TO)


@read("runs.show", "/runs/{run_id}")
def run(run_id: str) -> RunInFull:
    """One run; `history` holds its attempts, first to last."""
    found = known(run_id)
    return RunInFull(**found.__data__, history=found.history)


@read("runs.log", "/runs/{run_id}/log", columns=("at", "level", "logger", "text"))
def run_log(run_id: str, after: Cursor = "", limit: Annotated[int, {"minimum": 1, "maximum": 1000}] = 500) -> Log:
    """What the run logged, first to last."""
    known(run_id)
    lines = LogLine.select().where(LogLine.run_id == run_id)
    if after:
        delivery, number = place_of(after)
        lines = lines.where(
            (LogLine.delivery > delivery) | ((LogLine.delivery == delivery) & (LogLine.number > number))
        )
    rows = list(lines.order_by(LogLine.delivery, LogLine.number).limit(limit + 1))
    last = rows[limit - 1] if len(rows) > limit else None
    return Log(rows[:limit], f"{last.delivery}_{last.number}" if last else None)


def place_of(text: str) -> tuple[int, int]:
    delivery, _separator, number = text.partition("_")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in (delivery, number)):
        raise BadInput("after", _("this is no place in the list"))
    return int(delivery), int(number)


@read("runs.why", "/runs/{run_id}/why")
def run_why(run_id: str) -> Causes:
    """Why the run is not running: everything that stands in its way."""
    found = Run.get_or_none(Run.id == run_id) or abort(404, _("No run has this id, or it is older than the history."))
    return Causes([reason_as_data(cause) for cause in why(tasks.queues, found)])
