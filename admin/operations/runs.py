"""What can be asked and done of runs."""

from datetime import datetime
from typing import Annotated, Any, NamedTuple

import orjson
from flask import abort, get_template_attribute
from flask_babel import gettext as _
from markupsafe import Markup

import tasks
from admin.auth.identity import Who
from admin.operations.arguments import JSONList, JSONObject
from admin.operations.queries import Cursor, Limit, read
from admin.operations.registry import Outcome, action
from admin.operations.schemas import Schema
from admin.problems import BadInput
from admin.search.run_filter import SPANS, RunFilter
from config import QUEUES
from engine.control import runs as run_control
from engine.control.runs import Result
from engine.models import Attempt, LogLine, Run, State
from engine.monitor.diagnosis import Cause, why
from engine.search.pagination import COUNTED_TO, BadPage
from engine.search.run_search import count_by_state, find

#: As on the page of runs, whose address takes the same.
FILTERS: dict[str, Schema] = {
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


class RunInFull(NamedTuple):
    """The columns of a run, and its attempts."""

    id: str
    task: str
    queue: str
    state: str
    args: Any
    kwargs: Any
    priority: float | None
    retries: int
    asked_by_kind: str | None
    asked_by: str | None
    parent_id: str | None
    code_version: str | None
    enqueued_at: datetime
    due_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    instant_at: datetime | None
    wait_ms: float | None
    run_ms: float | None
    attempts: int
    deliveries: int
    worker: str | None
    result: Any
    error: str | None
    error_group: str | None
    progress_done: float | None
    progress_total: float | None
    progress_text: str | None
    history: list[Attempt]


class RunPage(NamedTuple):
    """`searched_to`: the page ended for having looked at enough; `next` searches on from there."""

    runs: list[Run]
    next: str | None
    searched_to: datetime | None


class RunCounts(NamedTuple):
    """By state; one more than `counted_to` stands for more than that. None where no index can tell."""

    counts: dict[str, int] | None
    counted_to: int


class Log(NamedTuple):
    lines: list[LogLine]
    next: str | None


class Causes(NamedTuple):
    """Each with `cause`, `text` and what belongs to it; the main one first."""

    causes: list[JSONObject]


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
    run = get_run(run_id)
    return RunInFull(**run.__data__, history=run.history)


@read("runs.log", "/runs/{run_id}/log", columns=("at", "level", "logger", "text"))
def run_log(run_id: str, after: Cursor = "", limit: Annotated[int, {"minimum": 1, "maximum": 1000}] = 500) -> Log:
    """What the run logged, first to last."""
    get_run(run_id)
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
    return Causes([cause_as_data(cause) for cause in why(tasks.queues, get_run(run_id))])


@action("runs.cancel", "operator", in_transaction=False)
def cancel_run(actor: Who, run_id: str) -> Outcome[str]:
    """Take a waiting run out of its queue, or interrupt a running one; gives back `removed` or `running`."""
    done = run_control.cancel(tasks.queues, run_id, actor.asker)
    return Outcome(done, run_id, after={"was": "waiting" if done == "removed" else done})


@action("runs.retry", "operator", in_transaction=False)
def retry_run(actor: Who, run_id: str) -> Outcome[str]:
    """Re-queue a run that has ended, under its own id."""
    run_control.retry(tasks.queues, run_id, actor.asker)
    return Outcome(run_id, run_id)


@action("runs.again", "operator", in_transaction=False)
def run_again(
    actor: Who, run_id: str, args: JSONList | None = None, arguments: JSONObject | None = None
) -> Outcome[Result]:
    """Enqueue a new run of the same task, whose parent is the old one; gives back its handle.

    With the arguments of the old one, unless others are given.
    """
    if args is None and arguments is None and (old := Run.get_or_none(Run.id == run_id)):
        args, arguments = old.args, old.kwargs
    result = run_control.run_again(tasks.queues, run_id, args or [], arguments or {}, by=actor.asker)
    return Outcome(result, result.id, after={"parent": run_id, "args": args or [], "arguments": arguments or {}})


@action("runs.delete", "admin", danger=True)
def delete_run(actor: Who, run_id: str) -> Outcome[str]:
    """Remove a run that has ended from the history, with its attempts and its log."""
    run_control.delete(tasks.queues, run_id)
    return Outcome(run_id, run_id)


def cause_as_data(cause: Cause) -> dict[str, object]:
    """As JSON values; instants in ISO 8601 with offset."""
    return {"cause": cause.kind, "text": sentence(cause), **orjson.loads(orjson.dumps(cause.facts))}


def sentence(cause: Cause) -> str:
    """Without links, in one line."""
    words = get_template_attribute("runs/_why.html", "cause")(cause.kind, cause.facts, links=False)
    return " ".join(Markup(words).striptags().split())


def get_run(run_id: str) -> Run:
    return Run.get_or_none(Run.id == run_id) or abort(404, _("No run has this id, or it is older than the history."))
