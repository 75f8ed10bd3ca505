"""Queries and actions for runs."""

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
from engine.control.arguments import mask_arguments
from engine.control.runs import Result
from engine.models import Attempt, LogLine, Run, State
from engine.monitor.diagnosis import Cause, diagnose
from engine.search.pagination import COUNT_LIMIT, InvalidCursor
from engine.search.run_search import count_by_state, search_runs

#: The parameters of the page of runs.
FILTERS: dict[str, Schema] = {
    "state": {"description": f"One or more states, separated by commas: {', '.join(State)}."},
    "task": {"description": "Names of tasks, separated by commas."},
    "queue": {"description": f"One or more queues, separated by commas: {', '.join(QUEUES)}."},
    "last": {"enum": ["", *SPANS], "description": "Enqueued in this period."},
    "from": {"description": "Enqueued at or after this date or time."},
    "to": {"description": "Enqueued before this date or time."},
    "worker": {"description": "Prefix of the worker's name."},
    "by": {"description": "Requested by these users or tokens."},
    "ended": {"description": "Ended in this period: 24h, or FROM..TO."},
    "q": {
        "maxLength": 500,
        "description": "A search as in the search box, such as `state:failed args.hours:24 refused`.",
    },
}


class RunDetails(NamedTuple):
    """The columns of a run, with its attempts in `history`."""

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
    """`searched_to`: the search stopped there because it had read its limit of rows. `next` continues."""

    runs: list[Run]
    next: str | None
    searched_to: datetime | None


class RunCounts(NamedTuple):
    """Counts by state, capped at `counted_to` + 1. None if no index supports the filter."""

    counts: dict[str, int] | None
    counted_to: int


class Log(NamedTuple):
    lines: list[LogLine]
    next: str | None


class Causes(NamedTuple):
    """Each cause has `cause`, `text` and its facts. The main one comes first."""

    causes: list[JSONObject]


@register_query(
    "runs.list",
    "/runs",
    filters=FILTERS,
    columns=("id", "task", "state", "queue", "enqueued_at", "run_ms", "attempts", "asked_by"),
)
def list_runs(before: Cursor = "", limit: Limit = 30) -> RunPage:
    """List runs, newest first."""
    try:
        return RunPage(*search_runs(RunFilter().run_query, limit, before))
    except InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error


@register_query("runs.counts", "/runs/counts", filters=FILTERS)
def count_runs() -> RunCounts:
    """Count runs by state."""
    return RunCounts(count_by_state(RunFilter().run_query), COUNT_LIMIT)


@register_query("runs.show", "/runs/{run_id}")
def show_run(run_id: str) -> RunDetails:
    """Show a run. `history` has its attempts in order."""
    run = get_run(run_id)
    return RunDetails(**run.__data__, history=run.history)


@register_query("runs.log", "/runs/{run_id}/log", columns=("at", "level", "logger", "text"))
def show_run_log(run_id: str, after: Cursor = "", limit: Annotated[int, {"minimum": 1, "maximum": 1000}] = 500) -> Log:
    """List the log lines of a run in order."""
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
        raise InvalidInput("after", _("must be a `next` value of this list"))
    return int(delivery), int(number)


@register_query("runs.why", "/runs/{run_id}/why")
def explain_run(run_id: str) -> Causes:
    """Explain why a run is not running."""
    return Causes([cause_data(cause) for cause in diagnose(tasks.queues, get_run(run_id))])


@register_action("runs.cancel", "operator", in_transaction=False)
def cancel_run(actor: Actor, run_id: str) -> ActionResult[str]:
    """Cancel a run: remove it from its queue, or interrupt it. Returns `removed` or `running`."""
    done = run_control.cancel_run(tasks.queues, run_id, actor.requester)
    return ActionResult(done, run_id, after={"was": "waiting" if done == "removed" else done})


@register_action("runs.retry", "operator", in_transaction=False)
def retry_run(actor: Actor, run_id: str) -> ActionResult[str]:
    """Re-queue an ended run under the same id."""
    run_control.retry_run(tasks.queues, run_id, actor.requester)
    return ActionResult(run_id, run_id)


@register_action("runs.again", "operator", in_transaction=False)
def run_again(
    actor: Actor, run_id: str, args: JSONList | None = None, arguments: JSONObject | None = None
) -> ActionResult[Result]:
    """Enqueue a new run of the same task. Returns its id.

    The old run becomes its parent. The new run gets the old arguments unless others are given. An argument that is
    masked in the old run and here keeps its old value.
    """
    if args is None and arguments is None and (old := Run.get_or_none(Run.id == run_id)):
        args, arguments = old.args, old.kwargs
    result = run_control.run_again(tasks.queues, run_id, args or [], arguments or {}, by=actor.requester)
    shown = mask_arguments(tasks.queues, Run.get_by_id(run_id).task, args or [], arguments or {})
    return ActionResult(result, result.id, after={"parent": run_id, "args": shown.args, "arguments": shown.kwargs})


@register_action("runs.delete", "admin", danger=True)
def delete_run(actor: Actor, run_id: str) -> ActionResult[str]:
    """Delete an ended run from the history, with its attempts and log."""
    run_control.delete_run(tasks.queues, run_id)
    return ActionResult(run_id, run_id)


def cause_data(cause: Cause) -> dict[str, object]:
    """Return the cause as JSON data, with times in ISO 8601."""
    return {"cause": cause.kind, "text": cause_text(cause), **orjson.loads(orjson.dumps(cause.facts))}


def cause_text(cause: Cause) -> str:
    """Return the sentence of a cause as one line of plain text."""
    words = get_template_attribute("runs/_why.html", "cause")(cause.kind, cause.facts, links=False)
    return " ".join(Markup(words).striptags().split())


def get_run(run_id: str) -> Run:
    return Run.get_or_none(Run.id == run_id) or abort(404, _("No run with this id. The history may have removed it."))
