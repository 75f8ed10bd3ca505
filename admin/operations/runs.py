"""What can be asked and done of runs."""

from datetime import datetime
from typing import Annotated, Any, NamedTuple

import orjson
from flask import abort, get_template_attribute
from flask_babel import gettext as _
from markupsafe import Markup

import tasks
from admin.auth.identity import Actor
from admin.operations.arguments import JSONList, JSONObject
from admin.operations.queries import Cursor, Limit, register_query
from admin.operations.registry import ActionResult, register_action
from admin.operations.schemas import Schema
from admin.problems import InvalidInput
from admin.search.run_filter import SPANS, RunFilter
from config import QUEUES
from engine.control import runs as run_control
from engine.control.runs import Result
from engine.models import Attempt, LogLine, Run, State
from engine.monitor.diagnosis import Cause, diagnose
from engine.search.pagination import COUNT_LIMIT, InvalidCursor
from engine.search.run_search import count_by_state, search_runs

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


class RunDetails(NamedTuple):
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


@register_query(
    "runs.list",
    "/runs",
    filters=FILTERS,
    columns=("id", "task", "state", "queue", "enqueued_at", "run_ms", "attempts", "asked_by"),
)
def list_runs(before: Cursor = "", limit: Limit = 30) -> RunPage:
    """Runs, newest first."""
    try:
        return RunPage(*search_runs(RunFilter().run_query, limit, before))
    except InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error


@register_query("runs.counts", "/runs/counts", filters=FILTERS)
def count_runs() -> RunCounts:
    """How many runs are in each state."""
    return RunCounts(count_by_state(RunFilter().run_query), COUNT_LIMIT)


@register_query("runs.show", "/runs/{run_id}")
def show_run(run_id: str) -> RunDetails:
    """One run; `history` holds its attempts, first to last."""
    run = get_run(run_id)
    return RunDetails(**run.__data__, history=run.history)


@register_query("runs.log", "/runs/{run_id}/log", columns=("at", "level", "logger", "text"))
def show_run_log(run_id: str, after: Cursor = "", limit: Annotated[int, {"minimum": 1, "maximum": 1000}] = 500) -> Log:
    """What the run logged, first to last."""
    get_run(run_id)
    lines = LogLine.select().where(LogLine.run_id == run_id)
    if after:
        delivery, number = parse_log_position(after)
        lines = lines.where(
            (LogLine.delivery > delivery) | ((LogLine.delivery == delivery) & (LogLine.number > number))
        )
    rows = list(lines.order_by(LogLine.delivery, LogLine.number).limit(limit + 1))
    last = rows[limit - 1] if len(rows) > limit else None
    return Log(rows[:limit], f"{last.delivery}_{last.number}" if last else None)


def parse_log_position(text: str) -> tuple[int, int]:
    delivery, _separator, number = text.partition("_")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in (delivery, number)):
        raise InvalidInput("after", _("this is no place in the list"))
    return int(delivery), int(number)


@register_query("runs.why", "/runs/{run_id}/why")
def explain_run(run_id: str) -> Causes:
    """Why the run is not running: everything that stands in its way."""
    return Causes([cause_data(cause) for cause in diagnose(tasks.queues, get_run(run_id))])


@register_action("runs.cancel", "operator", in_transaction=False)
def cancel_run(actor: Actor, run_id: str) -> ActionResult[str]:
    """Take a waiting run out of its queue, or interrupt a running one; gives back `removed` or `running`."""
    done = run_control.cancel_run(tasks.queues, run_id, actor.requester)
    return ActionResult(done, run_id, after={"was": "waiting" if done == "removed" else done})


@register_action("runs.retry", "operator", in_transaction=False)
def retry_run(actor: Actor, run_id: str) -> ActionResult[str]:
    """Re-queue a run that has ended, under its own id."""
    run_control.retry_run(tasks.queues, run_id, actor.requester)
    return ActionResult(run_id, run_id)


@register_action("runs.again", "operator", in_transaction=False)
def run_again(
    actor: Actor, run_id: str, args: JSONList | None = None, arguments: JSONObject | None = None
) -> ActionResult[Result]:
    """Enqueue a new run of the same task, whose parent is the old one; gives back its handle.

    With the arguments of the old one, unless others are given.
    """
    if args is None and arguments is None and (old := Run.get_or_none(Run.id == run_id)):
        args, arguments = old.args, old.kwargs
    result = run_control.run_again(tasks.queues, run_id, args or [], arguments or {}, by=actor.requester)
    return ActionResult(result, result.id, after={"parent": run_id, "args": args or [], "arguments": arguments or {}})


@register_action("runs.delete", "admin", danger=True)
def delete_run(actor: Actor, run_id: str) -> ActionResult[str]:
    """Remove a run that has ended from the history, with its attempts and its log."""
    run_control.delete_run(tasks.queues, run_id)
    return ActionResult(run_id, run_id)


def cause_data(cause: Cause) -> dict[str, object]:
    """As JSON values; instants in ISO 8601 with offset."""
    return {"cause": cause.kind, "text": cause_text(cause), **orjson.loads(orjson.dumps(cause.facts))}


def cause_text(cause: Cause) -> str:
    """Without links, in one line."""
    words = get_template_attribute("runs/_why.html", "cause")(cause.kind, cause.facts, links=False)
    return " ".join(Markup(words).striptags().split())


def get_run(run_id: str) -> Run:
    return Run.get_or_none(Run.id == run_id) or abort(404, _("No run has this id, or it is older than the history."))
