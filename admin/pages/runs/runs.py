"""List of runs: filters, search, counts, paging."""

import re
from datetime import UTC, datetime

from flask import request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

import tasks
from admin.auth.access import requires_role
from admin.operations import saved_views
from admin.pages import live_refresh
from admin.pages.blueprint import ROWS_PER_PAGE, blueprint
from admin.problems import InvalidInput
from admin.search.run_filter import SPANS, RunFilter
from admin.search.run_query import SEARCH_KEYS
from config import QUEUES
from engine.models import Run, State
from engine.monitor import registered_tasks
from engine.search.pagination import COUNT_LIMIT, InvalidCursor
from engine.search.run_search import RunPage, count_by_state, search_runs

#: States whose tab is always shown. Other tabs are shown only when they have runs.
USUAL_STATES = ("waiting", "running", "retrying", "succeeded", "failed", "dead")


@blueprint.get("/runs")
@requires_role("viewer")
def runs() -> ResponseReturnValue:
    run_filter = RunFilter()
    page = runs_page(run_filter)
    counts = count_by_state(run_filter.parsed) if run_filter.parsed else None
    registered = [task.name for task in registered_tasks.list_tasks(tasks.queues)]
    return live_refresh.render_page(
        "runs/runs.html",
        filters=run_filter,
        counts=counts and {"all": min(sum(counts.values()), COUNT_LIMIT + 1), **counts},
        tabs=[(name, url) for name, url in run_filter.tabs if is_tab_shown(name, run_filter, counts)],
        runs=page.rows,
        older=page.older,
        searched_to=page.searched_to,
        named=view_name(run_filter),
        views=saved_views.visible_views(),
        task_names=sorted({*registered, *run_filter.task.split(",")} - {""}),
        queue_names=QUEUES,
        spans=time_spans(),
        from_field=datetime_field(run_filter.values["from"]),
        to_field=datetime_field(run_filter.to),
        first_page=not request.args.get("before"),
        act_on_all=lambda verb: run_filter.url_for("pages.bulk_new", verb=verb),
        export_url=lambda ending: run_filter.url_for(f"pages.runs_{ending}"),
        keys=SEARCH_KEYS,
        title_of=list_title,
    )


def runs_page(run_filter: RunFilter) -> RunPage:
    if run_filter.parsed is None:
        return RunPage([], None)
    try:
        return search_runs(run_filter.parsed, ROWS_PER_PAGE, request.args.get("before", ""))
    except InvalidCursor as error:
        raise InvalidInput("before", str(error)) from error


def is_tab_shown(name: str, run_filter: RunFilter, counts: dict[str, int] | None) -> bool:
    return name in ("all", *USUAL_STATES) or name in run_filter.state.split(",") or bool(counts and counts[name])


def view_name(run_filter: RunFilter) -> Run | None:
    """Return the run whose full id is the search text, else None."""
    lone_id = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", run_filter.q)
    return Run.get_or_none(Run.id == run_filter.q) if lone_id else None


def time_spans() -> list[tuple[str, str]]:
    names = {"1h": _("in the last hour"), "24h": _("in the last 24 hours"), "7d": _("in the last 7 days")}
    return [(span, names[span]) for span in SPANS]


def datetime_field(instant: str) -> str:
    """Return an instant in the format of a datetime-local field."""
    if not instant:
        return ""
    at = datetime.fromisoformat(instant)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S").removesuffix(":00")


def list_title(state: str) -> str:
    """Return the label of a state's tab."""
    return {
        "all": _("All"),
        State.WAITING: _("Waiting"),
        State.SCHEDULED: _("Scheduled"),
        State.RUNNING: _("Running"),
        State.RETRYING: _("Retrying"),
        State.SUCCEEDED: _("Succeeded"),
        State.FAILED: _("Failed"),
        State.CANCELLED: _("Cancelled"),
        State.EXPIRED: _("Expired"),
        State.DEAD: _("Dead"),
    }[state]
