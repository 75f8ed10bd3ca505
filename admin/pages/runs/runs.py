"""The list of runs: filtered, searched, counted, paged."""

import re
from datetime import UTC, datetime

from flask import request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

import tasks
from admin.auth.access import needs
from admin.operations import saved_views
from admin.pages import live_refresh
from admin.pages.blueprint import ROWS, blueprint
from admin.problems import BadInput
from admin.search.run_filter import SPANS, RunFilter
from admin.search.run_query import KEYS
from config import QUEUES
from engine.models import Run, State
from engine.monitor import registered_tasks
from engine.search.pagination import COUNTED_TO, BadPage
from engine.search.run_search import Found, count_by_state, find

#: The states that have a tab also while no run is in them; the others come and go.
USUAL = ("waiting", "running", "retrying", "succeeded", "failed", "dead")


@blueprint.get("/runs")
@needs("viewer")
def runs() -> ResponseReturnValue:
    run_filter = RunFilter()
    page = page_of(run_filter)
    counts = count_by_state(run_filter.wanted) if run_filter.wanted else None
    registered = [task.name for task in registered_tasks.registered(tasks.queues)]
    return live_refresh.page(
        "runs/runs.html",
        asked=run_filter,
        counts=counts and {"all": min(sum(counts.values()), COUNTED_TO + 1), **counts},
        tabs=[(name, url) for name, url in run_filter.tabs if worth_a_tab(name, run_filter, counts)],
        runs=page.rows,
        older=page.older,
        searched_to=page.searched_to,
        named=named_by(run_filter),
        views=saved_views.visible(),
        task_names=sorted({*registered, *run_filter.task.split(",")} - {""}),
        queue_names=QUEUES,
        spans=spans(),
        from_field=field_of(run_filter.values["from"]),
        to_field=field_of(run_filter.to),
        first_page=not request.args.get("before"),
        act_on_all=lambda verb: run_filter.elsewhere("pages.bulk_new", verb=verb),
        export_url=lambda ending: run_filter.elsewhere(f"pages.runs_{ending}"),
        keys=KEYS,
        title_of=title_of,
    )


def page_of(run_filter: RunFilter) -> Found:
    if run_filter.wanted is None:
        return Found([], None)
    try:
        return find(run_filter.wanted, ROWS, request.args.get("before", ""))
    except BadPage as error:
        raise BadInput("before", str(error)) from error


def worth_a_tab(name: str, run_filter: RunFilter, counts: dict[str, int] | None) -> bool:
    return name in ("all", *USUAL) or name in run_filter.state.split(",") or bool(counts and counts[name])


def named_by(run_filter: RunFilter) -> Run | None:
    """The run whose whole id is all that the search box holds."""
    lone_id = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", run_filter.q)
    return Run.get_or_none(Run.id == run_filter.q) if lone_id else None


def spans() -> list[tuple[str, str]]:
    names = {"1h": _("in the last hour"), "24h": _("in the last 24 hours"), "7d": _("in the last 7 days")}
    return [(span, names[span]) for span in SPANS]


def field_of(instant: str) -> str:
    """An instant as the browser's own field for it wants it."""
    if not instant:
        return ""
    at = datetime.fromisoformat(instant)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S").removesuffix(":00")


def title_of(state: str) -> str:
    """The words on its tab."""
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
